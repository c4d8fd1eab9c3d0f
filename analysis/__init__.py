"""Figures, tables and exports from stored runs; one script each, over `query` and `style`."""
