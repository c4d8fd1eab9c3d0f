"""Stored runs as tables, and the appearance of figures: what scripts of `analysis` share."""
