"""A reject keeps the attributes that stood beside its bytes; null: there were none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to what is there; nothing is rewritten."""
    op.add_column("rejects", sa.Column("attributes", sa.Text(), nullable=True))


def downgrade() -> None:
    """Forget them."""
    op.drop_column("rejects", "attributes")
