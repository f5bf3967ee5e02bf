"""Replicas: what an API process builds from the Delta tables, keeps up to date and answers from."""
