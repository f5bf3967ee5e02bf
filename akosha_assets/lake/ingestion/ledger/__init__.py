"""The ledger: one row per upload, claims under a lease, replay."""
