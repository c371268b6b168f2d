"""The same events by several modes of one source: each is stored once, and every other copy is an overlap."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.chaos.pubsub_scene import RUN, Publishing, Scene, pubsub_server
from tests.chaos.scene import PATH, SQLITE, store_of
from tests.chaos.stream_scene import TOKEN
from tests.support.emulator import new_queue, session_emulator
from tests.support.numbered import Numbered
from tests.support.observed import duplicates, pages
from tests.support.oracle import Load, get_json, plan
from tests.support.server import PATIENCE_SECONDS, wait_until
from tests.support.upstream.running import RunningUpstream, upstream_plan

COUNT, HEAD_START = 2_000, 100
SIGHTED = 50
RATE, BURST = 1500.0, 50
PAUSE_SECONDS = (0.0003, 0.0005)
_STREAM = """
[sources.fleet.sse]
url = "{url}"
token = "{token}"
"""


@pytest.mark.parametrize("modes", [["webhook", "pubsub"], ["webhook", "sse", "pubsub"]])
def test_events_that_come_by_several_modes_are_stored_once(modes: list[str], tmp_path: Path) -> None:
    """All events by each mode at once: one id each, the first copy stored, and each of the others an `overlap`.

    Each mode has a head start of its own.
    """
    started = datetime.now(UTC)
    rules = {"token": TOKEN, "backlog": 1 << 24}
    upstream = RunningUpstream(
        upstream_plan(RUN, tmp_path, started=started, rules=rules, pause_seconds=None, count=COUNT)
    )
    queue = new_queue(session_emulator().host)
    with ExitStack() as stack:
        stack.enter_context(upstream)
        store = stack.enter_context(store_of(SQLITE, tmp_path))
        mode = "[" + ", ".join(f'"{mode}"' for mode in modes) + "]"
        more = _STREAM.format(url=upstream.url, token=TOKEN)
        server = stack.enter_context(pubsub_server(store, tmp_path, queue, queue.host, mode=mode, more=more))
        scene = Scene(server, queue, store, Numbered(RUN, started))
        upstream.wait_for(
            lambda: upstream.hearing() == modes.count("sse"), PATIENCE_SECONDS, "the stream does not open"
        )
        scene.publish(range(COUNT)[-HEAD_START:])
        scene.wait_stored(HEAD_START)
        ahead = HEAD_START
        if "sse" in modes:
            upstream.pace(PAUSE_SECONDS)
            scene.wait_stored(2 * HEAD_START)
            upstream.pace(None)
            ahead += upstream.newest
        hooks = plan(server.url + PATH, RUN, tmp_path, started=started, count=COUNT, rate=RATE)
        with Load(hooks) as load:
            load.wait_for(lambda progress: progress.acknowledged > ahead, PATIENCE_SECONDS, "no load")
            upstream.pace(PAUSE_SECONDS)  # overtakes
            with Publishing(
                queue, scene.messages(range(COUNT)[-HEAD_START - 1 :: -1]), RATE, BURST
            ) as publishing:  # comes to meet
                report, _ = load.finish(PATIENCE_SECONDS)
                publishing.wait_done()
            assert report.answers == {"204": COUNT}
        copies = COUNT * (len(modes) - 1)
        wait_until(
            lambda: duplicates(server.url).total() >= copies, PATIENCE_SECONDS, "not every copy was counted", every=0.1
        )
        assert duplicates(server.url) == {"overlap": copies, "redelivery": 0, "redundant": 0, "resend": 0}
        assert scene.wait_settled()["stored"] == COUNT
        scene.verify(COUNT)
        events = list(pages(server.url, "events"))
        assert {event["mode"] for event in events} == set(modes), "they did not come at once"
        for event in events[:: COUNT // SIGHTED]:
            found = get_json(f"{server.url}/api/v1/events/{event['id']}")
            assert sorted([found["mode"], *(each["mode"] for each in found["sightings"])]) == sorted(modes)
