"""A head that came before is not parsed again; nobody can tell, whatever stands around it and however it is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from app import heads as module
from app.heads import Endpoint, Head, KnownHeads
from app.server import PatientProtocol
from ingest.sources.answers import ANSWERS, Answer

PATH = b"/ingest/fleet"
LINES = [b"Host: here", b"content-type: application/json", b"Authorization: Bearer s3cret", b"X-Empty:"]
BODIES = [b"{}", b'{"event":"e"}', b"", b"\r\n\r\n", b"POST /ingest/fleet HTTP/1.1\r\n\r\n"]
Call = tuple[str, Mapping[str, str], bytes, bytes]
Seen = tuple[bytes, bool, list[Call]]


def request(
    body: bytes, *lines: bytes, line: bytes = b"POST /ingest/fleet HTTP/1.1", length: int | None = None
) -> bytes:
    """A request with a Content-Length."""
    size = len(body) if length is None else length
    return b"\r\n".join([line, *lines, b"Content-Length: %d" % size, b"", body])


PLAIN = [request(body, *LINES[:lines]) for body in BODIES for lines in (1, 4)]
OTHERS = [
    request(b"{}", LINES[0], line=b"POST /ingest/fleet?key=1 HTTP/1.1"),
    request(b"{}", LINES[0], line=b"PUT /ingest/fleet HTTP/1.1"),
    request(b"{}", LINES[0], line=b"POST /ingest/fleet HTTP/1.0"),
    request(b"{}", LINES[0], line=b"POST /elsewhere HTTP/1.1"),
    request(b"{}", b"Expect: 100-continue"),
    request(b"{}", b"Connection: close"),
    b"\r\n" + PLAIN[0],
    PLAIN[0].lower(),
    b"POST /ingest/fleet HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"GET /ingest/fleet HTTP/1.1\r\nHost: here\r\n\r\n",
    request(b"{}", LINES[0], length=20000),
    b"\x00",
]


class Forgetful(KnownHeads):
    """Has everything parsed."""

    def split(self, data: bytes) -> tuple[Head, bytes] | None:
        """Nothing is known."""
        return None


class Counting(KnownHeads):
    """Says how often a head was known."""

    found = 0

    def split(self, data: bytes) -> tuple[Head, bytes] | None:
        """See KnownHeads."""
        request = super().split(data)
        self.found += request is not None
        return request


class Sink(Endpoint):
    """Keeps what it was asked, and answers when told to."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.replies: list[Callable[[Answer], None]] = []

    def answer(
        self, method: str, headers: Mapping[str, str], query: bytes, body: bytes, reply: Callable[[Answer], None]
    ) -> None:
        """See Endpoint."""
        self.calls.append((method, dict(headers), query, body))
        self.replies.append(reply)

    def answer_all(self) -> None:
        """Say 204 to everybody who waits."""
        while self.replies:
            self.replies.pop(0)(ANSWERS[204])


class Wire(asyncio.Transport):
    """What the server wrote, and whether it hung up."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        """See Transport."""
        self.written += data

    def is_closing(self) -> bool:
        """See Transport."""
        return self.closed

    def close(self) -> None:
        """See Transport."""
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        """See Transport."""

    def resume_reading(self) -> None:
        """See Transport."""


class Service:
    """The application behind the server: one plain endpoint, and 404 for the rest."""

    def __init__(self, known_heads: KnownHeads) -> None:
        self.known_heads = known_heads
        self.sink = Sink()
        self.plain_endpoints = {PATH: self.sink}

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Read the body, keep it, answer 404."""
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        self.sink.calls.append((scope["method"], {}, scope["query_string"], body))
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})


