"""Gaps: what no stretch of coverage covers; which stream brought an event; which stretch is over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add to what is there; nothing is rewritten."""
    op.add_column("events", sa.Column("stream", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("coverage", sa.Column("ended", sa.Boolean(), nullable=False, server_default=sa.false()))
    listening, listening_sqlite = sa.text("NOT ended"), sa.text("ended = 0")
    op.create_index(
        "ix_coverage_open",
        "coverage",
        ["source", "mode"],
        sqlite_where=listening_sqlite,
        postgresql_where=listening,
    )
    op.create_table(
        "gaps",
        sa.Column("id", POSITION, autoincrement=True, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("suspected", sa.Float(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gaps")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_gaps_source_mode_since", "gaps", ["source", "mode", "since"], unique=False)
    lasting = sa.text("until IS NULL")
    op.create_index("ix_gaps_open", "gaps", ["source", "mode"], sqlite_where=lasting, postgresql_where=lasting)


def downgrade() -> None:
    """Forget gaps and streams."""
    op.drop_table("gaps")
    op.drop_index("ix_coverage_open", "coverage")
    op.drop_column("coverage", "ended")
    op.drop_column("events", "stream")
