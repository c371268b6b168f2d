"""The test upstream as a process of its own: told what to do, followed, and fast."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from tests.support.numbered import Numbered
from tests.support.raw_client import listening
from tests.support.server import PATIENCE_SECONDS
from tests.support.upstream.journal import (
    Listening,
    Sent,
    kinds,
)
from tests.support.upstream.rules import Fault
from tests.support.upstream.running import RunningUpstream, upstream_plan


def test_a_process_publishes_and_obeys(tmp_path: Path) -> None:
    """It publishes at its pace, strikes faults when told, and its journal can be followed from here."""
    plan = upstream_plan("p", tmp_path, pause_seconds=(0.001, 0.002), rules={"keep_alive": None})
    with RunningUpstream(plan) as upstream:

        async def listen() -> None:
            async with listening(upstream.url) as client:
                await client.read_until(b"}\n\n")
                upstream.wait_for(lambda: upstream.hearing() == 1, PATIENCE_SECONDS, "not heard")
                upstream.fault(Fault(kind="finish"))
                assert (await client.read_to_end()).endswith(b"0\r\n\r\n")

        asyncio.run(listen())
        upstream.wait_for(
            lambda: upstream.hearing() == 0 and upstream.newest > 50, PATIENCE_SECONDS, "no end, or no events"
        )
        upstream.pace(None)
        last = upstream.newest
        assert [entry.number for entry in upstream.stop() if isinstance(entry, Sent)] == list(range(last + 1))


def test_a_process_follows_its_schedule(tmp_path: Path) -> None:
    """The plan's faults come by themselves, each in its time."""
    schedule = [{"after": 0.1, "fault": {"type": "fault", "kind": "refuse", "seconds": 0.1}}]
    plan = upstream_plan("p", tmp_path, mode="quiet", schedule=schedule)
    with RunningUpstream(plan) as upstream:
        upstream.wait_for(
            lambda: kinds(upstream.entries).count(Listening) == 3, PATIENCE_SECONDS, "no fault, or no return"
        )
        at = {entry.listens: entry.at for entry in upstream.entries[1:] if isinstance(entry, Listening)}
        assert at[True] - at[False] == pytest.approx(0.1, abs=0.08)


def test_a_flood_is_no_bottleneck(tmp_path: Path) -> None:
    """Every event once, in order, at over 150,000 a second."""
    count = 200_000
    plan = upstream_plan("f", tmp_path, mode="flood", count=count, rules={"chunked": False, "keep_alive": None})
    events = Numbered("f", plan.started)
    frames = b"".join(b"event: temperature\ndata: %b\n\n" % events.streamed(number) for number in range(count))
    with RunningUpstream(plan), socket.create_connection(("127.0.0.1", plan.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        pieces: list[bytes] = []
        began = time.perf_counter()
        while sum(map(len, pieces)) < len(frames):
            pieces.append(client.recv(1 << 20))
        rate = count / (time.perf_counter() - began)
        _, _, body = b"".join(pieces).partition(b":ok\n\n\n")
        while len(body) < len(frames):
            body += client.recv(1 << 20)
    assert body == frames
    assert rate > 150_000
