"""Runs the ledger's migrations on the connection that `Ledger.open` passes in."""

from alembic import context

from akosha_assets.lake.ingestion.ledger.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
