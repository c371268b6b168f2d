"""The books: what follows from committed events. Devices' own numbers of messages, and echoes of webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NEW = ("blocks", "devices", "pauses", "comparisons", "transits", "messages", "hook_echoes")


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), primary_key=True, autoincrement=False)


def _text_key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), primary_key=True)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def upgrade() -> None:
    """Add the tables; who posts to the books begins with the first event."""
    sums = (_count("events"), _count("checksum"))
    op.create_table("blocks", _key("block"), _text_key("source"), _text_key("mode"), *sums)
    op.create_table(
        "devices",
        _text_key("product"),
        _text_key("device"),
        sa.Column("source", sa.Text(), nullable=False),
        _count("position"),
        _count("first_at"),
        _count("last_at"),
        _count("heard_at"),
        sa.Column("firmware", sa.Text()),
        _count("day"),
        _count("today"),
        sa.Column("before", sa.Float(), nullable=False),
        sqlite_with_rowid=False,
    )
    columns = ["product", "source", "heard_at", "device"]
    op.create_index("ix_devices_product_source_heard_at_device", "devices", columns)
    where = sa.text("state <> 'recovered'")
    op.create_index(
        "ix_losses_not_recovered", "losses", ["product", "device"], sqlite_where=where, postgresql_where=where
    )
    op.create_table("pauses", _text_key("source"), _key("day"), _count("longest"), _count("last_at"))
    op.create_table("comparisons", _key("hour"), _text_key("source"), _text_key("modes"), _count("events"))
    op.create_table(
        "transits",
        _key("hour"),
        _text_key("source"),
        _text_key("mode"),
        sa.Column("bucket", sa.Integer(), primary_key=True, autoincrement=False),
        _count("events"),
    )
    op.create_table(
        "messages",
        _text_key("product"),
        _text_key("device"),
        _text_key("message"),
        _count("position"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_messages_position", "messages", ["position"])
    whose = (_text_key("source"), _text_key("mode"), _text_key("name"), _text_key("outcome"))
    op.create_table("hook_echoes", _key("hour"), *whose, _count("count"))


def downgrade() -> None:
    """Forget them, and how far the books were."""
    op.drop_index("ix_losses_not_recovered", "losses")
    for name in _NEW:
        op.drop_table(name)
    op.execute("DELETE FROM cursors WHERE handler LIKE '(%' AND handler <> '(auditor)'")
