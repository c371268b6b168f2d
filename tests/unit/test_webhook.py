"""The webhook endpoint on a real SQLite store: who hears what, and what is stored then."""

from __future__ import annotations

import asyncio
import gzip
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.access import ingest_forbids
from app.settings import AccessSettings
from ingest.sources.webhook import credentials, signatures
from tests.support.stored import rows
from tests.support.webhook_rig import DISCARDED, MAX_BODY, Reply, WebhookRig, webhook_rig

EVENT = b'{"event":"temp","data":"21.5","published_at":"2026-07-28T16:53:05.616Z","coreid":"e00fce682e79a004f1e69a2b"}'
Make = Callable[..., AbstractAsyncContextManager[WebhookRig]]
NAMES = "SELECT name FROM events ORDER BY position"
REASONS = "SELECT reason FROM rejects ORDER BY id"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a rig."""
    return partial(webhook_rig, tmp_path)


@pytest.fixture
async def rig(make: Make) -> AsyncIterator[WebhookRig]:
    """A source without credentials."""
    async with make() as rig:
        yield rig


def numbered_lines(count: int) -> bytes:
    """NDJSON of different events."""
    return b"\n".join(b'{"event":"e","data":"%d","published_at":"2026-07-28T16:53:05Z"}' % n for n in range(count))


async def taken_by(rig: WebhookRig) -> None:
    """Return when records are in flight."""
    while not rig.value("events_in_flight", mode="webhook"):  # noqa: ASYNC110 - a gauge cannot be awaited
        await asyncio.sleep(0)


async def code_of(sending: Awaitable[Reply | None]) -> int:
    """The status of an answer."""
    reply = await sending
    assert reply is not None
    return reply.code


@pytest.mark.parametrize(
    ("auth", "challenge"),
    [
        (credentials.Basic(lambda: ["u:p"]), 'Basic realm="headrace"'),
        (credentials.Bearer(lambda: ["t"]), 'Bearer realm="headrace"'),
        (credentials.Header("X-Key", lambda: ["t"]), 'Headrace-Header realm="headrace"'),
        (credentials.Query("key", lambda: ["t"]), 'Headrace-Query realm="headrace"'),
        (signatures.github(lambda: ["t"]), 'Headrace-HMAC realm="headrace"'),
        (signatures.Stripe(lambda: ["t"], lambda: 0.0), 'Headrace-Stripe realm="headrace"'),
        (signatures.StandardWebhooks(lambda: ["t"], lambda: 0.0), 'Headrace-Standard-Webhooks realm="headrace"'),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_401_asks_for_what_the_source_wants(make: Make, auth: credentials.Credentials, challenge: str) -> None:
    """A client that waits for the challenge sends its password then; a scheme of our own is no browser's."""
    async with make(auth=auth) as rig:
        reply = await rig.send(EVENT)
        assert reply is not None
        assert (reply.code, reply.headers["www-authenticate"]) == (401, challenge)


async def test_204_is_empty_and_comes_after_the_commit(rig: WebhookRig) -> None:
    """Nothing is acknowledged on hope: while the commit waits, so does the sender."""
    rig.database.close_gate()
    sending = asyncio.create_task(rig.send(EVENT))
    await taken_by(rig)
    await asyncio.sleep(0.02)
    assert not sending.done()

    rig.database.open_gate()
    assert await sending == Reply(204, {}, b"")
    assert await rows(rig.database, NAMES) == [("temp",)]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PATCH", "OPTIONS"])
async def test_only_post_and_put_are_taken(rig: WebhookRig, method: str) -> None:
    """Other methods hear 405 with the methods allowed."""
    reply = await rig.send(EVENT, method=method)

    assert reply is not None
    assert (reply.code, reply.headers["allow"]) == (405, "POST, PUT")
    assert await code_of(rig.send(EVENT, method="PUT")) == 204


