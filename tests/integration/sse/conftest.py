"""Streams over real sockets, on both event loops: what has been read, and what only seems so, is the loop's to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.support.sse_rig import SseRig, hasty, sse_rig
from tests.support.sse_upstream import SseUpstream, sse_upstream


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """`serve` runs on uvloop."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no trust of this machine's own."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
async def upstream() -> AsyncIterator[SseUpstream]:
    """A server that gives everyone a silent stream."""
    async with sse_upstream() as upstream:
        yield upstream


@pytest.fixture
async def rig(upstream: SseUpstream) -> AsyncIterator[SseRig]:
    """A source that listens to it."""
    async with sse_rig(hasty(upstream.url, lambda: "t0ken")) as rig:
        yield rig
