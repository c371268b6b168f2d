"""This version with one more migration: what a version that comes later brings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from storage import migrate
from storage.migrate import newest_revision

LATER = "9999"
_MIGRATION = f'''
"""A table more, and a column more of what each commit writes."""
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "{LATER}", "{{newest}}", None, None
def upgrade() -> None:
    op.create_table("later", sa.Column("id", sa.Integer(), primary_key=True))
    op.add_column("events", sa.Column("later", sa.Text()))
    op.add_column("tallies", sa.Column("later", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_rejects_later", "rejects", ["received_at"])
'''


def have_later_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process know the migration; the files lie in the folder."""
    folder /= "migrations"
    shutil.copytree(migrate.migrations_folder(), folder)
    (folder / "versions" / f"{LATER}_later.py").write_text(_MIGRATION.format(newest=newest_revision()))
    monkeypatch.setattr(migrate, "migrations_folder", lambda: folder)
