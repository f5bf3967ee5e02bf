"""The first ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.DateTime(), nullable=False),
        sa.Column("claimed_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.Column("uploads", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("batches_by_state", "batches", ["state"], unique=False)
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "systems",
        sa.Column("system_id", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(), nullable=False),
        sa.Column("last_upload_at", sa.DateTime(), nullable=True),
        sa.Column("last_snapshot_at", sa.DateTime(), nullable=True),
        sa.Column("batch_id", sa.BigInteger(), nullable=True),
        sa.Column("is_known", sa.Boolean(), nullable=False),
        sa.Column("known_rows", sa.BigInteger(), nullable=False),
        sa.Column("digests", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("system_id"),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("system_id", sa.Text(), nullable=False),
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("layout", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("found_by", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("snapshot_at", sa.DateTime(), nullable=False),
        sa.Column("seen_at", sa.DateTime(), nullable=False),
        sa.Column("arrival_day", sa.Date(), nullable=False),
        sa.Column("not_before", sa.DateTime(), nullable=True),
        sa.Column("batch_id", sa.BigInteger(), nullable=True),
        sa.Column("batch_limit", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claimed_at", sa.DateTime(), nullable=True),
        sa.Column("ingested_at", sa.DateTime(), nullable=True),
        sa.Column("removed_at", sa.DateTime(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("hot_version", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("sample", sa.Text(), nullable=True),
        sa.Column("rows_read", sa.BigInteger(), nullable=True),
        sa.Column("new_rows", sa.BigInteger(), nullable=True),
        sa.Column("changed_rows", sa.BigInteger(), nullable=True),
        sa.Column("unchanged_rows", sa.BigInteger(), nullable=True),
        sa.Column("absent_rows", sa.BigInteger(), nullable=True),
        sa.Column("counts", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("prefix", "revision"),
        sqlite_autoincrement=True,
    )
    op.create_index("uploads_by_arrival_day", "uploads", ["arrival_day", "state"], unique=False)
    op.create_index("uploads_by_ingested_at", "uploads", ["ingested_at"], unique=False)
    op.create_index("uploads_by_seen_at", "uploads", ["seen_at"], unique=False)
    op.create_index("uploads_by_state", "uploads", ["state", "id"], unique=False)
    op.create_index("uploads_by_system", "uploads", ["system_id", "id"], unique=False)
    op.create_index("uploads_by_upload_id", "uploads", ["upload_id"], unique=False)
    op.create_table(
        "known",
        sa.Column("system_id", sa.Text(), nullable=False),
        sa.Column("rows", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["system_id"], ["systems.system_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("system_id"),
    )


def downgrade() -> None:
    for table in ("known", "uploads", "batches", "systems", "meta", "counters"):
        op.drop_table(table)
