"""Tells whether the store takes commits now: by those that are made anyway, and where there are none by its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from ingest.errors import StoreUnavailable
from ingest.event import Commit, Record
from ingest.protocols import Store
from storage.engine import Database
from storage.store import touch_head

_STUCK_SECONDS = 5.0
_PROBE_SECONDS = 2.0

log = structlog.get_logger(__name__)


class WatchedStore:
    """protocols.Store that knows how its commits do.

    The store is at fault when the last commit failed, or when one has been under way for `stuck_seconds` and none has
    succeeded meanwhile. While none succeeds a commit of its own is tried every `probe_seconds`: it locks the head and
    writes it, as every commit does.
    """

    def __init__(
        self,
        store: Store,
        database: Database,
        *,
        stuck_seconds: float = _STUCK_SECONDS,
        probe_seconds: float = _PROBE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._database = database
        self._stuck_seconds = stuck_seconds
        self._probe_seconds = probe_seconds
        self._clock = clock
        self._under_way: dict[object, float] = {}  # when each began, the oldest first
        self._succeeded_at = -float("inf")
        self._failed: str | None = "it was not written to yet"

    async def commit(self, records: Sequence[Record]) -> Commit:
        """See protocols.Store."""
        with self.watched():
            return await self._store.commit(records)

    def fault(self) -> str | None:
        """Return why nothing can be written now; None where it can."""
        if self._failed is not None:
            return self._failed
        for began in self._under_way.values():
            if self._clock() - max(began, self._succeeded_at) >= self._stuck_seconds:
                return f"a commit has not returned for {self._stuck_seconds:g} s"
            break  # the others are younger
        return None

    async def run(self) -> None:
        """Write now and again where nobody else does, until cancelled."""
        while True:
            if self._clock() - self._succeeded_at >= self._probe_seconds:
                await self._probe()
            await asyncio.sleep(self._probe_seconds)

    async def _probe(self) -> None:
        try:
            with self.watched():
                await self._database.write(touch_head)
        except StoreUnavailable:
            return
        except Exception:  # nobody can commit to such a store, and the service goes on
            log.exception("probe_failed")
            self._failed = "the last commit failed"

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note how the commit inside ends."""
        token = object()
        self._under_way[token] = self._clock()
        try:
            yield
        except StoreUnavailable as error:
            was_ready, self._failed = self._failed is None, "the last commit failed"
            if was_ready:
                log.warning("store_not_ready", error=str(error))
            raise
        else:
            was_ready = self._failed is None
            self._failed, self._succeeded_at = None, self._clock()
            if not was_ready:
                log.info("store_ready")
        finally:
            del self._under_way[token]
