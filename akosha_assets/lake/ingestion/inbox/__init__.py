"""The inbox: what it holds, notifications about it, and fetching from it."""
