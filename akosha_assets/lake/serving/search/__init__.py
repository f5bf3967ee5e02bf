"""Search: ranking, filters, collapsing and results."""
