"""The judge of conversations sees each kind of wrong, and the generator makes each kind of odd."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.conversations.answers import AnswerReader, NotHttp
from tests.support.conversations.generate import conversation, conversations, probe
from tests.support.conversations.judge import faults
from tests.support.conversations.values import After, Answer, Conversation, End, Ended, Heard, Request, Way, Write
from tests.support.conversations.ways import DIRECT, HAPROXY, NGINX

PLAIN = Request(b"POST / HTTP/1.1\r\n\r\n", b"{}", events=(1,), never=(2,))
OTHER = replace(PLAIN, events=(3,), never=())
CLOSING = replace(PLAIN, after=After.CLOSES)
REFUSED = replace(PLAIN, statuses=frozenset({400}), after=After.CLOSES, events=(), never=(1, 2))
TAKEN = Answer(204, (), b"")
LAST = Answer(204, (("connection", "close"),), b"")
PROBLEM = Answer(400, (("content-type", "application/problem+json"), ("connection", "close")), b"{}")
TEXT = Answer(400, (("content-type", "text/plain"), ("connection", "close")), b"no")
ALIVE = Heard((TAKEN,), Ended.ALIVE, probed=True, probe=TAKEN)
BOTH = {1: 1, 99: 1}


def talk(*requests: Request, end: End = End.STAY) -> Conversation:
    """A conversation of these requests."""
    return Conversation(0, 0, requests, tuple(Write(request.raw) for request in requests), end, probe(99))


@pytest.mark.parametrize(
    ("held", "heard", "stored"),
    [
        (talk(PLAIN), ALIVE, BOTH),
        (talk(CLOSING), Heard((LAST,), Ended.CLOSED), {1: 1}),
        (talk(CLOSING, OTHER), Heard((LAST,), Ended.CLOSED), {1: 1}),
        (talk(REFUSED), Heard((PROBLEM,), Ended.CLOSED), {}),
        (talk(PLAIN, end=End.HANG_UP), Heard((), Ended.LEFT), {1: 1}),
        (talk(PLAIN, end=End.HANG_UP), Heard((), Ended.LEFT), {}),
        (talk(PLAIN, end=End.HALF_CLOSE), Heard((TAKEN,), Ended.CLOSED), {1: 1}),
        (talk(replace(PLAIN, cut=True), end=End.HALF_CLOSE), Heard((), Ended.CLOSED), {}),
    ],
)
def test_what_is_right(held: Conversation, heard: Heard, stored: dict[int, int]) -> None:
    """Nothing is found where everything is as it should be."""
    assert faults(held, heard, stored, DIRECT) == []


@pytest.mark.parametrize(
    ("rule", "held", "heard", "stored"),
    [
        ("1", talk(PLAIN), replace(ALIVE, fault="no status line"), BOTH),
        ("1", talk(PLAIN), replace(ALIVE, answers=(TAKEN, TAKEN)), BOTH),
        ("1", talk(replace(PLAIN, takes_100=False)), replace(ALIVE, continued=frozenset({0})), BOTH),
        ("2", talk(PLAIN), replace(ALIVE, answers=(Answer(404, PROBLEM.headers[:1], b""),)), {99: 1}),
        ("2", talk(REFUSED), Heard((TEXT,), Ended.CLOSED), {}),
        ("3", talk(PLAIN), Heard((), Ended.SILENT), {1: 1}),
        ("3", talk(PLAIN), Heard((), Ended.CLOSED), {1: 1}),
        ("3", talk(PLAIN, OTHER), Heard((TAKEN,), Ended.CLOSED), {1: 1}),
        ("3", talk(PLAIN, end=End.HALF_CLOSE), Heard((), Ended.CLOSED), {1: 1}),
        ("4", talk(CLOSING), Heard((LAST,), Ended.SILENT), {1: 1}),
        ("4", talk(PLAIN), Heard((TAKEN,), Ended.SILENT, probed=True), {1: 1}),
        ("4", talk(PLAIN), replace(ALIVE, probe=PROBLEM), {1: 1}),
        ("4", talk(PLAIN), Heard((TAKEN,), Ended.CLOSED), {1: 1}),
        ("4", talk(PLAIN, end=End.HALF_CLOSE), Heard((TAKEN,), Ended.SILENT), {1: 1}),
        ("5", talk(CLOSING), ALIVE, BOTH),
        ("5", talk(PLAIN), Heard((LAST,), Ended.CLOSED), {1: 1}),
        ("6", talk(PLAIN), ALIVE, {99: 1}),
        ("6", talk(PLAIN), ALIVE, {1: 1}),
        ("6", talk(PLAIN), ALIVE, {1: 2, 99: 1}),
        ("6", talk(PLAIN), ALIVE, {1: 1, 2: 1, 99: 1}),
        ("6", talk(REFUSED), Heard((PROBLEM,), Ended.CLOSED), {1: 1}),
        ("6", talk(CLOSING, OTHER), Heard((LAST,), Ended.CLOSED), {1: 1, 3: 1}),
        ("6", talk(replace(PLAIN, cut=True), end=End.HANG_UP), Heard((), Ended.LEFT), {1: 1}),
        ("6", talk(PLAIN, end=End.HANG_UP), Heard((), Ended.LEFT), {1: 2}),
    ],
)
def test_each_kind_of_wrong(rule: str, held: Conversation, heard: Heard, stored: dict[int, int]) -> None:
    """Each rule is broken by something, and that is seen."""
    assert rule in {fault[0] for fault in faults(held, heard, stored, DIRECT)}


@pytest.mark.parametrize("way", [NGINX, HAPROXY], ids=["nginx", "haproxy"])
def test_a_proxy_excuses_no_loss(way: Way) -> None:
    """What counts is the same behind a proxy: 204 is stored, a plain request is answered, a connection is not dead."""
    for heard, stored in [
        (ALIVE, {99: 1}),
        (replace(ALIVE, probe=Answer(504, (), b"")), {1: 1}),
        (replace(ALIVE, answers=(Answer(502, (), b""),)), {99: 1}),
        (Heard((TAKEN,), Ended.SILENT, probed=True), {1: 1}),
        (Heard((), Ended.CLOSED), {}),
        (ALIVE, {1: 1, 2: 1, 99: 1}),
    ]:
        assert faults(talk(PLAIN), heard, stored, way)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\nHTTP/1.1",
        b"HTTP/1.1 204 No Content\r\n\r\nno more",
        b"HTTP/1.1 204 No Content\r\nX:\x00\r\n\r\n",
    ],
)
def test_what_is_no_answer(answer: bytes) -> None:
    """The reader guesses at nothing."""
    with pytest.raises(NotHttp):
        AnswerReader(lambda _: b"POST").feed(answer)


def test_answers_in_any_pieces() -> None:
    """Answers are read the same byte by byte."""
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
        b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    )
    reader = AnswerReader([b"POST", b"HEAD", b"POST"].__getitem__)
    for byte in data:
        reader.feed(bytes([byte]))
    reader.end()
    assert [(answer.status, answer.body) for answer in reader.answers] == [(200, b"ab"), (405, b""), (204, b"")]
    assert reader.continued == {0}


def test_a_conversation_can_be_held_again() -> None:
    """Seed and number make the same bytes in the same pieces, and no event is in two of them."""
    made = conversations(7, 1000)
    assert [conversation(7, one.index) for one in made] == made
    for one in made:
        pieces = b"".join(step.piece for step in one.steps if isinstance(step, Write))
        assert pieces == b"".join(request.raw for request in one.requests)
    carried = [number for one in made for request in (*one.requests, one.probe) for number in request.events]
    assert len(carried) == len(set(carried))


def test_each_feature_is_made() -> None:
    """Nothing that a conversation can ask is forgotten by the dice."""
    asked = frozenset().union(*(one.asked() for one in conversations(7, 3000)))
    assert asked >= {
        *("chunked", "trailers", "framing in trailers", "gzip", "not gzip", "br", "expect", "upgrade", "close", "cut"),
        *("staying", "proxy-connection", "http/1.0", "no host", "two hosts", "absolute", "fragment", "percent"),
        *("query", "slash", "locked", "asked", "semantics", "smuggling", "blank lines", "case", "many headers"),
        *("long head", "fold", "lf", "large", "too large", "empty", "garbage", "lengths", "both", "bad chunks"),
        "too long a head",
    }
