"""`headrace sources` says who is listening, from the store alone: since when, by how many streams, or why nobody is."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli import run
from ingest.event import Cause, Origin
from storage.coverage import SqlCoverage
from storage.engine import open_database
from storage.migrate import migrate

WEBHOOK = Origin("tracker", "fleet", "webhook")
SSE = Origin("tracker", "fleet", "sse")
CONFIG = """
[sources.fleet]
product = "tracker"
mode = ["webhook", "sse", "pubsub"]
[sources.fleet.sse]
token = "t0ken"
idle_timeout = "5m"
[sources.fleet.pubsub]
subscription = "projects/p/subscriptions/s"
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("headrace.toml").write_text(CONFIG)


def listen(act: Callable[[SqlCoverage], Awaitable[object]]) -> None:
    """Write down in the store of this folder what somebody heard."""

    async def work() -> None:
        database = open_database("sqlite:///headrace.db")
        await migrate(database)
        await act(SqlCoverage(database))
        await database.close()

    asyncio.run(work())


def sources(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `sources --json` shows, by mode."""
    assert run(["sources", "--json"]) == 0
    return {row["mode"]: row for row in json.loads(capsys.readouterr().out)["sources"]}


def cells(capsys: pytest.CaptureFixture[str], mode: str) -> list[str]:
    """What the table shows of a mode, behind source, mode and product."""
    assert run(["sources"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if f" {mode} " in line]
    return line.split()[3:]


def test_streams_that_listen(capsys: pytest.CaptureFixture[str]) -> None:
    """Since the last gap, by so many streams, proven until then; one that is silent too long counts no more."""

    async def act(coverage: SqlCoverage) -> None:
        lost = await coverage.open(SSE, 0, 2000)
        await coverage.end(lost.interval, Cause.IDLE, 1900)
        for stream, proven in ((0, 280), (1, 60), (2, 400)):
            opened = await coverage.open(SSE, stream, 1800)
            await coverage.extend(opened.interval, proven)

    listen(act)
    row = sources(capsys)["sse"]
    assert (row["state"], row["reason"]) == ("running", None)
    assert row["covered_since"] < row["since"] < row["covered_until"]
    assert [stream["stream"] for stream in row["streams"]] == [0, 1]
    assert row["streams"][1]["covered_until"] == row["covered_until"]
    assert cells(capsys, "sse")[:4] == ["running", row["since"], "2", row["covered_until"]]


def test_a_source_in_a_gap(capsys: pytest.CaptureFixture[str]) -> None:
    """It is down since the gap began, by its cause; in the words of the API and the page."""

    async def act(coverage: SqlCoverage) -> None:
        lost = await coverage.open(SSE, 0, 200)
        await coverage.end(lost.interval, Cause.UNAUTHORIZED, 100)

    listen(act)
    row = sources(capsys)["sse"]
    assert (row["state"], row["reason"]) == ("down", "unauthorized")
    assert (row["since"], row["streams"]) == (row["open_gap"]["since"], [])
    assert row["since"] == row["covered_until"]
    assert cells(capsys, "sse")[:5] == ["down:", "unauthorized", row["since"], "0", row["covered_until"]]


def test_a_process_that_was_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody wrote that it listens no more: it is down since it was last proven, as the gap to come will say."""

    async def act(coverage: SqlCoverage) -> None:
        opened = await coverage.open(WEBHOOK, 0, 200)
        await coverage.extend(opened.interval, 100)

    listen(act)
    row = sources(capsys)["webhook"]
    assert (row["state"], row["since"], row["streams"]) == ("down", row["covered_until"], [])


def test_a_way_of_which_nothing_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    """Pub/Sub keeps no such record, and one that never started has none: blanks, and null for programs."""
    listen(lambda coverage: coverage.open(WEBHOOK, 0))
    rows = sources(capsys)
    for mode in ("sse", "pubsub"):
        row = rows[mode]
        assert (row["state"], row["since"], row["covered_until"], row["streams"]) == (None, None, None, [])
        assert cells(capsys, mode) == ["0"] * 6
    assert rows["webhook"]["state"] == "running"
