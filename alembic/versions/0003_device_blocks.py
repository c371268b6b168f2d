"""A device's events are found block by block, so that a commit touches the index in one place and not once a device."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Exchange the index."""
    op.drop_index("ix_events_device_position", "events")
    op.create_index("ix_events_block_device", "events", [sa.text("(position >> 12)"), "device"])


def downgrade() -> None:
    """Exchange it back."""
    op.drop_index("ix_events_block_device", "events")
    op.create_index("ix_events_device_position", "events", ["device", "position"])
