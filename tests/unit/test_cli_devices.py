"""`headrace devices` on a database as the books fill it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from app.cli import run
from storage.books.sql import DAY
from storage.engine import open_database
from tests.support.cli_store import asked, fill, shown
from tests.support.heard_devices import HOUR, a_counter, a_device, a_loss, keep


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "headrace.toml").write_text('[sources.fleet]\nsilent_after = "2h"\n')
    fill()


def listed() -> None:
    """In the store of this folder: a device that goes on, and two that stopped."""
    now = time.time_ns() // 1000

    def heard(device: str, ago: int, product: str = "tracker") -> dict[str, object]:
        at = now - ago * HOUR
        return a_device(device, product=product, heard_at=at, last_at=at, first_at=at - 8 * DAY, day=at // DAY)

    async def work() -> None:
        database = open_database("sqlite:///headrace.db")
        rows = [heard("a", 0), heard("b", 3), heard("c", 50, "boron")]
        await keep(database, rows, [a_loss(1, "a")], [a_counter("b", 41, now - 3 * HOUR)])
        await database.close()

    asyncio.run(work())


def test_devices_that_stopped_are_one_list(capsys: pytest.CaptureFixture[str]) -> None:
    """The longest silent first, with what each usually sends, its last number, and since when nothing came."""
    listed()
    heading, *rows = shown(capsys, "devices --silent")
    assert heading == (
        "product device source last event today usually firmware last number missing unconfirmed silent since"
    )
    assert [row.split()[1] for row in rows] == ["c", "b"]
    assert "tracker b fleet 3 h ago" in rows[1]
    assert rows[1].endswith("18.3 91 41 0 behind 41 3 h ago")
    assert rows[0].endswith("0 2 d ago")


def test_devices_are_filtered_and_ordered(capsys: pytest.CaptureFixture[str]) -> None:
    """By product, by what is missing, by id or by when they were heard, both ways, and on from page to page."""
    listed()

    def devices(command: str) -> list[str]:
        return [row["device"] for row in asked(capsys, f"devices {command}")["devices"]]

    assert devices("") == ["c", "a", "b"]  # boron's first
    assert devices("--order -device") == ["b", "a", "c"]
    assert devices("--order heard") == ["c", "b", "a"]
    assert devices("--product tracker --silent") == ["b"]
    assert devices("--missing") == ["a"]
    first = asked(capsys, "devices --order heard --limit 2")
    assert devices(f"--order heard --after {first['next']}") == ["a"]
    assert run(["devices", "--order", "heard", "--limit", "2"]) == 0
    assert f"--after {first['next']}" in capsys.readouterr().err
    assert asked(capsys, "devices --silent")["devices"][1]["unconfirmed"]["number"] == 41


def test_where_none_is_silent_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty list is a sentence."""
    assert shown(capsys, "devices --silent") == ["There are no such devices."]


@pytest.mark.parametrize("after", ["???", "W10", "WyJ0cmFja2VyIiwiYSJd"])
def test_what_no_list_ended_with_is_a_mistake(after: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and what was expected; also where a list ended that was in another order."""
    assert run(["devices", "--order", "heard", "--after", after]) == 2
    assert "of a page in the same order" in " ".join(capsys.readouterr().err.split())
