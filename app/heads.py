"""Heads that came before: a sender repeats its head, and then it need not be parsed again.

To parse a head of five lines costs as much as to decode and identify the event behind it. What is remembered is what
the parser made of the very same bytes, so nothing is ever read in another way than the parser reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ingest.sources.answers import Answer

_END = b"\r\n\r\n"
# A sender with a head of its own for each request must not fill the memory: some 10 MB, when all is at its bound.
_MOST = 1000
_LARGEST = 2048  # bytes of a head
_MOST_HEADERS = 40


class Endpoint(Protocol):
    """What answers a whole request; `ingest.sources.webhook.WebhookSource` does."""

    def answer(
        self, method: str, headers: Mapping[str, str], query: bytes, body: bytes, reply: Callable[[Answer], None]
    ) -> None:
        """Call `reply` once, now or later."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Head:
    """What stands before a body: where it goes, and how many bytes it has. Not to be shown: it may hold credentials."""

    endpoint: Endpoint
    method: str
    headers: Mapping[str, str]  # names in lower case
    query: bytes
    length: int

    def answer(self, body: bytes, reply: Callable[[Answer], None]) -> None:
        """Have the request answered."""
        self.endpoint.answer(self.method, self.headers, self.query, body, reply)


class KnownHeads:
    """The heads that the connections of a server share."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}

    def split(self, data: bytes) -> tuple[Head, bytes] | None:
        """Head and body where `data` is one whole request whose head came before."""
        end = data.find(_END) + len(_END)  # 3 where there is none, and no head is that short
        head = self._heads.get(data[:end])
        if head is None or len(data) - end != head.length:
            return None
        return head, data[end:]

    def remember(self, data: bytes, head: Head, body: bytes) -> None:
        """Remember `head` if the parser found it and `body`, and nothing else, in `data`."""
        end = data.find(_END) + len(_END)
        small = len(_END) <= end <= _LARGEST and len(head.headers) <= _MOST_HEADERS
        if small and data[end:] == body:
            if len(self._heads) >= _MOST:
                self._heads.clear()
            self._heads[data[:end]] = head
