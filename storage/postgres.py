"""PostgreSQL through asyncpg, on the event loop. Nothing outlives a transaction: a pooler may stand between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Generic

import structlog
from sqlalchemy import Connection, event
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ingest.errors import StoreUnavailable
from storage.asyncpg_calls import PREPARES, execute, is_broken, new_name
from storage.database import CommitUnanswered, P, T, Work, Writer, sqlstate_of, translated
from storage.postgres_url import CONNECT_SECONDS, PostgresTarget

log = structlog.get_logger(__name__)

_READ_ONLY = "25006"
_NO_RIGHT = "42501"
# A pooler gave the connection that knew a prepared statement to somebody else.
_FORGOTTEN = ("26000", "42P05")
_COMMAND_SECONDS = 10  # a frozen server must not hold a sender longer than it waits (Particle: 20 s)
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"  # under a stricter one that a server may have, replicas collide
# A commit is on the disk when it returns, whatever server, database or role have as default; a stricter one stays.
_DURABLE = (
    "set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')"
    " THEN 'on' ELSE current_setting('synchronous_commit') END, true)"
)
# Nobody waits long for a lock, and whoever freezes while it holds one is cut off after two seconds. A plan that looks
# dear would be compiled, by a stock server in each transaction anew. And a plan is kept that was made while a table was
# empty: a sequential scan with every commit, until the table is analysed. So there is none to choose.
_TO_WRITE = (
    f"{_BEGIN}; SELECT {_DURABLE}, set_config('lock_timeout', '2s', true),"
    " set_config('idle_in_transaction_session_timeout', '2s', true), set_config('jit', 'off', true),"
    " set_config('enable_seqscan', 'off', true), set_config('statement_timeout', '10s', true),"
    " CASE WHEN current_setting('server_version_num')::int >= 170000"
    " THEN set_config('transaction_timeout', '0', true) END"
)
# What server, database or role limit by default; not every version knows them all.
_NO_LIMITS = (
    f"{_BEGIN}; SELECT {_DURABLE}, set_config(name, '0', true) FROM pg_settings WHERE name IN ('statement_timeout',"  # noqa: S608
    " 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)


class PostgresDatabase:
    """storage.database.Database. `writer`: who writes in its place, and is closed with it."""

    dialect = "postgresql"

    def __init__(self, target: PostgresTarget, writer: Writer | None = None) -> None:
        import asyncpg  # SQLite does without

        self._errors = (
            *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
            *(SQLAlchemyError, OSError, TimeoutError, OverflowError, UnicodeEncodeError),
        )
        self._apart = writer
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
        if self._apart is not None:
            return await self._apart.run(work, *args, **kwargs)
        return await self._run(lambda: self._writer, _TO_WRITE, work, *args, **kwargs)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._run(lambda: self._reader, _BEGIN, work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        patient = _postgres_engine(self._target, None, prepares=False)
        try:
            return await self._run(lambda: patient, _NO_LIMITS, work, *args, **kwargs)
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
        if self._apart is not None:
            await self._apart.close()
        for engine in (self._writer, self._reader):
            await engine.dispose()

    async def _run(
        self, engine: Callable[[], AsyncEngine], begin: str, work: Work[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        used = engine()
        self._users[used] += 1
        attempt = _Attempt(begin, lambda connection: work(connection, *args, **kwargs))
        try:
            try:
                return await attempt.on(used)
            except Exception as error:
                if sqlstate_of(error) in _FORGOTTEN:
                    await self._prepare_no_more()
                elif attempt.returned or not attempt.broken or isinstance(error, TimeoutError):
                    raise  # else nothing was committed: no COMMIT was sent yet
            return await attempt.on(engine())
        except self._errors as error:
            if sqlstate_of(error) == _READ_ONLY and used is engine():
                await self._connect_anew()
            fault = translated(error)
            if attempt.returned and isinstance(fault, StoreUnavailable):  # it was the COMMIT that failed
                raise CommitUnanswered(str(fault), attempt.returned[0]) from error
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


class _Attempt(Generic[T]):
    """Work in a transaction that `begin` opens. `returned`: what it returned, once its COMMIT is sent."""

    def __init__(self, begin: str, work: Callable[[Connection], T]) -> None:
        self._begin = begin
        self._work = work
        self.returned: list[T] = []
        self.broken = False

    async def on(self, engine: AsyncEngine) -> T:
        """Run it on a connection of the engine; one that is `broken` then is not kept. Raises as driver and work do."""
        async with engine.connect() as connection:
            return await connection.run_sync(self._run)

    def _run(self, connection: Connection) -> T:
        try:
            execute(connection, self._begin)
            result = self._work(connection)
            self.returned.append(result)
            if execute(connection, "COMMIT;") != "COMMIT":
                raise StoreUnavailable("the transaction had failed, and was rolled back")
        except BaseException as error:
            self.broken = not _roll_back(connection, error)
            if self.broken:
                connection.invalidate()
            raise
        return result


def _roll_back(connection: Connection, error: BaseException) -> bool:
    """Return whether the transaction that raised is undone, and its connection good for others."""
    if isinstance(error, TimeoutError) or not isinstance(error, Exception) or is_broken(connection):
        return False
    try:
        execute(connection, "ROLLBACK;")
    except Exception:  # also what the driver raises where the server has ended the session meanwhile
        return False
    return True


_PREPARE_NOTHING = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}


def _postgres_engine(
    target: PostgresTarget, command_seconds: float | None, *, prepares: bool, pool_pre_ping: bool = False
) -> AsyncEngine:
    """Make an engine whose transactions are begun and ended above, not by the driver."""
    statements = {"prepared_statement_name_func": new_name} if prepares else _PREPARE_NOTHING
    engine = create_async_engine(
        "postgresql+asyncpg://",
        isolation_level="AUTOCOMMIT",
        execution_options={PREPARES: prepares},
        pool_pre_ping=pool_pre_ping,
        pool_size=5,
        max_overflow=5,
        pool_timeout=CONNECT_SECONDS,
        connect_args={"async_creator_fn": target.connect, "command_timeout": command_seconds, **statements},
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def require_open(connection: Any, _record: Any, _proxy: Any) -> None:
        if connection.driver_connection.is_closed():  # another one is taken
            raise DisconnectionError

    return engine
