"""What operators are told: metrics, alerts, spans, and what Dagster says of itself."""
