"""The health of a stream, as its clients' threads tell it: each by an Attempt of its own, so none speaks late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from google.api_core.exceptions import Cancelled
from grpc import StatusCode

from ingest.event import Cause
from ingest.reconnect import Loss
from ingest.source_health import StreamState
from ingest.sources.pubsub.errors import ended, explain

log = structlog.get_logger(__name__)


class StreamHealth:
    """The state of one stream; everything here is called in the event loop.

    A call counts as listening when it has lasted for `accepted` seconds, or brought a message: a server says only after
    a while that there is no such subscription, and nothing at all where all is well.
    """

    def __init__(
        self,
        source: str,
        number: int,
        accepted: float,
        now: Callable[[], datetime],
        changed: Callable[[], None],
        reconnecting: Callable[[Cause], None],
    ) -> None:
        self._source = source
        self._accepted = accepted
        self._now = now
        self._changed = changed
        self._reconnecting = reconnecting
        self._attempt: Attempt | None = None
        self._lost: Loss | None = None
        self._nothing_new: str | None = None  # why no new message can come, though we are let in
        self._uncounted = False  # it was lost, and has not been opened again
        self.state = StreamState(number, "connecting", now())

    def begin(self) -> Attempt:
        """Return the Attempt of the next client; whatever earlier ones still say is not heard any more."""
        self._attempt = Attempt(asyncio.get_running_loop(), self)
        return self._attempt

    def heard(self, at: datetime) -> None:
        """Note that messages came."""
        self.state = replace(self.state, last_byte_at=at)
        if self._attempt is not None:
            self._attempt.accepted = True
            self._look(self._attempt)

    def why(self, error: BaseException | None) -> Loss:
        """Return why the client gave up: where it was only told to, or does not say, why its last call ended.

        It does not say where the thread of its heartbeat is the first to see a call refused: `Exception(None)`.
        """
        untold = isinstance(error, Cancelled) or (error is not None and error.args == (None,))
        if untold and self._lost is not None:
            return self._lost
        return explain(error)

    def leave(self, loss: Loss) -> None:
        """We end the stream ourselves, to open it anew at once: it counts as listening unless that fails."""
        self._attempt = None
        self._lose(loss)
        if self.state.state == "listening":
            self.state = replace(self.state, lost=loss.cause, reason=loss.reason)

    def nothing_new(self, reason: str | None) -> None:
        """Note why nothing new will come by a stream that is open; None: it will. What is there already comes."""
        if reason is not None and reason != self._nothing_new:
            log.error("pull_in_vain", source=self._source, stream=self.state.stream, reason=reason)
        self._nothing_new = reason
        if self._attempt is not None:
            self._look(self._attempt)

    def give_up(self, loss: Loss, wait: float) -> None:
        """Note that it is lost, or could not be opened; the next attempt is in `wait` seconds."""
        self._attempt = None
        refused = loss.cause is Cause.UNAUTHORIZED
        tell = log.error if refused else log.warning
        if not refused or self.state.state != "refused":  # once, not at every attempt
            event = "pull_refused" if refused else "pull_lost"
            tell(event, source=self._source, stream=self.state.stream, reason=loss.reason, seconds=round(wait))
        self._lose(loss)
        self._enter("refused" if refused else "waiting", self._now() + timedelta(seconds=wait))

    def stop(self) -> None:
        """Note that nothing more is received, on purpose."""
        self._attempt = None
        if self.state.state != "stopped":
            self._enter("stopped")

    def _called(self, attempt: Attempt) -> None:
        if attempt is not self._attempt:
            return
        if self._lost is not None and self._uncounted:
            self._uncounted = False
            self._reconnecting(self._lost.cause)
        attempt.calls += 1
        attempt.calling, attempt.accepted = True, False
        asyncio.get_running_loop().call_later(self._accepted, self._accept, attempt, attempt.calls)

    def _accept(self, attempt: Attempt, call: int) -> None:
        if call == attempt.calls:
            attempt.accepted = True
            self._look(attempt)

    def _call_ended(self, attempt: Attempt, code: StatusCode | None, details: str | None) -> None:
        if attempt is not self._attempt:
            return
        attempt.calling = False
        self._lose(ended(code, details, connected=attempt.connected))
        if self.state.state != "refused":
            self._enter("connecting")

    def _connected(self, attempt: Attempt, connected: bool) -> None:
        attempt.connected = connected
        self._look(attempt)

    def _look(self, attempt: Attempt) -> None:
        if attempt is not self._attempt:
            return
        if attempt.connected and attempt.calling and attempt.accepted:
            if self._nothing_new is not None:
                self._enter_refused(Loss(Cause.UNAUTHORIZED, self._nothing_new))
            elif self.state.state != "listening":
                log.info("pull_listening", source=self._source, stream=self.state.stream)
                self._enter("listening")
        elif attempt.accepted and self.state.state == "listening":
            self._enter("connecting")

    def _lose(self, loss: Loss) -> None:
        self._lost, self._uncounted = loss, True

    def _enter_refused(self, loss: Loss) -> None:
        if (self.state.state, self.state.reason) != ("refused", loss.reason):
            self._lost = loss
            self._enter("refused")

    def _enter(self, state: str, next_attempt_at: datetime | None = None) -> None:
        lost = self._lost
        self.state = replace(
            self.state,
            state=state,
            since=self._now(),
            lost=None if lost is None else lost.cause,
            reason=None if lost is None else lost.reason,
            next_attempt_at=next_attempt_at,
        )
        self._changed()


class Attempt:
    """client.Watcher of one client, whose threads' words reach the StreamHealth in its event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, health: StreamHealth) -> None:
        self._loop = loop
        self._health = health
        self.calls = 0
        self.calling = False
        self.accepted = False  # the present call
        self.connected = False

    def tell_called(self) -> None:
        """See client.Watcher."""
        self._tell(lambda: self._health._called(self))

    def tell_call_ended(self, code: StatusCode | None, details: str | None) -> None:
        """See client.Watcher."""
        self._tell(lambda: self._health._call_ended(self, code, details))

    def tell_connected(self, connected: bool) -> None:
        """See client.Watcher."""
        self._tell(lambda: self._health._connected(self, connected))

    def _tell(self, what: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(what)
