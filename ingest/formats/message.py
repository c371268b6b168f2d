"""What a queue holds: one message, as it was published."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec


class Message(msgspec.Struct, frozen=True, gc=False):
    """The value as raw bytes (empty: there was none), and the attributes beside it.

    `published_at` (aware, UTC; None where the queue does not say) and `id` ("" likewise) are what the queue gave the
    message when it took it in, the same at each delivery. That is not when the event was published.
    """

    data: bytes
    attributes: Mapping[str, str]
    published_at: datetime | None
    id: str = ""
