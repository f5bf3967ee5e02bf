"""From the inbox to committed rows: discovery, ledger, extraction, reconciliation, commit."""
