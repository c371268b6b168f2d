"""PostgreSQL through asyncpg, on the event loop. Nothing outlives a transaction: a pooler may stand between."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ingest.errors import StoreUnavailable
from storage import bulk
from storage.database import CommitUnanswered, P, T, Work, sqlstate_of, translated
from storage.postgres_url import CONNECT_SECONDS, PostgresTarget

log = structlog.get_logger(__name__)

_READ_ONLY = "25006"
_NO_RIGHT = "42501"
# A pooler gave the connection that knew a prepared statement to somebody else.
_FORGOTTEN = ("26000", "42P05")
_COMMAND_SECONDS = 10  # a frozen server must not hold a sender longer than it waits (Particle: 20 s)
# A commit is on the disk when it returns, whatever server, database or role have as default; a stricter one stays.
_DURABLE = (
    "set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')"
    " THEN 'on' ELSE current_setting('synchronous_commit') END, true)"
)
# Nobody waits long for a lock, and whoever freezes while it holds one is cut off after two seconds. A plan that looks
# dear would be compiled, by a stock server in each transaction anew. And a plan is kept that was made while a table was
# empty: a sequential scan with every commit, until the table is analysed. So there is none to choose.
_TO_WRITE = (
    f"SELECT {_DURABLE}, set_config('lock_timeout', '2s', true),"
    " set_config('idle_in_transaction_session_timeout', '2s', true), set_config('jit', 'off', true),"
    " set_config('enable_seqscan', 'off', true), set_config('statement_timeout', '10s', true),"
    " CASE WHEN current_setting('server_version_num')::int >= 170000"
    " THEN set_config('transaction_timeout', '0', true) END"
)
# What server, database or role limit by default; not every version knows them all.
_NO_LIMITS = (
    f"SELECT {_DURABLE}, set_config(name, '0', true) FROM pg_settings WHERE name IN ('statement_timeout',"  # noqa: S608
    " 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)


class PostgresDatabase:
    """storage.database.Database."""

    dialect = "postgresql"

    def __init__(self, target: PostgresTarget) -> None:
        self._target = target
        self._prepares = True
        self._users: Counter[AsyncEngine] = Counter()  # who works with a connection of theirs
        self._make_engines()

    def _make_engines(self) -> None:
        self._writer = _postgres_engine(self._target, _COMMAND_SECONDS, prepares=self._prepares)
        # Slow readers must not keep the ingestion from a connection. A reader is told 503 where its connection broke
        # in an outage, so each is tried first; the ingestion's sender is told to send again anyway.
        self._reader = _postgres_engine(self._target, _COMMAND_SECONDS, prepares=self._prepares, pool_pre_ping=True)

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._run(lambda: self._writer, _with, _TO_WRITE, work, *args, **kwargs)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._run(lambda: self._reader, work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        patient = _postgres_engine(self._target, None, prepares=False)
        try:
            return await self._run(lambda: patient, _with, _NO_LIMITS, work, *args, **kwargs)
        except StoreUnavailable as error:
            if error.__cause__ is not None and sqlstate_of(error.__cause__) == _NO_RIGHT:
                raise StoreUnavailable(
                    f"{error}: to change the schema its user needs GRANT CREATE ON SCHEMA, and to own its tables"
                ) from error
            raise
        finally:
            await patient.dispose()

    async def close(self) -> None:
        """See Database."""
        for engine in (self._writer, self._reader):
            await engine.dispose()

    async def _run(
        self, engine: Callable[[], AsyncEngine], work: Work[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        used = engine()
        self._users[used] += 1
        returned: list[T] = []
        try:
            try:
                async with used.begin() as connection:
                    returned.append(await connection.run_sync(work, *args, **kwargs))
            except DBAPIError as error:  # nothing was committed: no COMMIT was sent yet
                if sqlstate_of(error) in _FORGOTTEN:
                    await self._prepare_no_more()
                elif returned or not error.connection_invalidated:
                    raise
                async with engine().begin() as connection:
                    returned.append(await connection.run_sync(work, *args, **kwargs))
            return returned[0]
        except (SQLAlchemyError, OSError, TimeoutError, OverflowError, UnicodeEncodeError) as error:
            if sqlstate_of(error) == _READ_ONLY and used is engine():
                await self._connect_anew()
            fault = translated(error)
            if returned and isinstance(fault, StoreUnavailable):  # it was the COMMIT that failed
                raise CommitUnanswered(str(fault), returned[0]) from error
            raise fault from error
        finally:
            self._users[used] -= 1
            if used is not engine():
                await self._leave(used)

    async def _prepare_no_more(self) -> None:
        """Go on with statements that are forgotten after use: slower, and no pooler can mix them up."""
        if self._prepares:
            self._prepares = False
            log.warning(
                "pooler_forgets_prepared_statements",
                consequence="every statement is prepared anew",
                hint="pgbouncer can from 1.21 on, with max_prepared_statements above 0",
            )
            await self._connect_anew()

    async def _connect_anew(self) -> None:
        """Leave all connections: a server that cannot write was taken over from, or its defaults are of before."""
        before = self._writer, self._reader
        self._make_engines()
        for engine in before:
            await self._leave(engine)

    async def _leave(self, engine: AsyncEngine) -> None:
        """Close its connections, unless somebody works with one: whoever is the last to do so leaves it then."""
        if not self._users[engine]:
            del self._users[engine]
            await engine.dispose()


def _with(connection: Connection, settings: str, work: Work[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` with settings of its transaction."""
    bulk.run(connection, settings)
    return work(connection, *args, **kwargs)


def _new_name() -> str:
    """Return a name for a prepared statement that no other process gives.

    A pooler may let them meet on one connection.
    """
    return f"headrace_{secrets.token_hex(8)}"


_PREPARE_NOTHING = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}


def _postgres_engine(
    target: PostgresTarget, command_seconds: float | None, *, prepares: bool, pool_pre_ping: bool = False
) -> AsyncEngine:
    """Make an engine. The level of isolation is ours: under a stricter one that a server may have, replicas collide."""
    statements = {"prepared_statement_name_func": _new_name} if prepares else _PREPARE_NOTHING
    return create_async_engine(
        "postgresql+asyncpg://",
        isolation_level="READ COMMITTED",
        pool_pre_ping=pool_pre_ping,
        pool_size=5,
        max_overflow=5,
        pool_timeout=CONNECT_SECONDS,
        connect_args={"async_creator_fn": target.connect, "command_timeout": command_seconds, **statements},
    )
