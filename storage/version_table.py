"""The table that says at which schema a database is: our own, beside those of other Alembic applications.

Before, it was Alembic's usual `alembic_version`, which such an application in the same database has too.
"""

from __future__ import annotations

from collections.abc import Collection

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect

VERSION_TABLE = "headrace_version"
_FORMER = "alembic_version"
# Tables that each of our schemas has, with columns by which they are told from others of that name.
_OURS = {
    "head": {"id", "position"},
    "writers": {"writer", "batch", "committed_at"},
    "tallies": {"source", "mode", "minute", "outcome", "count"},
}


def current_revision(connection: Connection, known: Collection[str]) -> str | None:
    """Return the revision that a database is at, also by the former table; None where it is at none of ours.

    `known` are our revisions.
    """
    if inspect(connection).has_table(VERSION_TABLE):
        return _context(connection, VERSION_TABLE).get_current_revision()
    return _former_revision(connection, known)


def take_over(connection: Connection, known: Collection[str]) -> None:
    """Give the former table its new name, where it is ours. Another application's is left alone."""
    if not inspect(connection).has_table(VERSION_TABLE) and _former_revision(connection, known) is not None:
        connection.exec_driver_sql(f"ALTER TABLE {_FORMER} RENAME TO {VERSION_TABLE}")


def _former_revision(connection: Connection, known: Collection[str]) -> str | None:
    """Return the revision in the former table; None where it is another application's, or there is none."""
    inspector = inspect(connection)
    if not inspector.has_table(_FORMER):
        return None
    for table, columns in _OURS.items():
        if not inspector.has_table(table) or not columns <= {each["name"] for each in inspector.get_columns(table)}:
            return None
    heads = _context(connection, _FORMER).get_current_heads()
    return heads[0] if len(heads) == 1 and heads[0] in known else None


def _context(connection: Connection, table: str) -> MigrationContext:
    return MigrationContext.configure(connection, opts={"version_table": table})
