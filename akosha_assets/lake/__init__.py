"""The lake: uploads of the inbox become rows in Delta tables, and rows become answers.

Every stage has a two-word address such as `ingestion/arrivals`, used unchanged as module path, asset key, table folder,
test path and heading in the docs. Decisions are pure functions; I/O is in `tables.py`, `commits.py`, `days.py`,
`objects.py` and the ledger.
"""
