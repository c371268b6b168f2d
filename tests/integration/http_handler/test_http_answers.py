"""A receiver that answers as receivers do, and as they should not."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from app.handlers.http.connector import HeadFirst, make_connector
from ingest.delivery import FailureCause, Verdict
from tests.support.dispatching import until
from tests.support.http_handler import EVENT, Make, failure
from tests.support.raw_receiver import (
    GIB,
    Answer,
    Flood,
    RawReceiver,
    dribbling,
    resetting,
    saying,
    status,
)

FLOOD_BYTES = 16 << 20  # what sockets and buffers may hold of an answer that nobody reads; a GiB is far more


@pytest.mark.parametrize(
    "answer",
    [
        status(200, body=b"thanks"),
        status(201),
        status(202, body=b"x" * 5000),
        status(204),
        status(299),
        saying(b"HTTP/1.1 204 No Content\r\n\r\nand yet a body"),
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", goes_on=False),
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffzz", goes_on=False),
        saying(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nzip"),
        saying(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", goes_on=False),
        saying(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        dribbling(200),
        Flood(200),
    ],
)
async def test_2xx_is_delivered_whatever_the_body(make: Make, receiver: RawReceiver, answer: Answer) -> None:
    """However its body ends, or whether; and the next delivery finds a connection that is good."""
    handler = make()
    receiver.answer = answer
    await handler.deliver([EVENT])
    receiver.answer = status(204)
    await handler.deliver([EVENT])
    assert len(receiver.received) == 2


@pytest.mark.parametrize("number", [200, 500])
async def test_of_a_large_answer_a_beginning_is_read(make: Make, receiver: RawReceiver, number: int) -> None:
    """The rest of a GiB is dropped with its connection."""
    receiver.answer = flood = Flood(number)
    handler = make()
    if number == 200:
        await handler.deliver([EVENT])
    else:
        assert (await failure(handler)).answer == "x" * 500
    await until(lambda: receiver.open == 0, "for the connection to be closed")
    assert flood.written < FLOOD_BYTES < GIB


MEANINGS = [
    *((number, FailureCause.REFUSED, Verdict.DEAD) for number in (400, 413, 414, 415, 422, 431, 501)),
    (401, FailureCause.UNAUTHORIZED, Verdict.OPEN),
    (403, FailureCause.UNAUTHORIZED, Verdict.OPEN),
    (404, FailureCause.NOT_FOUND, Verdict.OPEN),
    (410, FailureCause.GONE, Verdict.PAUSE),
    (429, FailureCause.THROTTLED, Verdict.RETRY),
    *((number, FailureCause.CLIENT_ERROR, Verdict.RETRY) for number in (402, 405, 407, 408, 409, 425, 451, 499)),
    *((number, FailureCause.SERVER_ERROR, Verdict.RETRY) for number in (500, 502, 503, 504, 529, 599, 600, 999)),
    *((number, FailureCause.REDIRECT, Verdict.RETRY) for number in (300, 301, 302, 303, 304, 307, 308)),
]


@pytest.mark.parametrize(("number", "cause", "verdict"), MEANINGS)
async def test_a_status_means_what_the_contract_says(
    make: Make, receiver: RawReceiver, number: int, cause: FailureCause, verdict: Verdict
) -> None:
    """Its cause and what is done about it; a redirect is not followed, and no cookie is kept."""
    receiver.answer = status(number, f"Location: {receiver.url}/elsewhere", "Set-Cookie: a=b", body=b"no")
    handler = make()
    failed = await failure(handler)
    assert (failed.cause, failed.verdict, failed.status) == (cause, verdict, number)
    assert failed.retry_after is None
    assert str(failed) == f"answered {number}"
    assert failed.answer == ("" if number == 304 else "no")
    assert failed.opens_circuit == (verdict is not Verdict.DEAD)
    await failure(handler)
    assert len(receiver.received) == 2
    assert "cookie" not in receiver.received[1].headers


async def test_an_operator_s_lists_come_first(make: Make, receiver: RawReceiver) -> None:
    """What is in `dead_on` and `pause_on` means that, and what was taken out of them means what it means elsewhere."""
    handler = make(dead_on=[404, 503], pause_on=[401])
    verdicts = {}
    for number in (404, 503, 401, 400, 410):
        receiver.answer = status(number)
        verdicts[number] = (await failure(handler)).verdict
    expected = [Verdict.DEAD, Verdict.DEAD, Verdict.PAUSE, Verdict.RETRY, Verdict.RETRY]
    assert list(verdicts.values()) == expected


@pytest.mark.parametrize("number", [429, 502, 503, 504])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Tue, 28 Jul 2020 16:54:05 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("9" * 5000, 999999999.0),
    ],
)
async def test_a_receiver_may_ask_to_wait(
    make: Make, receiver: RawReceiver, number: int, value: str, seconds: float | None
) -> None:
    """In seconds or until a date; nonsense is no wish."""
    receiver.answer = status(number, f"Retry-After: {value}")
    assert (await failure(make())).retry_after == seconds


async def test_a_date_to_wait_for(make: Make, receiver: RawReceiver) -> None:
    """Counted from now."""
    receiver.answer = status(503, f"Retry-After: {formatdate(time.time() + 3600, usegmt=True)}")
    wait = (await failure(make())).retry_after
    assert wait is not None
    assert 3000 < wait <= 3600


async def test_other_answers_ask_for_nothing(make: Make, receiver: RawReceiver) -> None:
    """Retry-After means something with four statuses."""
    receiver.answer = status(500, "Retry-After: 7")
    assert (await failure(make())).retry_after is None


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (resetting, FailureCause.CONNECTION),
        (saying(b"", goes_on=False), FailureCause.CONNECTION),
        (saying(b"HTTP/1.1 20", goes_on=False), FailureCause.CONNECTION),
        (saying(b"SSH-2.0-OpenSSH\r\n", goes_on=False), FailureCause.CONNECTION),
        (saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", goes_on=False), FailureCause.CONNECTION),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", goes_on=False), FailureCause.CONNECTION),
    ],
)
async def test_no_answer_is_a_failure(make: Make, receiver: RawReceiver, answer: Answer, cause: FailureCause) -> None:
    """Whatever came in its place: it is tried again, and a later answer counts."""
    handler = make()
    receiver.answer = answer
    failed = await failure(handler)
    assert (failed.cause, failed.verdict, failed.status) == (cause, Verdict.RETRY, None)
    receiver.answer = status(204)
    await handler.deliver([EVENT])


async def test_our_own_parser_is_used() -> None:
    """Where this fails, aiohttp makes its connections' protocols otherwise than by TCPConnector._factory."""
    connector = make_connector(keep_alive_seconds=1)
    assert isinstance(connector._factory(), HeadFirst)
    await connector.close()
