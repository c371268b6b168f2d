"""A tally may stand for many minutes, so that a year of them is read in milliseconds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every row so far is a minute."""
    op.add_column("tallies", sa.Column("minutes", sa.Integer(), nullable=False, server_default="1"))


def downgrade() -> None:
    """Take the width away: what was folded counts in its first minute."""
    op.drop_column("tallies", "minutes")
