"""A reject keeps its request's headers, less credentials, and its element's number; null: none, and alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to what is there; nothing is rewritten."""
    op.add_column("rejects", sa.Column("headers", sa.Text(), nullable=True))
    op.add_column("rejects", sa.Column("element", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Forget them."""
    op.drop_column("rejects", "element")
    op.drop_column("rejects", "headers")
