"""A request while it is being made up: its parts, and what each of its features allows as an answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.conversations.values import After, Request

PATH = b"/ingest/fleet"
LOCKED_PATH = b"/ingest/locked"  # wants the header X-Key
ASKED_PATH = b"/ingest/asked"  # wants the parameter key
SECRET = b"open-sesame-17"
MAX_BODY = 256 * 1024  # bytes

_EVENT = b'{"event":"talk","data":"n%d","coreid":"e00fce68%016x","published_at":"2026-07-28T16:53:05.616Z"}'
_FORM = b"event=talk&data=n%d&coreid=e00fce68%016x&published_at=2026-07-28T16%%3A53%%3A05.616Z"


def event(number: int) -> bytes:
    """The JSON of the event with this number."""
    return _EVENT % (number, number % 97)


def form(number: int) -> bytes:
    """The same event as a form."""
    return _FORM % (number, number % 97)


def smuggled(number: int) -> bytes:
    """A whole request that would store the number, if anybody executed it."""
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (PATH, len(event(number)), event(number))


@dataclass
class Draft:
    """The parts of one request.

    Of its answer: `broken` are the statuses of one that cannot be parsed (or must not be), and it ends the connection;
    `refused` those of one that is understood and not taken; `tolerated` those a server may choose instead of taking it.
    """

    numbers: Iterator[int]
    method: bytes = b"POST"
    target: bytes = PATH
    version: bytes = b"HTTP/1.1"
    before: bytes = b""
    hosts: list[bytes] = field(default_factory=lambda: [b"Host: 127.0.0.1"])
    lines: list[bytes] = field(default_factory=list)
    content: bytes = b""
    events: list[int] = field(default_factory=list)
    never: list[int] = field(default_factory=list)
    framing: list[bytes] | None = None  # its lines, where they are not those of `content`
    wire: bytes | None = None  # the body, where it is not `content` as it is
    line_end: bytes = b"\r\n"
    broken: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    tolerated: set[int] = field(default_factory=set)
    closes: bool = False
    either: bool = False
    waits: bool = False
    asked: set[str] = field(default_factory=set)

    def carry_nothing(self) -> None:
        """The numbers in its body are of no event: they must never be stored."""
        self.never += self.events
        self.events = []

    def request(self, chance: random.Random) -> Request:
        """The bytes and the oracle."""
        framing = [b"Content-Length: %d" % len(self.content)] if self.framing is None else self.framing
        lines = [*self.lines, *framing]
        if "in order" not in self.asked:
            chance.shuffle(lines)
        start = b"%b %b %b" % (self.method, self.target, self.version)
        head = self.line_end.join([start, *self.hosts, *lines, b"", b""])
        statuses = self.broken or ((self.refused or {204}) | self.tolerated)
        return Request(
            head=self.before + head,
            body=self.content if self.wire is None else self.wire,
            statuses=frozenset(statuses),
            after=self._after(),
            events=tuple(self.events),
            never=tuple(self.never),
            method=self.method,
            waits=self.waits,
            takes_100=self.version != b"HTTP/1.0",
            asked=frozenset(self.asked),
        )

    def _after(self) -> After:
        if self.closes:
            return After.CLOSES
        unread = bool(self.refused and (self.content or self.wire))
        return After.EITHER if self.either or unread or self.tolerated or self.broken else After.STAYS


def plain(chance: random.Random, numbers: Iterator[int]) -> Draft:
    """One event or a few, as senders send them."""
    draft = Draft(numbers)
    kind = chance.choice(("json", "json", "json", "ndjson", "array", "form"))
    draft.events = [next(numbers) for _ in range(1 if kind in {"json", "form"} else chance.randrange(2, 6))]
    if kind == "form":
        draft.content = form(draft.events[0])
        draft.lines.append(b"Content-Type: application/x-www-form-urlencoded")
    else:
        events = [event(number) for number in draft.events]
        draft.content = b"[" + b",".join(events) + b"]" if kind == "array" else b"\n".join(events)
        draft.lines.append(b"Content-Type: application/json")
    if chance.random() < 0.2:
        draft.method = b"PUT"
    return draft
