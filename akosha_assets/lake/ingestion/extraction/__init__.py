"""Extraction: sandboxed worker processes read uploaded databases."""
