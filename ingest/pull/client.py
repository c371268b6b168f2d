"""Google's subscriber client, and what it does not tell by itself: when it calls, and whether the server is there."""

from __future__ import annotations

from typing import Any, Protocol

from google.cloud.pubsub_v1 import SubscriberClient
from google.cloud.pubsub_v1.subscriber.futures import StreamingPullFuture
from google.cloud.pubsub_v1.types import FlowControl
from grpc import ChannelConnectivity, StatusCode

from ingest.pull.bridge import Bridge

# Longer than a queue keeps anything: what is held here while the store is away is never let go by itself.
_LONGEST_LEASE_SECONDS = 366 * 24 * 3600.0


class Watcher(Protocol):
    """Who wants to know. Everything here is called in threads of the client's."""

    def called(self) -> None:
        """The stream was opened, or opened anew."""
        ...

    def call_ended(self, code: StatusCode | None, details: str | None) -> None:
        """It is over."""
        ...

    def connected(self, connected: bool) -> None:
        """Whether there is a connection to the server."""
        ...


class WatchedClient(SubscriberClient):
    """Finds its credentials by itself (application default credentials), or an emulator by PUBSUB_EMULATOR_HOST.

    That may ask the network: make it in a thread. Raises google.auth.exceptions.GoogleAuthError.
    """

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self._watcher = watcher
        self.transport.grpc_channel.subscribe(
            lambda state: watcher.connected(state is ChannelConnectivity.READY), try_to_connect=True
        )

    def streaming_pull(self, *args: Any, **kwargs: Any) -> Any:
        """As ever, and the watcher sees it."""
        call = super().streaming_pull(*args, **kwargs)
        self._watcher.called()

        def over() -> None:
            self._watcher.call_ended(call.code(), call.details())

        if not call.add_callback(over):  # it has ended already
            over()
        return call

    def pull_into(
        self, bridge: Bridge, subscription: str, *, max_messages: int, max_bytes: int, lease: int
    ) -> StreamingPullFuture:
        """Lay every message down on the bridge, until the future is cancelled or the client gives up.

        `lease` in whole seconds: without a sign of life for so long the server gives a message to somebody else.
        """
        flow = FlowControl(
            max_messages=max_messages,
            max_bytes=max_bytes,
            max_lease_duration=_LONGEST_LEASE_SECONDS,
            min_duration_per_lease_extension=lease,
            max_duration_per_lease_extension=lease,
        )
        return self.subscribe(subscription, bridge.lay_down, flow_control=flow, scheduler=bridge)
