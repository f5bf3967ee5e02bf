"""Dagster over the lake: parameters, policies and metadata. Logic is in `akosha_assets/lake` under the same address."""
