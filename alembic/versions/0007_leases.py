"""Replicas are known to one another, and share what one of them does: leases, opens of streams, who keeps coverage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_OPENS_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Begin with nobody: an interval without a holder is of a version that knew no replicas."""
    op.create_table(
        "replicas",
        sa.Column("holder", sa.Text(), primary_key=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("wants", sa.Text(), nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "stream_opens",
        sa.Column("id", _OPENS_ID, primary_key=True, autoincrement=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_index("ix_stream_opens_host_opened_at", "stream_opens", ["host", "opened_at"])
    op.add_column("coverage", sa.Column("holder", sa.Text(), nullable=True))


def downgrade() -> None:
    """Forget all that."""
    op.drop_column("coverage", "holder")
    for table in ("stream_opens", "leases", "replicas"):
        op.drop_table(table)
