"""`headrace verify`: what it prints, and what it exits with."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.cli import run
from tests.support.cli_store import dead_letter, event, fill, shown

_WITH_SECRETS = """
[sources.fleet]
mode = "sse"
[sources.fleet.sse]
token = "${NOT_THERE}"
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _change(statement: str) -> None:
    with closing(sqlite3.connect("headrace.db")) as connection, connection:
        connection.execute(statement)


def test_a_store_that_balances_ends_with_0_and_says_what_was_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """One table, whatever secrets of the configuration are not there."""
    fill(*map(event, range(3)), dead=[dead_letter(2)])
    Path("headrace.toml").write_text(_WITH_SECRETS)
    lines = shown(capsys, "verify")
    assert lines[0] == "check of counted differences"
    assert "rows sources and modes 1 0" in lines
    assert "positions positions given 3 0" in lines
    assert "handlers cursors 1 0" in lines
    assert lines[-1] == "It balances."


def test_a_difference_ends_with_1_and_names_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """For people a table of differences, and on stderr how many there are."""
    fill(*map(event, range(3)), dead=[dead_letter(2)])
    _change("DELETE FROM deliveries")
    assert run(["verify"]) == 1
    captured = capsys.readouterr()
    heading, row = (" ".join(line.split()) for line in captured.out.splitlines())
    assert heading == "check where expected found difference look at"
    assert row.startswith("handlers alerts, positions 1..2 2 1 -1 cursors WHERE handler = 'alerts'; deliveries WHERE")
    assert captured.err.startswith("the store does not balance: 1 difference.")


def test_programs_get_one_document_either_way(capsys: pytest.CaptureFixture[str]) -> None:
    """It says whether the store balances, what was counted, and each difference."""
    fill(*map(event, range(3)))
    assert run(["verify", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["balances"] is True
    assert document["sources"] == [{"source": "fleet", "mode": "webhook", "expected": 3, "found": 3}]
    assert document["differences"] == []
    _change("UPDATE tallies SET count = 5")
    assert run(["verify", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["balances"] is False
    assert [(found["check"], found["difference"]) for found in document["differences"]] == [
        ("rows", -2),
        ("positions", -2),
    ]


def test_what_cannot_be_asked_is_usage_and_a_store_that_is_not_there_a_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """2 for an option that is none, 1 for a store that is not there."""
    assert run(["verify", "--nonsense"]) == 2
    assert run(["verify"]) == 1
    assert "there is no database headrace.db yet" in capsys.readouterr().err
