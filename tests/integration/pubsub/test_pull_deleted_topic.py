"""A subscription whose topic is gone can be pulled, and nothing new will ever come: the source says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

from google.pubsub_v1 import PublisherClient
from structlog.testing import capture_logs

from tests.support.emulator import publisher
from tests.support.pubsub_rig import a_message, pubsub_rig

SAID = "the subscription's topic was deleted, nothing new will come: make another one"


async def test_a_topic_that_was_deleted_is_said_and_what_is_left_is_taken(tmp_path: Path) -> None:
    """The source is not up and says why, once in the log; what was published before is stored."""
    with capture_logs() as logged:
        async with pubsub_rig(tmp_path, quiet=0.5) as rig:
            await rig.until_up()
            rig.database.away = True
            left = await rig.publish(a_message("left"))
            await asyncio.to_thread(_delete, publisher(rig.queue.host), rig.queue.topic)
            rig.database.away = False
            await rig.until_acknowledged(left)
            await rig.until(lambda: rig.source.condition().streams and rig.stream.state == "refused")
            assert rig.source.condition().reason == SAID
            assert not rig.source.condition().up
            before = rig.proxy.pulls
            await rig.until(lambda: rig.proxy.pulls > before + 1)
            assert rig.source.condition().reason == SAID
    assert [entry["event"] for entry in logged].count("pull_in_vain") == 1


def _delete(client: PublisherClient, topic: str) -> None:
    client.delete_topic(topic=topic)
