"""What each product sends, beside what each device does."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# What a day weighs that is so many days back. Not every SQLite has pow().
_WEIGHTS = " ".join(f"WHEN {number} THEN {(7 / 8) ** number!r}" for number in range(56))
_FADES = f"(CASE newest.day - devices.day {_WEIGHTS} ELSE 0.0 END)"
_FILL = f"""
INSERT INTO products (product, devices, first_at, last_at, day, today, before)
SELECT devices.product, count(*), min(devices.first_at), max(devices.last_at), newest.day,
  sum(CASE WHEN devices.day = newest.day THEN devices.today ELSE 0 END),
  sum({_FADES} * (devices.before + CASE WHEN devices.day = newest.day THEN 0 ELSE devices.today * 8.0 / 7 END))
FROM devices JOIN (SELECT product, max(day) AS day FROM devices GROUP BY product) AS newest
  ON newest.product = devices.product
GROUP BY devices.product, newest.day
"""  # noqa: S608 - numbers of ours


def upgrade() -> None:
    """Add the table; its days are those of its devices, added up."""
    counted = ("devices", "first_at", "last_at", "day", "today")
    counts = [sa.Column(name, sa.BigInteger(), nullable=False) for name in counted]
    before = sa.Column("before", sa.Float(), nullable=False)
    op.create_table("products", sa.Column("product", sa.Text(), primary_key=True), *counts, before)
    op.execute(_FILL)


def downgrade() -> None:
    """Leave it out."""
    op.drop_table("products")
