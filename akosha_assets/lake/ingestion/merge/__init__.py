"""Merging: rows of an upload against the rows that are already stored."""
