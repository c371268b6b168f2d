"""What a queue holds: one message, as it was published."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec


class Message(msgspec.Struct, frozen=True, gc=False):
    """The value as raw bytes (empty: there was none), and the attributes beside it.

    `published_at` is when the queue took the message in, the same at each delivery: aware, UTC; None where it does not
    say. It is not when the event was published.
    """

    data: bytes
    attributes: Mapping[str, str]
    published_at: datetime | None
