"""Programs for developing this project."""
