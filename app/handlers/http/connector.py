"""The only place that reaches into aiohttp: a status counts that was said before what follows it turned out broken.

aiohttp gives up an answer whose head came in one piece with bytes that are no HTTP, such as a body behind a 204, or a
broken chunk. To a receiver that has the event already, it would be delivered until it is a dead letter.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

from aiohttp import TCPConnector
from aiohttp.client_proto import ResponseHandler

_END_OF_HEAD = b"\r\n\r\n"


class HeadFirst(ResponseHandler):
    """Parses a head by itself, so that its message is there before the rest can fail. It does not linger."""

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        end = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        if len(_END_OF_HEAD) <= end < len(data):
            super().data_received(data[:end])
            data = data[end:]
        super().data_received(data)

    def close(self) -> None:
        """Drop the connection. Closing TLS in good order reads, for up to 30 s, whatever the other end still sends."""
        self.abort()


def make_connector(*, keep_alive_seconds: float) -> TCPConnector:
    """Return a pool without a bound of its own. Called where the event loop runs."""
    connector = TCPConnector(limit=0, keepalive_timeout=keep_alive_seconds)
    factory = partial(HeadFirst, loop=asyncio.get_running_loop())
    connector._factory = cast("partial[ResponseHandler]", factory)
    return connector
