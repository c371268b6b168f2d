"""The ways by which a fleet's copies come to a server. Each knows how often it brought a copy, as far as one can:
what is under way at a kill or a cut has come, or has not."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from tests.support.emulator import Queue
from tests.support.oracle import get_json
from tests.support.pubsub_proxy import PubsubProxy
from tests.support.sequences.fleet_by_ways import Fleet
from tests.support.sequences.fleet_truth import Span
from tests.support.server import PATIENCE_SECONDS, Server, wait_until
from tests.support.upstream.journal import Sent
from tests.support.upstream.rules import Fault, Kind, Rules
from tests.support.upstream.server import Upstream

_AGAIN_SECONDS = 0.02
_CUTS: Sequence[Kind] = ("finish", "half_close", "reset", "cut")
BEAT = "beat"  # a device without a counter
T = TypeVar("T")


class Way(Protocol):
    """One way into a server."""

    def bring(self, copies: Sequence[int]) -> None:
        """Bring copies, in order, as far as this way does."""
        ...

    def cut(self, random: Random) -> None:
        """Break off what is under way."""
        ...

    def settle(self) -> None:
        """Return when all is committed that was brought and did not get lost."""
        ...

    def confirm(self) -> None:
        """Make certain what has come so far, where that has to be asked."""
        ...

    def take_back(self) -> None:
        """Let nothing wait for a process that was killed."""
        ...

    def arrivals(self) -> dict[int, Span]:
        """Return how often each copy arrived, at least and at most."""
        ...


class WebhookWay:
    """A sender that posts until the answer is 204."""

    def __init__(self, fleet: Fleet, server: Server) -> None:
        self._fleet = fleet
        self._server = server
        self._sure: Counter[int] = Counter()
        self._unsure: Counter[int] = Counter()

    def bring(self, copies: Sequence[int]) -> None:
        """See Way."""
        body = b"\n".join(self._fleet.body(copy) for copy in copies)
        while not self._post(body, copies):
            time.sleep(_AGAIN_SECONDS)

    def cut(self, random: Random) -> None:
        """Close a connection in the middle of a request, which is no arrival."""
        body = self._fleet.body(0)
        with socket.create_connection(("127.0.0.1", self._server.port)) as connection:
            head = f"POST /ingest/fleet HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[: random.randrange(len(body))])

    def settle(self) -> None:
        """See Way: an answer says all."""

    confirm = take_back = settle

    def arrivals(self) -> dict[int, Span]:
        """See Way."""
        return {copy: (sure, sure + self._unsure[copy]) for copy, sure in self._sure.items()}

    def _post(self, body: bytes, copies: Sequence[int]) -> bool:
        request = urllib.request.Request(f"{self._server.url}/ingest/fleet", body)
        try:
            with urllib.request.urlopen(request, timeout=20):
                self._sure.update(copies)
                return True
        except (OSError, http.client.HTTPException) as error:
            if not isinstance(getattr(error, "reason", None), ConnectionRefusedError):
                self._unsure.update(copies)
            return False


class StreamWay:
    """An upstream that publishes to whoever listens, and to nobody else. Inside the block it runs, in a thread.

    What went to a connection has certainly come if the connection brought something later too.
    """

    def __init__(self, fleet: Fleet, server: Server, port: int, deaf_for: int) -> None:
        """`deaf_for`: so many copies are published while nobody listens, before it waits for somebody."""
        self._server = server
        self._deaf_for = deaf_for
        self._upstream = Upstream(Rules(keep_alive_seconds=0.5, backlog=1 << 20), events=fleet, port=port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._unheard = 0
        self._beats = 0
        self._confirmed = 0  # entries of the journal
        self._sure: Counter[int] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._upstream.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._run(self._upstream.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self, random: Random) -> None:
        """End the connection in one way or another; the next one may begin with the last events again."""
        self.settle()
        self._run(self._upstream.fault(Fault(kind=random.choice(_CUTS), resend=random.choice([0, 10]))))

    def bring(self, copies: Sequence[int]) -> None:
        """See Way."""
        for copy in copies:
            if not self._listening():
                self._unheard += 1
                if self._unheard > self._deaf_for:
                    self.wait_heard()
            self._run(self._upstream.publish(copy))

    def wait_heard(self) -> None:
        """Return when somebody listens."""
        wait_until(lambda: len(self._listening()) > 0, PATIENCE_SECONDS, "the stream does not open")
        self._unheard = 0

    def settle(self) -> None:
        """See Way. What went to the connections that bring an event now has come."""
        beat = at = 0
        streams: Sequence[int] = []
        while not self._has(beat):
            if streams != self._listening():
                self.wait_heard()
                streams, at, beat = self._run(self._beat())
            time.sleep(_AGAIN_SECONDS)
        for entry in self._upstream.journal.entries[self._confirmed : at]:
            if isinstance(entry, Sent):
                self._sure[entry.number] += len(set(entry.handed) & set(streams))
        self._confirmed = at

    confirm = settle

    def take_back(self) -> None:
        """See Way: what is gone is gone."""

    def arrivals(self) -> dict[int, Span]:
        """See Way."""
        handed: Counter[int] = Counter()
        for entry in self._upstream.journal.entries:
            if isinstance(entry, Sent):
                handed[entry.number] += len(entry.handed)
        return {copy: (self._sure[copy], most) for copy, most in handed.items() if most}

    async def _beat(self) -> tuple[Sequence[int], int, int]:
        """Send an event that is none of the fleet's; to whom, behind how many entries, and its number."""
        self._beats += 1
        streams, at = self._upstream.streams, len(self._upstream.journal.entries)
        members = {"data": str(self._beats), "coreid": BEAT, "published_at": "2026-07-28T16:53:05.616Z"}
        await self._upstream.emit("beat", json.dumps(members))
        return streams, at, self._beats

    def _has(self, beat: int) -> bool:
        """Return whether a beat is the last that the server has stored."""
        with suppress(OSError):  # it may just be killed, or started
            events = get_json(f"{self._server.url}/api/v1/events?device={BEAT}&order=desc&limit=1")["events"]
            return bool(events) and events[0]["data"] == str(beat)
        return False

    def _listening(self) -> Sequence[int]:
        async def streams() -> Sequence[int]:
            return self._upstream.streams

        return self._run(streams())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)


