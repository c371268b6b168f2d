"""A subscription in the real emulator, pulled through a proxy by a source on a real store, in `serve`'s event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.support.pubsub_rig import PubsubRig, pubsub_rig


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What `serve` runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[PubsubRig]:
    """A source that runs and can receive."""
    async with pubsub_rig(tmp_path) as rig:
        await rig.until_up()
        yield rig
