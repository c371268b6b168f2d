"""Conversations from a seed: what is sent, in which pieces, with which pauses, and how it ends."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.support.conversations.broken import BROKEN
from tests.support.conversations.draft import event, plain
from tests.support.conversations.twists import CODING, CONNECTION, CONTENT, EXPECT, FRAMING, REST
from tests.support.conversations.values import After, AwaitAnswers, Conversation, End, Request, Step, Write

_MOST_REQUESTS = 6
_NUMBERS_EACH = 200  # numbers that a conversation may use
_BYTEWISE = 600  # at most so many bytes go one by one
_STAGES = ((CONTENT, 0.12), (CODING, 0.12), (FRAMING, 0.35), (CONNECTION, 0.4), (EXPECT, 0.1), (REST, 0.4))


def conversation(seed: int, index: int) -> Conversation:
    """The conversation with this number under this seed; the same whenever it is asked for."""
    chance = random.Random(seed * 1_000_003 + index)
    numbers = itertools.count(index * _NUMBERS_EACH)
    requests = _requests(chance, numbers)
    end = chance.choices((End.STAY, End.HALF_CLOSE, End.HANG_UP), (8, 2, 1))[0]
    if end is not End.STAY and chance.random() < 0.6:
        requests = _cut(chance, requests)
    return Conversation(seed, index, tuple(requests), tuple(_steps(chance, requests)), end, probe(next(numbers)))


def conversations(seed: int, requests: int, first: int = 0) -> list[Conversation]:
    """As many conversations as hold so many requests, from number `first`; no two share the number of an event."""
    made: list[Conversation] = []
    while requests > 0:
        made.append(conversation(seed, first + len(made)))
        requests -= len(made[-1].requests)
    return made


def probe(number: int) -> Request:
    """The request that shows whether a connection lives. No other has its head: nothing about it can be known."""
    body = event(number)
    head = b"POST /ingest/fleet HTTP/1.1\r\nHost: x\r\nX-Probe: %d\r\nContent-Length: %d\r\n\r\n" % (number, len(body))
    return Request(head, body, events=(number,))


def _requests(chance: random.Random, numbers: Iterator[int]) -> list[Request]:
    """Up to six; mostly none behind one that ends the connection."""
    made: list[Request] = []
    for _ in range(chance.randrange(1, _MOST_REQUESTS + 1)):
        made.append(_request(chance, numbers))
        if made[-1].after is After.CLOSES and chance.random() < 0.7:
            break
    return made


def _request(chance: random.Random, numbers: Iterator[int]) -> Request:
    draft = plain(chance, numbers)
    kind = chance.random()
    if kind < 0.06:
        chance.choice(BROKEN)(chance, draft)
    elif kind < 0.85:
        for twists, share in _STAGES:
            if chance.random() < share:
                chance.choice(twists)(chance, draft)
    request = draft.request(chance)
    if "garbage" not in draft.asked:
        return request
    return replace(request, head=draft.before, body=b"", method=draft.before.split(b" ")[0])


def _cut(chance: random.Random, requests: list[Request]) -> list[Request]:
    """End in the middle of the last request, unless it is one that nobody reads to its end."""
    *rest, last = requests
    if "broken" in last.asked or last.statuses != {204} or last.waits:
        return requests
    kept = last.raw[: chance.randrange(1, len(last.raw))]
    head, body = kept[: len(last.head)], kept[len(last.head) :]
    never = (*last.never, *last.events)
    return [*rest, replace(last, head=head, body=body, events=(), never=never, cut=True, asked=last.asked | {"cut"})]


def _steps(chance: random.Random, requests: Sequence[Request]) -> Iterator[Step]:
    """All at once, one after the other is answered, or sometimes so and sometimes so."""
    waiting = chance.choice((0.0, 1.0, 1.0, 0.5))
    pending = b""
    for number, request in enumerate(requests):
        if request.waits:
            yield from _pieces(chance, pending + request.head)
            yield AwaitAnswers(number + 1, or_continue=True)
            pending = request.body
        else:
            pending += request.raw
        if chance.random() < waiting and not request.cut:
            yield from _pieces(chance, pending)
            pending = b""
            yield AwaitAnswers(number + 1)
    yield from _pieces(chance, pending)


def _pieces(chance: random.Random, data: bytes) -> Iterator[Write]:
    """The same bytes in one piece, cut anywhere, cut within line ends, or one by one."""
    kind = chance.choices(("whole", "anywhere", "line ends", "bytes"), (50, 28, 15, 7))[0]
    ends = [place + 1 for place, byte in enumerate(data[:5000]) if byte in b"\r\n"]
    cuts: list[int] = []
    if kind == "anywhere" and data:
        cuts = [chance.randrange(len(data)) for _ in range(chance.randrange(1, 6))]
    elif kind == "line ends" and ends:
        cuts = chance.sample(ends, min(len(ends), 8))
    elif kind == "bytes":
        cuts = list(range(min(len(data), _BYTEWISE)))
    for start, stop in itertools.pairwise([0, *sorted(set(cuts) - {0}), len(data)]):
        if start < stop:
            yield Write(data[start:stop])
