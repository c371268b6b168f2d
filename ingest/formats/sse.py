"""Bytes of a stream to frames (WHATWG HTML §9.2), however they are cut, in bounded memory; no socket is near.

The fields of a frame are read by httpx-sse's decoder. Around it stand guards against what its 0.4.3 does otherwise:
after any `id:` it yields an event for every blank line; it yields frames that have no `data:`; it takes a leading BOM
for a part of the first field; it calls an event without a name "message"; it takes `retry: -1`; and nothing is bounded.
Lines are split here, on bytes: httpx-sse splits decoded text, and replaces what is no UTF-8.
"""

from __future__ import annotations

import re

import msgspec
from httpx_sse._decoders import SSEDecoder  # not exported, but the only part of it that needs no response

MAX_FRAME_BYTES = 1024 * 1024
KEPT_BYTES = 64 * 1024

_BOM = b"\xef\xbb\xbf"
_LF = ord("\n")
_MOST_RETRY_SECONDS = 3600.0
_RETRY = re.compile(rb"retry: ?[0-9]{1,12}")
# A comment that has begun at the start of a line, with the end of that line; the last one may have none yet.
_COMMENTS = re.compile(rb"^:[^\n]*(?:\n|\Z)", re.MULTILINE)
_NAMES = re.compile(rb"^event(?:$|:.*$)", re.MULTILINE)
_NO_NAMES = frozenset({b"event", b"event:", b"event: "})


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One event of a stream: the value of its `event:` field, and of its `data:` fields, joined by line feeds.

    `raw` is the frame's text with LF for every line end, without comments and the blank lines around it. An oversized
    frame has only the beginning of that, and neither event nor data. `id` is the value of its own `id:` field, empty
    where it has none: not the last one that the stream gave.
    """

    event: bytes
    data: bytes
    raw: bytes
    oversized: bool = False
    id: bytes = b""


class FrameDecoder:
    """Takes one connection's bytes as they come. A frame of more than `max_frame` bytes is thrown away but for 64 KiB.

    Comments are none of a frame's bytes. `retry_seconds` is the last `retry:` that upstream gave.

    Any way of cutting the bytes into chunks gives the same frames. What has not ended when the bytes do is no frame.
    """

    def __init__(self, max_frame: int = MAX_FRAME_BYTES) -> None:
        self._max = max_frame
        self._kept = min(KEPT_BYTES, max_frame)
        self._fields = SSEDecoder()
        self._bom: bytes | None = b""  # what may become one; None as soon as that is settled
        self._after_cr = False  # an LF that comes next belongs to it
        self._rest = bytearray()  # of the frame that has begun: no blank lines stand before it, and no comments in it
        self._in_comment = False  # it ends with the colon of one that has not ended
        self._excess = False  # it is too large: the rest is its beginning and stays so
        self._excess_ends_line = False
        self.last_event_id: str | None = None  # None: upstream gave none; "": it took it back
        self.retry_seconds: float | None = None

    @property
    def partial(self) -> bool:
        """Return whether a frame has begun and not ended; comments and blank lines alone are none."""
        return bool(self._bom) or self._excess or len(self._rest) > self._in_comment

    def feed(self, chunk: bytes) -> list[Frame]:
        """Return the frames that end in this chunk. Each byte is looked at a fixed number of times."""
        text = self._with_line_feeds(chunk if self._bom is None else self._without_bom(chunk))
        frames: list[Frame] = []
        if self._excess:
            text = self._skip(text, frames)
        if not text or self._excess:
            return frames
        if self._rest:
            if b"\n\n" not in text and not (text[0] == _LF == self._rest[-1]):
                self._keep(text)
                return frames
            text = bytes(self._rest) + text
            self._rest.clear()
            self._in_comment = False
        # What stands between two blank lines is a frame: C finds them, and the usual frame of two lines needs no more.
        *blocks, last = text.split(b"\n\n")
        for block in blocks:
            frame = self._frame(block)
            if frame is not None:
                frames.append(frame)
        self._keep(last)
        return frames

    def _without_bom(self, chunk: bytes) -> bytes:
        start = (self._bom or b"") + chunk
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._bom = start
            return b""
        self._bom = None
        return start.removeprefix(_BOM)

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _keep(self, text: bytes) -> None:
        """Remember the beginning of a frame, as far as it may be remembered."""
        rest = self._rest
        if self._in_comment:
            _, line_feed, text = text.partition(b"\n")
            if not line_feed:
                return
            rest.pop()
            self._in_comment = False
        rest += self._less_comments(text if rest else text.lstrip(b"\n"), after_line=not rest or rest[-1] == _LF)
        size = len(rest) - (2 if self._in_comment else rest.endswith(b"\n"))
        if size > self._max:
            self._excess, self._excess_ends_line = True, rest.endswith(b"\n")
            self._in_comment = False
            del rest[self._kept :]

    def _less_comments(self, text: bytes, *, after_line: bool) -> bytes:
        """Return what is no comment, and the colon of one that goes on; `after_line`: the text begins a line."""
        if b":" not in text:  # only then no line can begin with one
            return text
        head, line_feed, lines = (b"", b"", text) if after_line else text.partition(b"\n")
        kept = _COMMENTS.sub(b"", lines)
        if len(kept) == len(lines):
            return text
        self._in_comment = lines[lines.rfind(b"\n") + 1 :].startswith(b":")
        return (head + line_feed + kept if head or line_feed else kept.lstrip(b"\n")) + b":" * self._in_comment

    def _skip(self, text: bytes, frames: list[Frame]) -> bytes:
        """Throw away what belongs to a frame that is too large; what follows it."""
        joined = self._excess_ends_line and text.startswith(b"\n")
        found = text.find(b"\n\n")
        if not joined and found < 0:
            self._excess_ends_line = text.endswith(b"\n") if text else self._excess_ends_line
            return b""
        frames.append(Frame(b"", b"", bytes(self._rest), oversized=True))
        self._rest.clear()
        self._excess = False
        return text[1 if joined else found + 2 :]

    def _frame(self, block: bytes) -> Frame | None:
        if block[:1] in (b"\n", b":", b""):
            block = _bare(block)
            if not block:
                return None
        head, _, tail = block.partition(b"\n")
        if head[:7] == b"event: " and tail[:6] == b"data: " and b"\n" not in tail and len(block) <= self._max:
            return Frame(head[7:], tail[6:], block)
        if b"\n:" in block:
            block = _bare(block)
        if len(block) > self._max:
            return Frame(b"", b"", block[: self._kept], oversized=True)
        return self._frame_by_line(block)

    def _frame_by_line(self, block: bytes) -> Frame | None:
        """Do the same by the rules in full. Latin-1 is a letter for each byte, there and back."""
        has_data = False
        own_id: bytes | None = None
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            has_data |= field == b"data"
            if field == b"id" and b"\0" not in value:
                own_id = value.removeprefix(b" ")
            if field != b"retry" or _RETRY.fullmatch(line):
                self._fields.decode(line.decode("latin-1"))
        if own_id is not None:
            self.last_event_id = own_id.decode(errors="replace")
        parsed = self._fields.decode("")
        if parsed is None:
            return None
        if parsed.retry is not None:
            self.retry_seconds = min(parsed.retry / 1000, _MOST_RETRY_SECONDS)
        if not has_data:
            return None
        names = _NAMES.findall(block)
        name = "" if not names or names[-1] in _NO_NAMES else parsed.event
        return Frame(name.encode("latin-1"), parsed.data.encode("latin-1"), block, id=own_id or b"")


def _bare(block: bytes) -> bytes:
    """Return a frame without its comments and the blank lines around it."""
    return _COMMENTS.sub(b"", block).strip(b"\n")