def connection(service: Service) -> tuple[PatientProtocol, Wire]:
    """A connection to the service."""
    config = Config(service, http="httptools", ws="none", lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    config.app = service
    protocol = PatientProtocol(config, ServerState(), {})
    wire = Wire()
    protocol.connection_made(wire)
    return protocol, wire


async def spoken(known_heads: KnownHeads, conversations: Sequence[Sequence[bytes]]) -> list[Seen]:
    """Everything that can be seen of a service to which these pieces come, conversation by conversation."""
    service = Service(known_heads)
    seen: list[Seen] = []
    for pieces in conversations:
        protocol, wire = connection(service)
        for piece in pieces:
            if not wire.closed:
                protocol.data_received(piece)
            service.sink.answer_all()
            for _ in range(5):  # turns for uvicorn's tasks
                await asyncio.sleep(0)
        seen.append((wire.written, wire.closed, list(service.sink.calls)))
        protocol.connection_lost(None)
    return seen


def cut(text: bytes, places: Sequence[float]) -> list[bytes]:
    """A text in pieces."""
    ends = sorted({0, len(text), *(round(place * len(text)) for place in places)})
    return [text[start:end] for start, end in pairwise(ends)]


requests = st.sampled_from(PLAIN + PLAIN + OTHERS)
# One request in a piece, or several run together and cut anywhere.
pieces = st.one_of(
    requests.map(lambda one: [one]),
    st.tuples(st.lists(requests, min_size=1, max_size=3), st.lists(st.floats(0, 1), max_size=3)).map(
        lambda drawn: cut(b"".join(drawn[0]), drawn[1])
    ),
)
conversations = st.lists(st.lists(pieces, max_size=6).map(lambda some: list(chain(*some))), min_size=1, max_size=3)


def _cut_in_its_end() -> list[list[bytes]]:
    """A request that comes again, cut in the end of its head: where that looked known, so would its length."""
    body = b"x" * (len(request(b"", length=10)) - 4 - 2)
    whole = request(body)
    behind = len(whole) - len(body) - 3
    return [[whole], [whole[:behind], whole[behind:]]]


@given(conversations)
@example(_cut_in_its_end())
@example([cut(PLAIN[0], [0.6]), [PLAIN[0][round(0.6 * len(PLAIN[0])) :]]])  # the end of a head is none
@example([[b"\r\n\r\n" + PLAIN[0]], [b"\r\n\r\nPO"]])  # nor is what stands before it
@settings(max_examples=400, deadline=None)
def test_what_is_remembered_cannot_be_told_from_what_is_parsed(spoken_pieces: list[list[bytes]]) -> None:
    """The same calls and the same answers."""
    remembering = asyncio.run(spoken(KnownHeads(), spoken_pieces))
    assert remembering == asyncio.run(spoken(Forgetful(), spoken_pieces))


def test_a_repeated_head_is_known_on_every_connection() -> None:
    """Also with another body of the same length."""
    heads = Counting()
    bodies = [b'{"event":"a"}', b'{"event":"b"}', b'{"event":"c"}']
    seen = asyncio.run(spoken(heads, [[request(bodies[0])], [request(bodies[1])], [request(bodies[2])]]))
    assert heads.found == 2
    assert [call[-1] for call in seen[-1][-1]] == bodies


@pytest.mark.parametrize(
    "other",
    [
        request(b"{}!", LINES[0], length=2),
        request(b"{", LINES[0], length=2),
        request(b"{}", LINES[0], length=2) + PLAIN[0],
        request(b"{}", LINES[0].lower()),
        request(b"{}", LINES[0] + b" "),
    ],
)
def test_what_differs_by_a_byte_is_parsed(other: bytes) -> None:
    """A body that is cut off or goes on, and a head that says the same otherwise."""
    heads = Counting()
    asyncio.run(spoken(heads, [[request(b"{}", LINES[0])], [other]]))
    assert heads.found == 0


def test_a_head_is_not_used_while_an_answer_is_due_or_the_sender_does_not_read() -> None:
    """Answers keep the order of the requests, and a sender that reads none has to wait."""

    async def ask() -> None:
        service = Service(Counting())
        protocol, _ = connection(service)
        protocol.data_received(PLAIN[0])
        protocol.data_received(PLAIN[0])
        assert service.known_heads.found == 0  # type: ignore[attr-defined]
        service.sink.answer_all()
        await asyncio.sleep(0)
        protocol.pause_writing()
        protocol.data_received(PLAIN[0])
        assert service.known_heads.found == 0  # type: ignore[attr-defined]
        protocol.connection_lost(None)
        protocol.resume_writing()

    asyncio.run(ask())


def test_uvicorns_idle_timer_is_stopped() -> None:
    """A connection that uvicorn answered on must not be closed under a request that it never saw."""

    async def ask() -> None:
        service = Service(KnownHeads())
        protocol, wire = connection(service)
        protocol.data_received(PLAIN[0])
        service.sink.answer_all()
        protocol.data_received(b"GET /elsewhere HTTP/1.1\r\nHost: here\r\n\r\n")
        while b"404" not in wire.written:  # noqa: ASYNC110 - what is written cannot be awaited
            await asyncio.sleep(0)
        assert protocol.timeout_keep_alive_task is not None
        protocol.data_received(PLAIN[0])
        assert protocol.timeout_keep_alive_task is None

    asyncio.run(ask())


def test_empty_lines_between_requests_do_not_add_up() -> None:
    """Some senders end a body with one (RFC 9112 §2.2); over many requests that is no head that is too large."""

    async def ask() -> None:
        service = Service(Counting())
        protocol, wire = connection(service)
        for _ in range(3):
            protocol.data_received(PLAIN[0])
            service.sink.answer_all()
            protocol.data_received(b"\r\n" * 15_000)
        assert service.known_heads.found == 2  # type: ignore[attr-defined]
        assert not wire.closed
        protocol.connection_lost(None)

    asyncio.run(ask())


def test_the_memory_of_heads_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a head of its own for each request nor a long one stays."""
    monkeypatch.setattr(module, "_MOST", 3)
    heads = KnownHeads()
    asyncio.run(spoken(heads, [[request(b"{}", b"X-Request: %d" % number)] for number in range(8)]))
    assert len(heads._heads) == 2
    heads = Counting()
    asyncio.run(spoken(heads, [[request(b"{}", b"X-Long: " + b"x" * 2048)] * 2]))
    asyncio.run(spoken(heads, [[request(b"{}", *(b"X%d:" % number for number in range(40)))] * 2]))
    assert heads.found == 0
