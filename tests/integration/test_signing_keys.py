"""Certificates are fetched, kept as long as their server says, and asked for anew when one is missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from ingest.sources.webhook.signing_keys import FetchRules, SigningKeys
from tests.support.google_keys import CertificateServer, certificates

QUICK = FetchRules(first_pause=0.01, longest_pause=0.02, timeout=5.0)
SECONDS = 20.0


@asynccontextmanager
async def kept(keys: SigningKeys) -> AsyncIterator[SigningKeys]:
    """Keys that are looked after."""
    running = asyncio.create_task(keys.run())
    try:
        yield keys
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - a condition cannot be awaited
            await asyncio.sleep(0.002)


async def test_keys_are_fetched_once_and_kept() -> None:
    """None before, then what the server publishes, however often it is asked for."""
    async with CertificateServer("one", "two") as server:
        keys = SigningKeys(server.url, QUICK)
        assert keys.current() is None
        assert keys.trouble() == "the keys that Google signs with are not there: they are being fetched"
        async with kept(keys):
            await until(keys.current)
            assert keys.current() == certificates("one", "two")
            assert keys.current() is keys.current()
            assert keys.trouble() is None
        assert server.asked == ["GET /oauth2/v1/certs HTTP/1.1"]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Cache-Control": "public, max-age=1000, must-revalidate"}, 1000),
        ({"Cache-Control": "MAX-AGE=1000"}, 1000),
        ({"Cache-Control": "max-age=1000", "Age": "400"}, 600),
        ({"Cache-Control": "max-age=1000", "Age": "soon"}, 1000),
        ({"Cache-Control": "s-max-age=5"}, 300),
        ({"Cache-Control": "max-age=5000x"}, 300),
        ({}, 300),
        ({"Cache-Control": "max-age=0"}, 60),
        ({"Cache-Control": "max-age=100", "Age": "5000"}, 60),
        ({"Cache-Control": "max-age=999999999"}, 86_400),
    ],
)
async def test_they_are_kept_as_long_as_the_server_says(headers: dict[str, str], seconds: int) -> None:
    """By max-age, less the time in other caches, within bounds; then they are in force no more, and fetched anew."""
    now = [0.0]
    async with CertificateServer("one") as server:
        server.headers = headers
        async with kept(SigningKeys(server.url, QUICK, lambda: now[0])) as keys:
            await until(keys.current)
            now[0] = seconds - 0.1
            assert keys.current() == certificates("one")
            assert len(server.asked) == 1
            server.publish("two")
            now[0] = seconds + 0.1
            assert keys.current() is None
            assert keys.trouble() is not None
            await until(keys.current)
            assert keys.current() == certificates("two")


async def test_they_are_fetched_before_they_are_too_old() -> None:
    """Nobody needs to ask: the background does, well before their time is over."""
    async with CertificateServer("one", max_age=0) as server:
        rules = FetchRules(least=100.0, early=0.0005, timeout=5.0)
        async with kept(SigningKeys(server.url, rules)) as keys:
            await until(keys.current)
            server.publish("two")
            while (current := keys.current()) != certificates("two"):
                assert current is not None
                await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, b"{}", "the answer is 500"),
        (302, b"", "the answer is 302"),
        (200, b"<html>", "malformed"),
        (200, b"[]", "Expected `object`"),
        (200, b"{}", "something else"),
        (200, b'{"one":"PEM"}', "something else"),
        (200, b'{"keys":[]}', "Expected `str`"),
        (0, b"", "RemoteProtocolError"),
    ],
)
async def test_a_fetch_that_fails_is_tried_again(status: int, body: bytes, reason: str) -> None:
    """It says why, once in the log however long it lasts, and once when it is over."""
    async with CertificateServer() as server:
        server.answer(status, body)
        with capture_logs() as logged:
            async with kept(SigningKeys(server.url, QUICK)) as keys:
                await until(lambda: len(server.asked) > 3)
                assert keys.current() is None
                assert reason in str(keys.trouble())
                server.publish("one")
                await until(keys.current)
                assert keys.trouble() is None
    assert [entry["event"] for entry in logged] == ["signing_keys_not_fetched", "signing_keys_fetched"]
    assert reason in logged[0]["error"]


async def test_a_probe_says_what_is_wrong() -> None:
    """One fetch, and nothing where it went well."""
    async with CertificateServer("one") as server:
        assert await SigningKeys(server.url).probe() is None
        server.answer(404, b"")
        assert await SigningKeys(server.url).probe() == "NoCertificates: the answer is 404"
        assert len(server.asked) == 2


async def test_a_server_that_is_not_there_is_tried_again() -> None:
    """A refused connection is a failure like others."""
    async with CertificateServer("one") as server:
        url = server.url
    async with kept(SigningKeys(url, QUICK)) as keys:
        await until(lambda: "ConnectError" in str(keys.trouble()))


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    """It is asked again after the time that a fetch may take."""
    connections = 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        rules = FetchRules(timeout=0.05, first_pause=0.01, longest_pause=0.01)
        async with kept(SigningKeys(url, rules)) as keys:
            await until(lambda: connections > 1)
            assert "Timeout" in str(keys.trouble())


async def test_old_keys_serve_while_new_ones_cannot_be_had() -> None:
    """A failing fetch costs nothing before the keys are too old."""
    now = [0.0]
    async with CertificateServer("one") as server, kept(SigningKeys(server.url, QUICK, lambda: now[0])) as keys:
        await until(keys.current)
        server.answer(503, b"")
        now[0] = 100.0
        assert keys.look_for("two")
        await until(lambda: len(server.asked) > 3)
        assert keys.current() == certificates("one")
        assert keys.trouble() is None
        now[0] = 20_000.0
        assert keys.current() is None
        assert "503" in str(keys.trouble())


async def test_a_missing_key_is_fetched_for_once_a_minute() -> None:
    """A new key is there soon; made-up ones do not make us ask and ask, and are told from it once keys are fetched."""
    now = [0.0]
    async with CertificateServer("one") as server, kept(SigningKeys(server.url, QUICK, lambda: now[0])) as keys:
        await until(keys.current)
        now[0] = 30.0
        assert keys.look_for("made up")
        assert await SigningKeys(server.url).probe() is None  # as long as a fetch for it would take
        assert len(server.asked) == 2
        now[0] = 61.0
        await until(lambda: len(server.asked) == 3)
        await until(lambda: not keys.look_for("made up"))
        now[0] = 62.0
        assert not keys.look_for("made up")

        server.publish("one", "two")
        assert all([keys.look_for("two") for _ in range(10)])  # noqa: C419 - each
        assert not keys.look_for("made up")
        assert keys.current() == certificates("one")
        now[0] = 122.0
        await until(lambda: keys.current() == certificates("one", "two"))
        assert len(server.asked) == 4


async def test_what_a_cache_holds_does_not_prove_a_key_made_up() -> None:
    """An answer that is older than the question may lack a key that is new."""
    now = [100.0]
    async with CertificateServer("one") as server, kept(SigningKeys(server.url, QUICK, lambda: now[0])) as keys:
        await until(keys.current)
        now[0] = 200.0
        assert keys.look_for("two")
        server.headers = {"Cache-Control": "max-age=1000", "Age": "30"}
        now[0] = 210.0
        await until(lambda: len(server.asked) >= 2)
        assert keys.look_for("two")

        def is_proven_made_up() -> bool:
            now[0] += 1.0  # for the least time between two fetches begins when the second one's answer was read
            return not keys.look_for("two")

        await until(is_proven_made_up)
        assert len(server.asked) >= 3


async def test_a_key_that_was_withdrawn_is_known_to_be() -> None:
    """It was among the keys and is no more: nobody fetches for it."""
    now = [0.0]
    async with CertificateServer("one", "two") as server, kept(SigningKeys(server.url, QUICK, lambda: now[0])) as keys:
        await until(keys.current)
        server.publish("one")
        now[0] = 61.0
        assert keys.look_for("made up")
        await until(lambda: keys.current() == certificates("one"))
        assert not keys.look_for("two")


async def test_key_ids_that_are_made_up_fill_no_memory() -> None:
    """The first are forgotten, and may be new again."""
    now = [0.0]
    async with CertificateServer("one") as server, kept(SigningKeys(server.url, QUICK, lambda: now[0])) as keys:
        await until(keys.current)
        assert all([keys.look_for(f"made up {number}") for number in range(1000)])  # noqa: C419 - each
        now[0] = 61.0
        await until(lambda: len(server.asked) == 2)
        await until(lambda: not keys.look_for("made up 999"))
        assert keys.look_for("made up 0")


async def test_a_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says of proxies holds for this too."""
    async with CertificateServer("one") as server:
        monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/oauth2/v1/certs"))
        for name in ("http_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        async with kept(SigningKeys("http://certificates.invalid/certs", QUICK)) as keys:
            await until(keys.current)
    assert server.asked == ["GET http://certificates.invalid/certs HTTP/1.1"]
