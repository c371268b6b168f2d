"""`headrace balance` and `headrace comparison` on a store that the product itself filled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.cli import run
from storage.engine import open_database
from storage.migrate import migrate
from tests.support.cli_store import asked, dead_letter, event, fill
from tests.support.compared import GRACE, SSE, WEBHOOK, Arrived, Scene


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compare() -> None:
    """In the store of this folder, two events of which one came both ways."""

    async def work() -> None:
        database = open_database("sqlite:///headrace.db")
        await migrate(database)
        scene = Scene(database)
        await scene.compare(0)
        await scene.commit(Arrived(1, WEBHOOK, 1), Arrived(1, SSE, 2), Arrived(2, WEBHOOK, 3))
        await scene.compare(2 * GRACE)
        await database.close()

    asyncio.run(work())


def test_the_balance_is_a_table_for_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    """From received to delivered, and under each table the commands that list what left."""
    fill(event(1), event(2), event(2), dead=[dead_letter(1)])
    assert run(["balance"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["fleet", "webhook", "3", "0", "0", "1", "2", "0", "2"]
    assert "headrace rejects" in lines[2]
    assert lines[5].split()[:4] == ["fleet", "0", "0", "0"]
    assert "headrace losses" in lines[6]
    assert lines[8].split()[:2] == ["handler", "passed"]
    assert "headrace dead" in lines[10]


def test_the_balance_is_the_document_of_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    """No process is asked, so nothing is known of ambiguous numbers."""
    fill(event(1))
    found = asked(capsys, "balance")
    assert found.keys() == {"sources", "losses", "handlers"}
    assert found["losses"][0]["ambiguous"] is None


def test_the_comparison_names_what_each_way_missed(capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each set of ways in an hour; the same for programs."""
    compare()
    assert run(["comparison", "--source", "fleet"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split("  ")[0] == "hour"
    hour = "2026-07-28T10:00:00.000Z"
    assert [row.split()[:6] for row in rows] == [
        [hour, "fleet", "webhook", "1", "sse", "lost"],
        [hour, "fleet", "webhook+sse", "1", "webhook", "0.932"],
    ]
    assert [row["missed"] for row in asked(capsys, "comparison")["comparison"]] == [{"sse": "lost"}, {}]
    assert asked(capsys, "comparison --until 2026-07-28T10:00:00Z")["comparison"] == []


def test_where_nothing_is_compared_it_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """A store without a row is no fault."""
    fill(event(1))
    assert run(["comparison"]) == 0
    assert "several ways" in capsys.readouterr().out
