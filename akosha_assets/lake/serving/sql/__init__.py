"""SQL: read-only queries in a confined process."""
