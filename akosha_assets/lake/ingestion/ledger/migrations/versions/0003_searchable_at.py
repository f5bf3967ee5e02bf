"""When the rows of each upload became searchable, which a restarted service cannot know."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("uploads", sa.Column("searchable_at", sa.DateTime(), nullable=True))
    missing = sa.text("hot_version IS NOT NULL AND searchable_at IS NULL")
    op.create_index(
        "uploads_not_searchable", "uploads", ["hot_version"], sqlite_where=missing, postgresql_where=missing
    )
    # Earlier versions did not record it; a service was at most a few seconds behind.
    op.execute("UPDATE uploads SET searchable_at = ingested_at WHERE hot_version IS NOT NULL")


def downgrade() -> None:
    op.drop_index("uploads_not_searchable", "uploads")
    op.drop_column("uploads", "searchable_at")
