"""Alerts, metrics, bootstrap mode, and the connection to Dagster."""
