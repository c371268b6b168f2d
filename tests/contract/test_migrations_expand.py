"""Migrations only add: what a server of the version before sends to PostgreSQL is understood as before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from storage import bulk
from storage import migrate as module
from storage.engine import Database, open_database
from tests.support.fresh import POSTGRES, bare_store

LAST_THAT_CHANGED = "0009"  # beside servers of before it runs with 503 for their senders
_COLUMNS = """
SELECT relname, relkind, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition AND attnum > 0
AND NOT attisdropped
"""
_RULES = """
SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conrelid NOT IN (SELECT inhrelid FROM pg_inherits)
UNION ALL SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT indrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON oid = indexrelid
WHERE indisunique AND relnamespace = 'public'::regnamespace AND indrelid NOT IN (SELECT inhrelid FROM pg_inherits)
"""


class Schema(NamedTuple):
    """The columns by table and name, and what must hold of a row, by table."""

    columns: dict[tuple[str, str], tuple[object, ...]]
    rules: set[tuple[str, str]]

    @property
    def tables(self) -> set[str]:
        """Return the names of tables and views."""
        return {table for table, _ in self.columns}


def schema(connection: Connection) -> Schema:
    """Return the schema as it is."""
    columns = {(table, name): (*more, kind) for table, kind, name, *more in bulk.run(connection, _COLUMNS)}
    return Schema(columns, {(table, rule) for table, rule in bulk.run(connection, _RULES)})


def restrictions(before: Schema, after: Schema) -> list[object]:
    """Return what keeps a statement from going on as before: what is gone, changed, or asked of old tables' rows."""
    changed = [key for key, column in before.columns.items() if after.columns.get(key) != column]
    added = {
        key: column for key, column in after.columns.items() if key not in before.columns and key[0] in before.tables
    }
    demanded = [key for key, (_, required, default, _) in added.items() if required and default is None]
    rules = [rule for rule in after.rules - before.rules if rule[0] in before.tables]
    return [*changed, *demanded, *rules]


def revisions() -> list[str]:
    """Return all revisions, in order."""
    return [script.revision for script in ScriptDirectory.from_config(module._config()).walk_revisions()][::-1]


def upgrade_to(connection: Connection, wanted: str) -> Schema:
    """Migrate up to a revision; return the schema then."""
    config = module._config()
    config.attributes["connection"] = connection
    command.upgrade(config, wanted)
    return schema(connection)


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Database]:
    """A PostgreSQL database without any schema."""
    database = open_database(bare_store(POSTGRES, tmp_path))
    yield database
    await database.close()


async def test_each_migration_leaves_old_servers_their_tables(empty: Database) -> None:
    """No column goes or changes, none that is new must be given, and no old table asks more of its rows."""
    schemas = {revision: await empty.alter(upgrade_to, revision) for revision in revisions()}
    expected = [pair for pair in pairwise(schemas) if pair[1] > LAST_THAT_CHANGED]
    assert expected
    for before, after in expected:
        assert restrictions(schemas[before], schemas[after]) == [], after
    assert restrictions(schemas["0008"], schemas[LAST_THAT_CHANGED]) != []


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE cursors ADD COLUMN more INTEGER NOT NULL",
        "ALTER TABLE cursors DROP COLUMN circuit",
        "ALTER TABLE cursors RENAME TO places",
        "ALTER TABLE cursors ALTER position TYPE INTEGER",
        "ALTER TABLE cursors ADD CHECK (position >= 0)",
        "CREATE UNIQUE INDEX more ON tallies (minute)",
    ],
)
async def test_what_is_no_expansion_is_seen(empty: Database, change: str) -> None:
    """Each way to break a running server is one."""

    def break_it(connection: Connection) -> list[object]:
        before = upgrade_to(connection, "head")
        bulk.run(connection, change)
        return restrictions(before, schema(connection))

    assert await empty.alter(break_it) != []
