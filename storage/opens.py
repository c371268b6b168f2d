"""The budget of streams that are opened, shared by the processes on one PostgreSQL: a host sees one address of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import structlog
from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, select, update

from ingest.errors import StoreUnavailable
from ingest.reconnect import FULL_SECONDS, MOST_OPEN, MOST_OPENS, OPENS_SECONDS, OpenBudget
from ingest.times import elapsed
from storage.clock import database_now
from storage.engine import Database
from storage.replicas import is_unexpired
from storage.tables import replicas, stream_opens
from storage.transactions import transaction

_WINDOW_MICROS = round(OPENS_SECONDS * 1_000_000)
_ASK_SECONDS = 3.0
# Where the store cannot be asked, each process goes by its own opens, and three of them stay within the bound.
_ALONE = MOST_OPENS // 3

log = structlog.get_logger(__name__)


class Claim(NamedTuple):
    """The number of an open, or in how many seconds to ask again."""

    number: int | None
    wait: float = 0.0


class SharedOpens:
    """protocols.Opens. `holder` names this process among those that `storage.replicas` knows."""

    def __init__(self, database: Database, holder: str, clock: Callable[[], float] = elapsed) -> None:
        self._database = database
        self._holder = holder
        self._clock = clock
        self._alone = OpenBudget(most=_ALONE)
        self._lasting: dict[str, list[int | None]] = {}  # None: granted while the store could not be asked
        self._turn = asyncio.Lock()
        self._telling: set[asyncio.Task[None]] = set()

    async def claim(self, host: str) -> float:
        """See protocols.Opens."""
        lasting = self._lasting.setdefault(host, [])
        try:
            async with asyncio.timeout(_ASK_SECONDS), self._turn:
                claim = await self._database.write(claim_open, self._holder, host, _numbers(lasting))
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("opens_not_shared", host=host, error=str(error) or "no answer in time")
            claim = Claim(None, self._alone.claim(host, self._clock()))
        else:
            if claim.wait == 0:
                self._alone.claim(host, self._clock())
        if claim.wait == 0:
            lasting.append(claim.number)
        return claim.wait

    def closed(self, host: str) -> None:
        """See protocols.Opens."""
        self._lasting[host].pop(0)
        self._alone.closed(host)
        telling = asyncio.get_running_loop().create_task(self._tell(host))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def _tell(self, host: str) -> None:
        """Write what lasts; where that fails, the next claim does."""
        try:
            async with asyncio.timeout(_ASK_SECONDS), self._turn:
                await self._database.write(settle_opens, self._holder, host, _numbers(self._lasting[host]))
        except (StoreUnavailable, TimeoutError) as error:
            log.info("open_not_settled", host=host, error=str(error) or "no answer in time")


def _numbers(lasting: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(number for number in lasting if number is not None)


@transaction
def claim_open(connection: Connection, holder: str, host: str, lasting: tuple[int, ...]) -> Claim:
    """Count an open, unless there were too many lately, or are; `lasting` are those of this process and host."""
    lock = int.from_bytes(blake2b(f"opens\0{host}".encode(), digest_size=8).digest(), signed=True)
    connection.execute(select(func.pg_advisory_xact_lock(lock)))
    settle_opens(connection, holder, host, lasting)
    now = database_now(connection)
    recent = stream_opens.c.opened_at.between(now - _WINDOW_MICROS, now + _WINDOW_MICROS)  # clocks may be set back
    lasts = ~stream_opens.c.closed & _is_kept(holder, now)
    connection.execute(delete(stream_opens).where(stream_opens.c.host == host, ~recent, ~lasts))
    rows = connection.execute(select(stream_opens.c.opened_at, recent, lasts).where(stream_opens.c.host == host)).all()
    opens = sorted(opened_at for opened_at, is_recent, _ in rows if is_recent)
    if len(opens) >= MOST_OPENS:
        return Claim(None, max(1.0, (opens[-MOST_OPENS] + _WINDOW_MICROS - now) / 1_000_000))
    if sum(is_open for *_, is_open in rows) >= MOST_OPEN:
        return Claim(None, FULL_SECONDS)
    new = insert(stream_opens).values(host=host, holder=holder, opened_at=now).returning(stream_opens.c.id)
    return Claim(connection.execute(new).scalar_one())


@transaction
def settle_opens(connection: Connection, holder: str, host: str, lasting: tuple[int, ...]) -> None:
    """Close those of a process and host that last no more."""
    ours = (stream_opens.c.holder == holder, stream_opens.c.host == host, ~stream_opens.c.closed)
    connection.execute(update(stream_opens).where(*ours, stream_opens.c.id.not_in(lasting)).values(closed=True))


def _is_kept(holder: str, now: int) -> ColumnElement[bool]:
    """Match what this process opened, or another one that lives: connections go with their process."""
    lives = exists().where(replicas.c.holder == stream_opens.c.holder, is_unexpired(now))
    return (stream_opens.c.holder == holder) | lives
