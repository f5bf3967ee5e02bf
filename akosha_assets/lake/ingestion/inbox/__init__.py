"""The inbox: listing it, notifications about it, and fetching from it."""
