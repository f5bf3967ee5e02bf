"""Replicas: what an API process builds from Delta alone and keeps up to date, and how it answers from it."""
