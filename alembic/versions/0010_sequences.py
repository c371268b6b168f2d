"""The counters of devices, and the numbers that did not come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what the Auditor writes."""
    op.create_table(
        "sequences",
        sa.Column("product", sa.Text(), primary_key=True),
        sa.Column("device", sa.Text(), primary_key=True),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "losses",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("noticed_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
    )
    is_missing = sa.text("state = 'missing'")
    op.create_index("ix_losses_missing", "losses", ["due_at"], sqlite_where=is_missing, postgresql_where=is_missing)
    op.create_index("ix_losses_product_device", "losses", ["product", "device"])


def downgrade() -> None:
    """Forget them, and how far the Auditor was."""
    op.drop_table("losses")
    op.drop_table("sequences")
    op.execute("DELETE FROM cursors WHERE handler = '(auditor)'")
