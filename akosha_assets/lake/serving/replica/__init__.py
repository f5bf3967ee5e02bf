"""The replica: serves the tier tables and follows their logs."""
