"""Versions of the ledger's schema, applied in order when a ledger is opened."""
