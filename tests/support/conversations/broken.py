"""Requests that are none: contradicting lengths, broken chunks, too long heads, garbage. Each ends the connection."""

from __future__ import annotations

import random

from tests.support.conversations.draft import Draft, smuggled

_LARGEST_HEAD = 64 * 1024  # bytes
_GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x07" * 30,
    b"\x00" * 100,
    b"\xff\xfe\xfd\r\n\r\n",
    b"GET\r\n\r\n",
    b"{}\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"POST /ingest/fleet HTTP/9.9\r\nHost: x\r\n\r\n",
    b"POST /ingest/fleet HTTP/1.1 x\r\nHost: x\r\n\r\n",
    b"POST /ingest/fleet FTP/1.1\r\nHost: x\r\n\r\n",
    b"post /ingest/fleet HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    b"FETCH /ingest/fleet HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    b"POST /ingest/fleet HTTP/1.1\r\nHost : x\r\nContent-Length: 0\r\n\r\n",
    b"POST /ingest/fleet HTTP/1.1\r\nHost: x\r\nContent-Length : 0\r\n\r\n",
    b"POST /ingest/fleet HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    b"POST /ingest/fleet HTTP/1.1\r\nHost: x\r\nX-Zero: \x00\r\nContent-Length: 0\r\n\r\n",
    b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n\r\n",
)


def garbage(chance: random.Random, draft: Draft) -> None:
    """Bytes that are no request of HTTP/1.1, or one whose method nobody knows."""
    draft.carry_nothing()
    draft.before = chance.choice(_GARBAGE)
    draft.broken = {400, 405, 501, 505}
    draft.asked |= {"broken", "garbage"}
    if draft.before.startswith(b"CONNECT"):
        draft.asked.add("connect")
    if b"HTTP/9.9" in draft.before:
        draft.asked.add("version")
    understood = draft.before.startswith((b"CONNECT", b"FETCH", b"post"))
    draft.closes, draft.either = not understood, understood


def lengths(chance: random.Random, draft: Draft) -> None:
    """Content-Length and Transfer-Encoding, several lengths, or one that is no number (RFC 9112 §6.3)."""
    draft.carry_nothing()
    draft.never.append(next(draft.numbers))
    size = len(draft.content)
    draft.wire = draft.content + smuggled(draft.never[-1])
    draft.broken = {400, 501}
    draft.closes = True
    draft.framing = chance.choice(
        (
            [b"Content-Length: %d" % size, b"Content-Length: 5"],
            [b"Content-Length: %d, 5" % size],
            [b"Content-Length: -1"],
            [b"Content-Length: +%d" % size],
            [b"Content-Length: %d" % 10**30],
            [b"Content-Length: 0x%x" % size],
            [b"Content-Length: five"],
            [b"Transfer-Encoding: chunked, identity"],
            [b"Transfer-Encoding: xchunked"],
            [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        )
    )
    draft.asked |= {"broken", "lengths"}


def both(chance: random.Random, draft: Draft) -> None:
    """A length and chunks: refused, or read by its chunks, and the connection ends with the answer (RFC 9112 §6.1)."""
    draft.never.append(next(draft.numbers))
    size = chance.choice((0, 5, len(draft.content) + 1000))
    draft.framing = [b"Content-Length: %d" % size, b"Transfer-Encoding: chunked"]
    draft.wire = b"%x\r\n%b\r\n0\r\n\r\n%b" % (len(draft.content), draft.content, smuggled(draft.never[-1]))
    draft.tolerated = {400}
    draft.closes = True
    draft.asked |= {"broken", "both"}


def equal_lengths(_: random.Random, draft: Draft) -> None:
    """The same length twice may be taken as one (RFC 9110 §8.6)."""
    draft.framing = [b"Content-Length: %d" % len(draft.content)] * 2
    draft.tolerated = {400}
    draft.asked |= {"broken", "equal lengths"}


def chunks(chance: random.Random, draft: Draft) -> None:
    """Chunks that are none. What came before them is no event."""
    draft.carry_nothing()
    draft.never.append(next(draft.numbers))
    first = b"%x\r\n%b\r\n" % (len(draft.content), draft.content)
    bad = chance.choice((b"zz\r\n", b"-1\r\n", b"\r\n\r\n", b"0x0\r\n\r\n", b"ffffffffffffffffff\r\n", b" \r\n"))
    draft.framing = [b"Transfer-Encoding: chunked"]
    draft.wire = first + bad + smuggled(draft.never[-1])
    if chance.random() < 0.3:
        draft.wire = b"3\r\n" + first + smuggled(draft.never[-1])  # longer than it says
    draft.broken = {400}
    draft.closes = True
    draft.asked |= {"broken", "bad chunks"}


def long_head(chance: random.Random, draft: Draft) -> None:
    """A head over 64 KiB, in one line or in many."""
    draft.carry_nothing()
    if chance.random() < 0.5:
        draft.lines.append(b"X-Long: " + b"x" * chance.randrange(_LARGEST_HEAD + 1, 2 * _LARGEST_HEAD))
    else:
        draft.lines += [b"X-Header-%d: %b" % (number, b"y" * 1000) for number in range(chance.randrange(70, 120))]
    draft.broken = {400, 413, 431}
    draft.closes = True
    draft.asked |= {"broken", "too long a head"}


BROKEN = (garbage, garbage, lengths, lengths, both, equal_lengths, chunks, chunks, long_head)
