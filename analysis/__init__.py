"""Figures, tables and exports from stored runs: one script each, over `grok.analysis`."""

from grok.analysis import groups, query, style

__all__ = ["groups", "query", "style"]