@pytest.mark.parametrize("headers", [{}, {"X-Key": "wrong"}, {"X-Key": ""}, {"X-Other": "secret"}])
async def test_bad_credentials_store_nothing(make: Make, headers: dict[str, str]) -> None:
    """Whatever the body is, without the secret it is 401, counted, no arrival, and not even decoded."""
    async with make(auth=credentials.Header("X-Key", lambda: ["secret"])) as rig:
        for body in (EVENT, b"{", b"\x1f\x8b"):
            assert await code_of(rig.send(body, headers=headers)) == 401

        assert await rows(rig.database, NAMES) == await rows(rig.database, REASONS) == []
        assert rig.value("auth_failures_total") == 3
        assert rig.value("ingest_responses_total", code="401") == 3
        assert rig.value("events_received_total", mode="webhook") == 0
        assert await code_of(rig.send(EVENT, headers={"X-Key": "secret"})) == 204


async def test_a_signature_is_checked_on_the_body_as_it_came(make: Make) -> None:
    """A signature covers the compressed bytes, in however many pieces they come."""
    body = gzip.compress(EVENT)
    signature = hmac.digest(b"secret", body, "sha256").hex()
    async with make(auth=signatures.github(lambda: ["secret"])) as rig:
        headers = {"X-Hub-Signature-256": f"sha256={signature}", "Content-Encoding": "gzip"}
        assert await code_of(rig.send(body[:20], body[20:], headers=headers)) == 204
        assert await code_of(rig.send(EVENT, headers=headers)) == 401


async def test_a_web_page_is_refused_where_the_endpoint_is_open(make: Make) -> None:
    """What `forbids` says of the headers is 403 before the body is looked at."""
    async with make(forbids=lambda headers: "origin" in headers) as rig:
        assert await code_of(rig.send(EVENT, headers={"Origin": "https://evil.example"})) == 403
        assert await code_of(rig.send(EVENT)) == 204


@pytest.mark.parametrize("keys", [("right", "wrong"), ("wrong", "right"), ("right", "")])
async def test_one_good_key_of_two_lets_nobody_in(make: Make, keys: tuple[str, str]) -> None:
    """A key that is sent twice with two values is no key: two readers of it could differ. Twice the same is one."""
    auth = credentials.Header("X-Key", lambda: ["right"])
    async with make(auth=auth) as rig:
        assert await code_of(rig.send(EVENT, headers=[("X-Key", key) for key in keys])) == 401
        assert await code_of(rig.send(EVENT, headers=[("X-Key", "right"), ("X-Key", "right")])) == 204


@pytest.mark.parametrize("codings", [("gzip", "br"), ("br", "gzip"), ("gzip", "identity")])
async def test_two_codings_are_not_taken_for_one(rig: WebhookRig, codings: tuple[str, str]) -> None:
    """A body that was coded twice is 415, whichever line comes last."""
    lines = [("Content-Encoding", coding) for coding in codings]
    assert await code_of(rig.send(gzip.compress(EVENT), headers=lines)) == 415


async def test_a_web_page_hides_behind_no_second_origin(make: Make) -> None:
    """Of two Origin lines the foreign one counts, first or last."""
    rules = ingest_forbids(AccessSettings(), loopback=True)
    foreign, own, host = ("Origin", "https://evil.example"), ("Origin", "http://localhost"), ("Host", "localhost")
    async with make(forbids=rules) as rig:
        for lines in ([host, foreign, own], [host, own, foreign]):
            assert await code_of(rig.send(EVENT, headers=lines)) == 403
        assert await code_of(rig.send(EVENT, headers=[host, own])) == 204


