"""The sketch of docs/receipts.md against a server: what a device keeps in flash reaches the database."""

from __future__ import annotations

import json
import random
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.device import Device, build
from tests.support.documents import block
from tests.support.server import PATIENCE_SECONDS, Server, wait_until

COUNT = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as the page configures it."""
    config = block("docs/receipts.md", "toml", "receipt").replace("${HOOK_SECRET}", "a-secret-of-the-test")
    with Server(tmp_path_factory.mktemp("server"), config) as server:
        yield server


@contextmanager
def running(server: Server, flash: Path, changed: tuple[str, str] = ("", "")) -> Iterator[Device]:
    """A device that posts to the server; `changed`: see build."""
    program = build(flash, changed)
    device = Device(program, f"{server.url}/ingest/fleet", "a-secret-of-the-test", random.Random(flash.name))
    try:
        yield device
    finally:
        device.stop()


def drive(device: Device, run: str) -> None:
    """Let a device keep COUNT events, while its power fails; return when its flash is empty."""
    for number in range(COUNT):
        device.keep(f'{{"run":"{run}","reading":{number}}}')
        if number % 12 == 7:
            device.power_cut()
        else:
            wait_until(lambda: not device.keeping, PATIENCE_SECONDS, "the device keeps nothing")
    wait_until(lambda: not device.waiting, PATIENCE_SECONDS, lambda: f"still in flash: {device.waiting}")


def stored(server: Server, run: str) -> dict[str, set[str]]:
    """The data that the server has under each number."""
    found: dict[str, set[str]] = {}
    after = 0
    while True:
        with urllib.request.urlopen(f"{server.url}/api/v1/events?limit=1000&after={after}", timeout=10) as answer:
            page = json.load(answer)
        for event in page["events"]:
            if f'"run":"{run}"' in event["data"]:
                found.setdefault(event["name"].removeprefix("loc/"), set()).add(event["data"])
        if page["next"] is None:
            return found
        after = page["next"]


def test_what_was_kept_in_flash_is_in_the_database(server: Server, tmp_path: Path) -> None:
    """Events and receipts are lost, late and repeated, power and server fail: nothing kept is missing or mixed up."""
    with running(server, tmp_path) as device:
        drive(device, "before")
        device.keep('{"run":"after","reading":1}')
        server.kill()
        wait_until(lambda: not device.keeping, PATIENCE_SECONDS, "the device keeps nothing")
        assert device.waiting
        server.start()
        drive(device, "after")

        assert len(device.kept) > 1.8 * COUNT
        found = {**stored(server, "before"), **stored(server, "after")}
        assert {number: {data} for number, data in device.kept.items()}.items() <= found.items()


@pytest.mark.parametrize(
    "changed",
    [
        ("sentAt = millis();", "sentAt = millis(), unlink(fileOf(n));"),
        ("unlink(fileOf(strtoul(n + 5, nullptr, 10)))", "unlink(fileOf(n ? oldest() : 0))"),
    ],
    ids=["forgets when it sends", "takes any receipt for the oldest"],
)
def test_a_device_that_forgets_too_early_loses_events(server: Server, tmp_path: Path, changed: tuple[str, str]) -> None:
    """The test above can fail: it does where the sketch does not wait for the receipt of that number."""
    with running(server, tmp_path, changed) as device:
        drive(device, tmp_path.name)
        assert device.kept.keys() - stored(server, tmp_path.name).keys()
