"""The `akosha` command: the lake from a terminal, with or without Dagster."""
