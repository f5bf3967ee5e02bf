"""When a redrive, a replay or a rebuild last made an upload wait again: its age counts from then."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("uploads", sa.Column("requeued_at", sa.DateTime(), nullable=True))
    is_requeued = sa.text("requeued_at IS NOT NULL")
    op.create_index(
        "uploads_by_requeued_at", "uploads", ["requeued_at"], sqlite_where=is_requeued, postgresql_where=is_requeued
    )


def downgrade() -> None:
    op.drop_index("uploads_by_requeued_at", "uploads")
    op.drop_column("uploads", "requeued_at")
