"""What a stream is made of: one frame, as it came."""

from __future__ import annotations

import msgspec


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One event of a stream: the value of its `event:` field, and of its `data:` fields, joined by line feeds.

    `raw` is the frame's text with LF for every line end, without what stands around it (blank lines, comments before
    it). An oversized frame has only the beginning of that, and neither event nor data. `id` is the value of its own
    `id:` field, empty where it has none: not the last one that the stream gave.
    """

    event: bytes
    data: bytes
    raw: bytes
    oversized: bool = False
    id: bytes = b""
