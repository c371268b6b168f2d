"""Every statement that goes to PostgreSQL, with its plan: the one made for its values, and the one for any values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import asyncpg
import pytest
from sqlalchemy import Connection, event

from storage import asyncpg_calls
from storage.database import Database, Work

P = ParamSpec("P")
T = TypeVar("T")

_DISABLED_COST = 1e9
_MODES = ("force_custom_plan", "force_generic_plan")
_EXPLAIN = "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, FORMAT JSON) EXECUTE explained"
_ONLY_PLAN = "EXPLAIN (FORMAT JSON) EXECUTE explained"  # of what cannot be done twice


@dataclass(frozen=True)
class Statement:
    """A statement as it went to the server. `writes`: within a transaction that writes, whose settings are others."""

    text: str
    parameters: tuple[Any, ...]
    writes: bool


@dataclass(frozen=True)
class Plan:
    """A plan as it was carried out."""

    statement: str
    mode: str
    root: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.mode}: {self.statement}\n{json.dumps(self.root, indent=1)}"

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Yield all nodes that were carried out."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            waiting += node.get("Plans", [])
            if node.get("Actual Loops", 1):
                yield node

    def disabled(self) -> bool:
        """Whether it does what was switched off, for want of something better."""
        return any(node.get("Disabled") or node["Total Cost"] > _DISABLED_COST for node in self.nodes())

    def scanned(self) -> set[str]:
        """The tables that were read from end to end."""
        return {node["Relation Name"] for node in self.nodes() if node["Node Type"] == "Seq Scan"}

    def rows_seen(self, table: str) -> float:
        """The most rows of a table that were looked at for one that was asked for."""
        nodes = [node for node in self.nodes() if node.get("Relation Name") == table]
        return max((node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0) for node in nodes), default=0)

    def partitions(self) -> set[str]:
        """The partitions of events that were looked at."""
        names = {
            node["Relation Name"] for node in self.nodes() if "Scan" in node["Node Type"] and "Relation Name" in node
        }
        return {name for name in names if name.startswith("events_")}


class Listening:
    """A database that notes its statements."""

    def __init__(self, database: Database) -> None:
        self.statements: list[Statement] = []
        self.dialect = database.dialect
        self._database = database

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.write(self._noting(work, writes=True), *args, **kwargs)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.read(self._noting(work, writes=False), *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.alter(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""
        await self._database.close()

    def _noting(self, work: Work[P, T], *, writes: bool) -> Work[P, T]:
        return noting(work, lambda text, parameters: self.statements.append(Statement(text, parameters, writes)))


def noting(work: Work[P, T], note: Callable[[str, tuple[Any, ...]], None]) -> Work[P, T]:
    """Return work that tells of each statement when it is done: SQLAlchemy's, and those that go past it."""

    def noted(connection: Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
        def executed(_connection: Any, _cursor: Any, text: str, parameters: Any, _context: Any, _many: bool) -> None:
            note(text, tuple(parameters))

        def fetched(connection: Connection, text: str, parameters: tuple[Any, ...]) -> Sequence[Any]:
            rows = fetch(connection, text, parameters)
            note(text, parameters)
            return rows

        fetch = asyncpg_calls.fetch
        event.listen(connection, "after_cursor_execute", executed)
        try:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(asyncpg_calls, "fetch", fetched)
                return work(connection, *args, **kwargs)
        finally:
            event.remove(connection, "after_cursor_execute", executed)

    return noted


async def plans_of(url: str, statements: list[Statement], settings: str = "") -> list[Plan]:
    """Carry each statement out once more by either plan, and take back what it did.

    `settings`: statements that set what the code under test sets for its transaction.
    """
    plans = []
    connection = await asyncpg.connect(url)
    for statement in {statement.text: statement for statement in statements}.values():
        if not statement.text.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
            continue
        for mode in _MODES:
            undone = connection.transaction()
            await undone.start()
            await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
            if statement.writes:
                await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL jit = off")
            if settings:
                await connection.execute(settings)
            await connection.execute(f"PREPARE explained AS {statement.text}")
            values = ", ".join(_literal(value) for value in statement.parameters)
            explain = _ONLY_PLAN if "INSERT INTO events" in statement.text else _EXPLAIN
            found = await connection.fetchval(f"{explain} ({values})" if values else explain)
            plans.append(Plan(statement.text, mode, json.loads(found)[0]["Plan"]))
            await connection.execute("DEALLOCATE explained")
            await undone.rollback()
    await connection.close()
    return plans


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (list, tuple)):
        return _quoted("{" + ",".join(_element(one) for one in value) + "}")
    return _quoted(_plain(value))


def _plain(value: Any) -> str:
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    escaped = _plain(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
