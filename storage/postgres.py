"""PostgreSQL through asyncpg, on the event loop. Nothing outlives a transaction: a pooler may stand between."""

from __future__ import annotations

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from storage import bulk
from storage.database import P, T, Work, translated

_CONNECT_SECONDS = 5
_READ_ONLY = "25006"
_COMMAND_SECONDS = 10  # a frozen server must not hold a sender longer than it waits (Particle: 20 s)
# A commit is on the disk when it returns, whatever server, database or role have as default; a stricter one stays.
_DURABLE = (
    "set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')"
    " THEN 'on' ELSE current_setting('synchronous_commit') END, true)"
)
# Nobody waits long for a lock, and whoever freezes while it holds one is cut off after two seconds. A plan that looks
# dear would be compiled, by a stock server in each transaction anew.
_TO_WRITE = (
    f"SELECT {_DURABLE}, set_config('lock_timeout', '2s', true),"
    " set_config('idle_in_transaction_session_timeout', '2s', true), set_config('jit', 'off', true)"
)
# What server, database or role limit by default; not every version knows them all.
_NO_LIMITS = (
    f"SELECT {_DURABLE}, set_config(name, '0', true) FROM pg_settings WHERE name IN ('statement_timeout',"  # noqa: S608
    " 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)


class PostgresDatabase:
    """storage.database.Database."""

    dialect = "postgresql"

    def __init__(self, url: URL) -> None:
        self._url = url
        self._writer = _postgres_engine(url, _COMMAND_SECONDS)
        # Slow readers must not keep the ingestion from a connection. A reader is told 503 where its connection broke
        # in an outage, so each is tried first; the ingestion's sender is told to send again anyway.
        self._reader = _postgres_engine(url, _COMMAND_SECONDS, pool_pre_ping=True)

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._run(self._writer, _with, _TO_WRITE, work, *args, **kwargs)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._run(self._reader, work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        patient = _postgres_engine(self._url, command_seconds=None)
        try:
            return await self._run(patient, _with, _NO_LIMITS, work, *args, **kwargs)
        finally:
            await patient.dispose()

    async def close(self) -> None:
        """See Database."""
        await self._let_go()

    async def _run(self, engine: AsyncEngine, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(work, *args, **kwargs)
        except (SQLAlchemyError, OSError, TimeoutError, OverflowError, UnicodeEncodeError) as error:
            if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _READ_ONLY:
                await self._let_go()
            raise translated(error) from error

    async def _let_go(self) -> None:
        """Connect anew: whoever cannot write is a server that another one took over from, or has defaults of before."""
        for engine in (self._writer, self._reader):
            await engine.dispose()


def _with(connection: Connection, settings: str, work: Work[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` with settings of its transaction."""
    bulk.run(connection, settings)
    return work(connection, *args, **kwargs)


def _postgres_engine(url: URL, command_seconds: float | None, *, pool_pre_ping: bool = False) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_pre_ping=pool_pre_ping,
        pool_size=5,
        max_overflow=5,
        pool_timeout=_CONNECT_SECONDS,
        connect_args={"timeout": _CONNECT_SECONDS, "command_timeout": command_seconds},
    )
