"""Tiers: where a memory lies by the age of its event, and how it moves."""
