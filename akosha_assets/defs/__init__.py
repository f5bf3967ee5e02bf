"""Dagster definitions over the lake: partitions, policies and metadata. Logic is in `akosha_assets/lake` under the same address."""
