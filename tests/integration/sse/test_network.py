"""The SSE source through what stands between us and upstream: TLS, and the proxies of companies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from ingest.event import Cause
from tests.support.sse_rig import hasty, sse_rig
from tests.support.sse_upstream import sse_upstream
from tests.support.tls import self_signed


class Proxy:
    """Takes CONNECT only; `answer` is what it says to it instead of connecting."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.answer: bytes | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        method, target, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
        assert method == "CONNECT"
        self.targets.append(target)
        if self.answer is not None:
            writer.write(self.answer)
            writer.close()
            return
        host, _, port = target.partition(":")
        there, back = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
    writer.close()


@asynccontextmanager
async def a_proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """A proxy that HTTPS_PROXY names."""
    proxy = Proxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield proxy
    finally:
        server.close()


async def test_a_certificate_nobody_trusts_is_named(tmp_path: Path) -> None:
    """A plain sentence, and no traceback; no token was sent."""
    context, _ = self_signed(tmp_path)
    async with sse_upstream(context) as upstream, sse_rig(hasty(upstream.url, lambda: "t0ken")) as rig:
        await rig.until_lost(Cause.ERROR)
        assert rig.source.condition().reason == "certificate not trusted: self-signed certificate"
        assert not upstream.requests


async def test_a_certificate_for_another_name_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trusted, but not for this host."""
    context, file = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with sse_upstream(context) as upstream, sse_rig(hasty(upstream.url.replace("127.0.0.1", "localhost"))) as rig:
        await rig.until_lost(Cause.ERROR)
        assert (rig.source.condition().reason or "").startswith("certificate not trusted: Hostname mismatch")


async def test_plain_text_where_tls_is_expected_is_named() -> None:
    """A wrong scheme in the URL looks like that."""

    def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server, sse_rig(hasty(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/events")) as rig:
        await rig.until_lost(Cause.ERROR)
        assert (rig.source.condition().reason or "").startswith("TLS failed: ")


async def test_a_trusted_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE adds a company's own; over TLS bytes prove as much, and a cut is noticed."""
    context, file = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with sse_upstream(context) as upstream, sse_rig(hasty(upstream.url)) as rig:
        channel = await upstream.channel()
        await rig.until_up()
        for number in range(3):
            await channel.event("temp", number)
        await rig.until(lambda: rig.numbers == [0, 1, 2])
        await rig.until_proven(channel.say, lambda: rig.has_proven)
        channel.reset()
        await rig.until(lambda: rig.coverage.causes[:1] in ([Cause.ERROR], [Cause.CLOSED]))


async def test_https_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream goes through the proxy that the environment names, and the proxy sees nothing of it."""
    context, file = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with (
        a_proxy(monkeypatch) as proxy,
        sse_upstream(context) as upstream,
        sse_rig(hasty(upstream.url, lambda: "t0ken")) as rig,
    ):
        channel = await upstream.channel()
        await channel.event("temp", 1)
        await rig.until(lambda: rig.numbers == [1])
        assert proxy.targets == [f"127.0.0.1:{upstream.port}"]
        assert channel.request.headers["authorization"] == "Bearer t0ken"


async def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no connection, and tried again like any other."""
    async with a_proxy(monkeypatch) as proxy:
        proxy.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        async with sse_rig(hasty("https://upstream.invalid/events")) as rig:
            await rig.until_lost(Cause.REFUSED)
            assert "the proxy refused the connection: 407" in (rig.source.condition().reason or "")
            await rig.until(lambda: len(proxy.targets) >= 2)