@pytest.mark.parametrize(
    "pieces",
    [
        [b" " * (MAX_BODY + 1)],
        [b" " * MAX_BODY, b" "],
        [b" " * 1000] * (MAX_BODY // 1000 + 1),
        [b" " * MAX_BODY] * 3,
    ],
)
async def test_a_body_is_measured_by_its_bytes(rig: WebhookRig, pieces: list[bytes]) -> None:
    """One byte too many is 413 however it is cut up and whatever Content-Length says; it is no arrival."""
    for length in ("1", str(10**12), "nonsense"):
        reply = await rig.send(*pieces, headers={"Content-Length": length})
        assert reply is not None
        assert (reply.code, reply.headers["connection"]) == (413, "close")
    assert rig.value("events_received_total", mode="webhook") == 0


async def test_a_body_of_exactly_the_limit_is_taken(rig: WebhookRig) -> None:
    """`max_body` bytes are not too many, in one piece or in two."""
    body = EVENT + b" " * (MAX_BODY - len(EVENT))
    assert await code_of(rig.send(body)) == 204
    assert await code_of(rig.send(body[:1], body[1:])) == 204
    assert await rows(rig.database, NAMES) == [("temp",)]


async def test_an_endless_body_is_not_read_to_its_end(rig: WebhookRig) -> None:
    """A sender that never stops is answered after a bounded number of bytes."""
    taken = 0

    async def receive() -> dict[str, object]:
        nonlocal taken
        taken += 1000
        return {"type": "http.request", "body": b" " * 1000, "more_body": True}

    answered: list[int] = []

    async def send(message: dict[str, int]) -> None:
        answered.append(message.get("status", 0))

    scope = {"type": "http", "method": "POST", "query_string": b"", "headers": []}
    await rig.source(scope, receive, send)  # type: ignore[arg-type]

    assert answered[0] == 413
    assert taken < MAX_BODY + DISCARDED + 2000


@pytest.mark.parametrize(
    ("count", "code"), [(10_000, 204), (10_001, 413)], ids=["ten thousand elements", "one element more"]
)
async def test_elements_are_bounded(rig: WebhookRig, count: int, code: int) -> None:
    """More than 10,000 elements in a body are 413, and none of them is stored."""
    assert await code_of(rig.send(b"[" + b",".join([b"{}"] * count) + b"]")) == code
    assert len(await rows(rig.database, REASONS)) == (count if code == 204 else 0)


async def test_more_than_the_inbox_holds_is_413(make: Make) -> None:
    """What could never be taken is refused and not deferred: sending it again cannot help."""
    async with make(max_events=3) as rig:
        assert await code_of(rig.send(numbered_lines(4))) == 413
        assert await code_of(rig.send(numbered_lines(3))) == 204


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", " gzip "])
async def test_gzip_is_inflated(rig: WebhookRig, encoding: str) -> None:
    """A compressed batch is like the batch itself."""
    compressed = gzip.compress(numbered_lines(50))
    assert await code_of(rig.send(compressed, headers={"Content-Encoding": encoding})) == 204
    assert len(await rows(rig.database, NAMES)) == 50


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
async def test_other_encodings_are_415(rig: WebhookRig, encoding: str) -> None:
    """What we cannot read is said so, not kept as garbage."""
    assert await code_of(rig.send(EVENT, headers={"Content-Encoding": encoding})) == 415
    assert await rows(rig.database, REASONS) == []


async def test_inflation_is_bounded(rig: WebhookRig) -> None:
    """A body that inflates beyond `max_body` is 413, and so is a chain of bombs."""
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < MAX_BODY
    for body in (bomb, gzip.compress(b" " * (MAX_BODY + 1)), gzip.compress(b" " * 40_000) * 2):
        assert await code_of(rig.send(body, headers={"Content-Encoding": "gzip"})) == 413
    assert rig.value("events_received_total", mode="webhook") == 0


@pytest.mark.parametrize("body", [b"not gzip", gzip.compress(EVENT)[:-3], gzip.compress(EVENT) + b"junk"])
async def test_malformed_gzip_is_kept(rig: WebhookRig, body: bytes) -> None:
    """Authentic bytes that do not inflate are one reject, kept as they came."""
    assert await code_of(rig.send(body, headers={"Content-Encoding": "gzip"})) == 204
    assert await rows(rig.database, "SELECT reason, body FROM rejects") == [("malformed_gzip", body)]


KEPT = "SELECT body, headers, element FROM rejects ORDER BY id"


async def test_a_reject_keeps_its_request(make: Make) -> None:
    """Its headers less credentials, and its number where the body has several elements."""
    async with make(auth=credentials.Header("X-Fleet", lambda: ["s3cret"])) as rig:
        headers = {"Content-Type": "text/plain", "X-Fleet": "s3cret", "Cookie": "a=b", "X-Request-Id": "r1"}
        await rig.send(b'[{"event":"a"},{},7]', headers=headers)
        await rig.send(b"{}", headers=headers)

        kept = [(body, json.loads(headers), element) for body, headers, element in await rows(rig.database, KEPT)]
        request = {"content-type": "text/plain", "x-request-id": "r1"}
        assert kept == [(b"{}", request, 1), (b"7", request, 2), (b"{}", request, None)]


async def test_kept_headers_say_of_the_kept_bytes_how_they_are_coded(rig: WebhookRig) -> None:
    """What was inflated is no gzip any more; what could not be still is."""
    gzipped = {"Content-Encoding": "gzip", "X-A": "b"}
    await rig.send(gzip.compress(b"{}"), headers=gzipped)
    await rig.send(b"no gzip", headers=gzipped)

    assert [json.loads(headers) for _, headers, _ in await rows(rig.database, KEPT)] == [
        {"x-a": "b"},
        {"content-encoding": "gzip", "x-a": "b"},
    ]


async def test_neighbours_of_a_reject_are_stored(rig: WebhookRig) -> None:
    """A bad element costs the others nothing, and the answer stays 204."""
    assert await code_of(rig.send(b'[{"event":"a"},{"event":""},{"event":"b"}]')) == 204
    assert await rows(rig.database, NAMES) == [("a",), ("b",)]
    assert await rows(rig.database, REASONS) == [("missing_name",)]


async def test_on_reject_refuse_answers_422_and_keeps_it(make: Make) -> None:
    """`on_reject = refuse` tells the sender, keeps the reject all the same, and stores its neighbours."""
    async with make(refuse_rejects=True) as rig:
        assert await code_of(rig.send(b'[{"event":"a"},{}]')) == 422
        assert await code_of(rig.send(b'[{"event":"hook-sent/a"},{"event":"c"}]')) == 204

        assert await rows(rig.database, NAMES) == [("a",), ("c",)]
        assert await rows(rig.database, REASONS) == [("missing_name",)]


async def test_a_batch_is_answered_by_its_worst_element(make: Make) -> None:
    """Deferred is worse than rejected, rejected than stored."""
    async with make(refuse_rejects=True) as rig:
        assert await code_of(rig.send(b'{"event":"a"}\n{"event":"b"}')) == 204
        assert await code_of(rig.send(b'{"event":"a"}\n{')) == 422
        rig.database.away = True
        assert await code_of(rig.send(b'{"event":"a"}\n{')) == 503


async def test_a_store_that_is_away_is_503_and_then_all_is_well(rig: WebhookRig) -> None:
    """The sender is told to come again and when; coming again stores it, and both are counted."""
    rig.database.away = True
    reply = await rig.send(EVENT)
    assert reply is not None
    assert (reply.code, reply.headers["retry-after"]) == (503, "5")
    assert json.loads(reply.body)["status"] == 503
    rig.database.away = False

    assert await code_of(rig.send(EVENT)) == 204
    assert await rows(rig.database, NAMES) == [("temp",)]
    assert rig.value("events_deferred_total", mode="webhook") == 1
    assert rig.value("events_stored_total", mode="webhook") == 1


async def test_a_paused_source_takes_nothing(rig: WebhookRig) -> None:
    """While draining, senders hear 503, and what was taken before is still settled."""
    rig.database.close_gate()
    taken = asyncio.create_task(rig.send(EVENT))
    await taken_by(rig)
    await rig.source.pause()

    assert await code_of(rig.send(b'{"event":"late"}')) == 503
    rig.database.open_gate()
    assert await code_of(taken) == 204
    assert await rows(rig.database, NAMES) == [("temp",)]


async def test_a_body_that_is_cut_off_is_nothing(rig: WebhookRig) -> None:
    """Where the sender goes away in the middle nothing is stored or counted as arrival, and nobody is answered."""
    assert await rig.send(EVENT[:40], hangs_up=True) is None
    assert await rig.send(hangs_up=True) is None
    assert await rig.send(b" " * (MAX_BODY + 1), hangs_up=True) is None

    assert await rows(rig.database, NAMES) == await rows(rig.database, REASONS) == []
    assert rig.value("events_received_total", mode="webhook") == 0


async def test_a_sender_that_hangs_up_while_waiting_is_still_stored(rig: WebhookRig) -> None:
    """Once the body is there the event is ours, whoever is left to hear of it."""
    rig.database.close_gate()
    sending = asyncio.create_task(rig.send(EVENT))
    await taken_by(rig)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    with capture_logs() as logged:
        rig.database.open_gate()
        assert await code_of(rig.send(EVENT)) == 204

    assert logged == []
    assert await rows(rig.database, NAMES) == [("temp",)]
    assert rig.value("events_duplicate_total", mode="webhook", kind="redelivery") == 1


@pytest.mark.parametrize("body", [b"[]", b"  [ ]\n"])
async def test_an_empty_array_is_nothing(rig: WebhookRig, body: bytes) -> None:
    """No elements are no arrivals: 204, nothing kept."""
    assert await code_of(rig.send(body)) == 204
    assert rig.value("events_received_total", mode="webhook") == 0


async def test_faults_are_problem_descriptions(rig: WebhookRig) -> None:
    """Every refusal is application/problem+json (RFC 9457) with its own length; the 204 alone is empty."""
    refusals = [
        await rig.send(method="GET"),
        await rig.send(b" " * (MAX_BODY + 1)),
        await rig.send(EVENT, headers={"Content-Encoding": "br"}),
    ]
    for reply in refusals:
        assert reply is not None
        problem = json.loads(reply.body)
        assert reply.headers["content-type"] == "application/problem+json"
        assert int(reply.headers["content-length"]) == len(reply.body)
        assert problem["status"] == reply.code
        assert problem["title"]


async def test_answers_are_counted(rig: WebhookRig) -> None:
    """Each answer is counted by its code, and one that nobody heard is not."""
    await rig.send(EVENT)
    await rig.send(EVENT)
    await rig.send(method="GET")
    await rig.send(EVENT, hangs_up=True)

    codes = {code: rig.value("ingest_responses_total", code=code) for code in ("204", "405", "503")}
    assert codes == {"204": 2, "405": 1, "503": 0}


async def test_a_clock_that_is_set_is_no_suspension(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets the time of day, forwards or back, makes no gap: only seconds that passed count."""
    ahead = [timedelta()]
    monkeypatch.setattr("tests.support.webhook_rig._now", lambda: datetime.now(UTC) + ahead[0])
    async with make() as rig:
        running = asyncio.create_task(rig.source.run())
        until = 0
        for hours in (0, 1, -1):
            ahead[0] = timedelta(hours=hours)
            for _ in range(2):  # the first extension may have begun before
                before = until
                while until == before:
                    await asyncio.sleep(0.002)
                    until = (await rows(rig.database, "SELECT max(until) FROM coverage"))[0][0] or 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await rows(rig.database, "SELECT count(*) FROM coverage") == [(1,)]
        assert await rows(rig.database, "SELECT cause FROM gaps") == []


SECRET, WRONG = "s3cret-of-the-hook", "an-old-secret"


@pytest.mark.parametrize(
    ("auth", "headers", "query", "reason"),
    [
        (credentials.Header("X-Key", lambda: [SECRET]), {}, b"", "the header X-Key is missing"),
        (
            credentials.Header("X-Key", lambda: [SECRET]),
            {"X-Key": WRONG},
            b"",
            "the header X-Key is none of the secrets",
        ),
        (credentials.Header("X-Key", lambda: [SECRET]), {"X-Kye": SECRET}, b"", "the header X-Key is missing"),
        (credentials.Header("User-Agent", lambda: [SECRET]), {"User-Agent": WRONG}, b"", "User-Agent is none of"),
        (credentials.Query("key", lambda: [SECRET]), {}, b"kye=" + SECRET.encode(), "parameter key is missing"),
        (
            credentials.Query("key", lambda: [SECRET]),
            {},
            b"key=an-old-secret&an-old-secret",
            "key is none of the secrets",
        ),
        (credentials.Bearer(lambda: [SECRET]), {"Authorization": f"Basic {WRONG}"}, b"", "does not begin with Bearer"),
        (credentials.Bearer(lambda: [SECRET]), {"Authorization": f"Bearer {WRONG}"}, b"", "not those of this source"),
        (credentials.Basic(lambda: [f"u:{SECRET}"]), {"User-Agent": SECRET}, b"", "Authorization is missing"),
        (signatures.github(lambda: [SECRET]), {"X-Hub-Signature-256": WRONG}, b"", "lacks sha256="),
        (signatures.github(lambda: [SECRET]), {"X-Hub-Signature-256": "sha256=00"}, b"", "is no signature by a secret"),
        (signatures.Stripe(lambda: [SECRET], lambda: 0.0), {"Cookie": SECRET}, b"", "stripe-signature is missing"),
        (
            signatures.StandardWebhooks(lambda: [SECRET], lambda: 0.0),
            {"Host": SECRET},
            b"",
            "missing: the header webhook-id",
        ),
    ],
)
async def test_a_refused_request_is_explained_without_its_secrets(
    make: Make, auth: credentials.Credentials, headers: dict[str, str], query: bytes, reason: str
) -> None:
    """The reason names what is wrong; no secret is shown, right or wrong, wherever it was sent."""
    async with make(auth=auth) as rig:
        assert await code_of(rig.send(EVENT, headers=headers, query=query)) == 401
        recent = rig.source.recent_requests()
    (refused,) = recent.refused
    assert recent.accepted == []
    assert reason in (refused.reason or "")
    assert refused.status == 401
    shown = repr(recent)
    assert SECRET not in shown
    assert WRONG not in shown


async def test_the_last_ten_of_each_kind_are_kept(make: Make) -> None:
    """The newest first, with what became of them; headers that are never secret are shown."""
    async with make(auth=credentials.Header("X-Key", lambda: [SECRET])) as rig:
        for number in range(12):
            headers = {"X-Key": SECRET, "Content-Type": "application/json", "User-Agent": f"sender/{number}\x1b[2J"}
            assert await code_of(rig.send(EVENT if number else b"{", headers=headers)) == 204
        assert await code_of(rig.send(EVENT, method="DELETE")) == 405
        recent = rig.source.recent_requests()
        assert [row.headers["user-agent"] for row in recent.accepted] == [f"sender/{n}?[2J" for n in range(11, 1, -1)]
        assert recent.accepted[0].headers["x-key"] == "***"
        assert recent.accepted[0].headers["content-type"] == "application/json"
        assert [(row.status, row.method, row.reason) for row in recent.refused] == [
            (405, "DELETE", "its method is neither POST nor PUT")
        ]
        assert await code_of(rig.send(b"[{}, " + EVENT + b"]", headers={"X-Key": SECRET})) == 204
        assert rig.source.recent_requests().accepted[0].reason == "1 of 2 could not be decoded; see the rejects"


async def test_strangers_make_one_line_a_minute(make: Make) -> None:
    """The first is told of at once, the others by their number with the next line."""
    async with make(auth=credentials.Header("X-Key", lambda: [SECRET])) as rig:
        with capture_logs() as logged:
            running = asyncio.create_task(rig.source.run())
            for _ in range(50):
                assert await code_of(rig.send(EVENT)) == 401
                await asyncio.sleep(0)
            while not any(line["event"] == "requests_unauthorized" for line in logged):  # noqa: ASYNC110 - a log
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        lines = [line for line in logged if line["event"] == "requests_unauthorized"]
        assert [(line["source"], line["look_at"]) for line in lines] == [
            ("fleet", "GET /api/v1/sources/fleet/requests")
        ]
        assert SECRET not in repr(lines)
        await rig.source.pause()
        assert await rows(rig.database, "SELECT outcome, sum(count) FROM tallies GROUP BY outcome") == [
            ("unauthorized", 50)
        ]
