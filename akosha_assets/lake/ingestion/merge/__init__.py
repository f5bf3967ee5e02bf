"""Merging: reconciles the rows of uploads with the rows that are already stored."""
