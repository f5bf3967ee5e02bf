"""The objects of an upload when it was added: one that is written again, or comes late, is noticed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("uploads", sa.Column("objects", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("uploads", "objects")
