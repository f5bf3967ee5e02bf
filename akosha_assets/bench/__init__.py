"""Benchmarks: each module has `run`, which returns the object that `akosha bench NAME --json` prints."""
