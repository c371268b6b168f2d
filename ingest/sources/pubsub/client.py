"""Google's subscriber client, and what it does not tell by itself: when it calls, and whether the server is there.

The one file that reaches into it, by what it does not document; tests/unit/test_seams.py says what of it moved.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, Protocol

import grpc
from google.api_core.exceptions import Cancelled
from google.auth.credentials import AnonymousCredentials
from google.cloud.pubsub_v1 import SubscriberClient
from google.cloud.pubsub_v1.subscriber.futures import StreamingPullFuture
from google.cloud.pubsub_v1.types import FlowControl
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from grpc import ChannelConnectivity, StatusCode

from ingest.sources.pubsub.bridge import Bridge
from ingest.times import elapsed

# Longer than a queue keeps anything: what is held here while the store is away is never let go by itself.
_LONGEST_LEASE_SECONDS = 366 * 24 * 3600.0
_KEEP_ALIVE = "grpc.keepalive_time_ms"
_HELPERS = frozenset({"Thread-CallbackRequestDispatcher", "Thread-LeaseMaintainer", "Thread-Heartbeater"})
_VAIN_SECONDS = 1.0  # a call that ended sooner was no stream: not reached, not let in, not served


class Watcher(Protocol):
    """The listener to a client. Everything here is called in threads of the client's."""

    def tell_called(self) -> None:
        """Note that the stream was opened, or opened anew."""
        ...

    def tell_call_ended(self, code: StatusCode | None, details: str | None) -> None:
        """Note that it is over."""
        ...

    def tell_connected(self, connected: bool) -> None:
        """Return whether there is a connection to the server."""
        ...


class WatchedClient(SubscriberClient):
    """Finds its credentials by itself (application default credentials), or an emulator by PUBSUB_EMULATOR_HOST.

    That may ask the network: make it in a thread. Raises google.auth.exceptions.GoogleAuthError.

    After `vain_calls` in a row it gives up. Its channel is closed `close_seconds` after it.
    """

    def __init__(self, watcher: Watcher, vain_calls: int, close_seconds: float) -> None:
        super().__init__(transport=_emulator())
        self._watcher = watcher
        self._vain_calls = vain_calls
        self._close_seconds = close_seconds
        self._call: Any = None  # whose end was not told yet
        self._reader: threading.Thread | None = None
        self._helpers: Sequence[threading.Thread] = ()
        self._turn = threading.Lock()
        self._closing = False
        self._called_at = 0.0
        self._vain = 0  # calls in a row
        self.transport.grpc_channel.subscribe(self._tell_connected, try_to_connect=True)

    def streaming_pull(self, *args: Any, **kwargs: Any) -> Any:
        """Do as ever, and the watcher sees it: a call's end always before the next one.

        After `open_no_more`, or where call after call was in vain, what it returns is over, and the client gives up:
        left alone it tries for ever, each time from within the last.
        """
        with self._turn:
            last = self._call
            self._reader = self._reader or threading.current_thread()  # the first call is its own
        self._tell_end(last)  # the thread that reads may be here sooner than the one that calls back
        if self._closing or self._vain >= self._vain_calls:
            return _Over()
        self._called_at = elapsed()
        call = super().streaming_pull(*args, **kwargs)
        with self._turn:
            self._call = call
        self._watcher.tell_called()
        if not call.add_callback(partial(self._tell_end, call)):  # it has ended already
            self._tell_end(call)
        return call

    def open_no_more(self) -> None:
        """End the opening: while a server is away the client goes on with it even when it is cancelled."""
        self._closing = True

    def end_call(self) -> None:
        """End the call that is open: a client whose reading thread is dead would leave it to the server."""
        with self._turn:
            call = self._call
        if call is not None:
            call.cancel()

    def close(self) -> None:
        """End the watching now, and soon the channel."""
        self.transport.grpc_channel.unsubscribe(self._tell_connected)
        closing = threading.Timer(self._close_seconds, super().close)
        closing.daemon = True
        closing.start()

    def pull_into(
        self, bridge: Bridge, subscription: str, *, max_messages: int, max_bytes: int, lease: int
    ) -> StreamingPullFuture:
        """Lay every message down on the bridge, until the future is cancelled or the client gives up.

        To be called in the event loop: the client's threads are known by their names, and no other client may begin
        meanwhile.
        `lease` in whole seconds: without a sign of life for so long the server gives a message to somebody else.
        """
        flow = FlowControl(
            max_messages=max_messages,
            max_bytes=max_bytes,
            max_lease_duration=_LONGEST_LEASE_SECONDS,
            min_duration_per_lease_extension=lease,
            max_duration_per_lease_extension=lease,
        )
        others = set(threading.enumerate())
        future = self.subscribe(subscription, bridge.enqueue, flow_control=flow, scheduler=bridge)
        begun = set(threading.enumerate()) - others
        self._helpers = [thread for thread in begun if thread.name in _HELPERS]
        return future

    def dead_thread(self) -> str | None:
        """Return the name of a thread of the client's that has ended; None where all live.

        What it meets and did not foresee ends the one that reads, or one of its helpers, and it does not notice.
        """
        threads = self._helpers if self._reader is None else [self._reader, *self._helpers]
        return next((thread.name for thread in threads if not thread.is_alive()), None)

    def _tell_connected(self, state: ChannelConnectivity) -> None:
        self._watcher.tell_connected(state is ChannelConnectivity.READY)

    def _tell_end(self, call: Any) -> None:
        with self._turn:
            if call is None or call is not self._call:
                return
            self._call = None
            self._vain = self._vain + 1 if elapsed() - self._called_at < _VAIN_SECONDS else 0
        self._watcher.tell_call_ended(call.code(), call.details())


class _Over:
    """A call that ended before it began, in a way that ends the client too."""

    def is_active(self) -> bool:
        return False

    def add_done_callback(self, tell: Callable[[BaseException], object]) -> None:
        tell(Cancelled("no stream is opened any more"))

    def cancel(self) -> None:
        """Note that it is over."""

    def __next__(self) -> NoReturn:
        raise Cancelled("no stream is opened any more")


def _emulator() -> SubscriberGrpcTransport | None:
    """Make a channel to an emulator: the one that the client makes has not the options of the one to Google.

    The client's own would end at the first 4 MiB, and take no trailers that name many messages. Keep-alives are left
    out: by gRPC's defaults a server ends a quiet connection for them ("too_many_pings"), and only Google's are told to
    bear them.
    """
    host = os.environ.get("PUBSUB_EMULATOR_HOST")
    if not host:
        return None

    def insecure_channel(host: str, *, options: Sequence[tuple[str, Any]], **_: Any) -> grpc.Channel:
        return grpc.insecure_channel(host, [option for option in options if option[0] != _KEEP_ALIVE])

    return SubscriberGrpcTransport(host=host, credentials=AnonymousCredentials(), channel=insecure_channel)
