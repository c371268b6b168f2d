"""A receiver, and `http` handlers that post to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from app.handlers.http.handler import HttpHandler
from app.handlers.http.settings import HttpSettings
from tests.support.http_handler import Make
from tests.support.raw_receiver import (
    RawReceiver,
    raw_receiver,
)


@pytest.fixture
async def receiver() -> AsyncIterator[RawReceiver]:
    """A receiver that answers 204 until it is told otherwise."""
    async with raw_receiver() as receiver:
        yield receiver


@pytest.fixture
async def make(receiver: RawReceiver, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes handlers that are closed when the test is over."""
    async with AsyncExitStack() as stack:

        def made(**settings: Any) -> HttpHandler:
            handler = HttpSettings(**{"url": receiver.url} | settings).build("h", tmp_path)
            stack.push_async_callback(handler.close)
            return handler

        yield made
