"""Dagster definitions over the lake; the logic is in `akosha_assets/lake` under the same address."""
