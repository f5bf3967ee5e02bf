"""Upkeep of the tables as scheduled assets."""