class SubscriptionWay:
    """A topic; a proxy sees what is pulled of its subscription."""

    def __init__(self, fleet: Fleet, queue: Queue, proxy: PubsubProxy) -> None:
        self._fleet = fleet
        self._queue = queue
        self._proxy = proxy
        self._messages: defaultdict[int, list[str]] = defaultdict(list)

    def bring(self, copies: Sequence[int]) -> None:
        """See Way."""
        for copy, message in zip(copies, self._queue.publish(map(self._fleet.message, copies)), strict=True):
            self._messages[copy].append(message)

    def cut(self, random: Random) -> None:
        """Take the leases away: what is being committed comes once more."""
        self._proxy.give_back_owed()

    def take_back(self) -> None:
        """See Way: what the process had comes again at once, and not when its lease is over."""
        wait_until(lambda: self._proxy.quiet, PATIENCE_SECONDS, "calls of the dead server do not end")
        self._proxy.give_back_owed()

    def confirm(self) -> None:
        """See Way: an acknowledgement says so."""

    def settle(self) -> None:
        """See Way."""
        sent = {message for messages in self._messages.values() for message in messages}
        wait_until(
            lambda: sent <= self._proxy.acknowledged.keys() and self._proxy.owed == 0,
            PATIENCE_SECONDS,
            lambda: f"{len(sent - self._proxy.acknowledged.keys())} not acknowledged, {self._proxy.owed} owed",
        )

    def arrivals(self) -> dict[int, Span]:
        """See Way."""
        delivered = self._proxy.delivered
        return {copy: (len(ids), sum(delivered[id_] for id_ in ids)) for copy, ids in self._messages.items()}
