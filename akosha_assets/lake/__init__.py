"""The lake: what lies in the inbox becomes rows in Delta tables, and rows become answers.

Every stage has a two-word address, `ingestion/arrivals` say, used unchanged as module path, asset key, table folder,
test path and heading in the docs. Decisions are pure functions; only `tables.py`, `objects.py` and the ledger act.
"""
