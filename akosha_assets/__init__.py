"""Akosha: uploads of a fleet's session memories become one searchable lake.

lake/    plain Python over Delta tables, object stores and the ledger; knows no framework
defs/    the same stages as Dagster assets, sensors, jobs and checks
fleet/   a simulated fleet that uploads in Session-Buddy's format
cli/     the `akosha` command
"""
