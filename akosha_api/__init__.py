"""The HTTP service: reads what was materialised and answers. It imports the lake and never Dagster."""
