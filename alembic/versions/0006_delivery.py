"""A handler's row tells what became of all it passed, its pause and its circuit; a delivery's row its attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COUNTS = ("first_position", "unmatched", "delivered", "deleted", "skipped")
_REST = (
    ("ahead", sa.Text()),
    ("paused_at", sa.BigInteger()),
    ("paused_because", sa.Text()),
    ("circuit", sa.Text()),
    ("circuit_since", sa.BigInteger()),
    ("last_error", sa.Text()),
)


def upgrade() -> None:
    """Count from here on: what a handler had passed before is not known, but for what it left parked."""
    for name in _COUNTS:
        op.add_column("cursors", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    for name, type_ in _REST:
        op.add_column("cursors", sa.Column(name, type_, nullable=True))
    op.execute(
        "UPDATE cursors SET first_position = position"
        " - (SELECT COUNT(*) FROM deliveries WHERE deliveries.handler = cursors.handler)"
    )
    op.add_column("deliveries", sa.Column("cause", sa.Text(), nullable=True))
    op.add_column("deliveries", sa.Column("history", sa.Text(), nullable=True))
    op.execute("UPDATE deliveries SET cause = 'handler_error' WHERE attempts > 0")
    op.create_table(
        "skipped",
        sa.Column("handler", sa.Text(), primary_key=True),
        sa.Column("first_position", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("last_position", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "crash_marks",
        sa.Column("handler", sa.Text(), primary_key=True),
        sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("begun", sa.Boolean(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
    )


def downgrade() -> None:
    """Forget all that."""
    op.drop_table("crash_marks")
    op.drop_table("skipped")
    op.drop_column("deliveries", "history")
    op.drop_column("deliveries", "cause")
    for name in (*(name for name, _ in reversed(_REST)), *reversed(_COUNTS)):
        op.drop_column("cursors", name)
