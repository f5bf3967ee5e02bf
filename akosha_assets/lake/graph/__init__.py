"""Entities, relations, causal links, code graphs and provenance as the fleet uploads them."""
