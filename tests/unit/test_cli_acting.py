"""What the commands that act on handlers and dead letters do; on a database that the product itself filled."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from app.cli import run
from ingest.deliveries import Parked
from tests.support.cli_store import START, asked, dead_letter, event, fill, id_of, positions, shown


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_dead_letters_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    """Dead letters come with their event and error: of one handler in the API's shape, or of every one."""
    fill(event(1), event(2), dead=[dead_letter(1), dead_letter(2, "KeyError: 'x'")])
    document = asked(capsys, "dead alerts")
    assert [(row["event"]["id"][-1], row["error"]) for row in document["dead"]] == [
        ("1", "ValueError: no such rule"),
        ("2", "KeyError: 'x'"),
    ]
    assert [handler["handler"] for handler in asked(capsys, "dead")["handlers"]] == ["alerts"]
    assert run(["dead"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["alerts", "1", str(id_of(1))]


def test_dead_letters_are_shown_by_cause(capsys: pytest.CaptureFixture[str]) -> None:
    """--cause leaves those that failed by it; --by-cause counts each cause and error, the most frequent first."""
    late = [dead_letter(at, "not done in time", "timeout") for at in (1, 3)]
    fill(*map(event, range(1, 4)), dead=[*late, dead_letter(2, "answered 410", "gone")])
    (gone,) = asked(capsys, "dead alerts --cause gone")["dead"]
    assert (gone["position"], gone["cause"], gone["attempt_count"]) == (2, "gone", 3)
    (_, *table) = shown(capsys, "dead --by-cause")
    at = "2026-07-28T12:00:00.000Z"
    assert table == [f"alerts timeout 2 {at} {at} not done in time", f"alerts gone 1 {at} {at} answered 410"]
    document = asked(capsys, "dead alerts --by-cause --cause gone")
    assert document["handler"] == "alerts"
    assert [(row["cause"], row["count"]) for row in document["causes"]] == [("gone", 1)]


@pytest.mark.parametrize("command", ["dead rules", "redrive rules --all", "pause rules", "resume rules"])
def test_a_handler_that_never_ran_is_a_fault(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt handler ends with 1, and the sentence names those that there are."""
    fill(event(1), dead=[dead_letter(1)])
    assert run(command.split()) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "no handler rules ran on this store yet: the ones that did are alerts\n"


def test_redrive_gives_dead_letters_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are named, or all, wait for another try and are dead no more."""
    fill(*map(event, range(1, 4)), dead=[dead_letter(1), dead_letter(2), dead_letter(3)])
    assert run(["redrive", "alerts", "--id", str(id_of(1))]) == 0
    assert capsys.readouterr().out == "alerts gets 1 dead letter again.\n"
    (row,) = asked(capsys, "handlers")["handlers"]
    assert (row["retries"], row["dead"]) == (1, 2)
    assert run(["redrive", "alerts", "--all"]) == 0
    capsys.readouterr()
    (row,) = asked(capsys, "handlers")["handlers"]
    assert (row["retries"], row["dead"]) == (3, 0)


def test_redrive_names_what_is_no_dead_letter(capsys: pytest.CaptureFixture[str]) -> None:
    """An id that is none of the dead letters is a fault (1); the others are redriven all the same."""
    fill(event(1), event(2), dead=[dead_letter(1)])
    assert run(["redrive", "alerts", "--id", str(id_of(2)), "--id", str(id_of(1))]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("alerts gets 1 ")
    assert captured.err == f"these are no dead letters of alerts: {id_of(2)}\n"


def test_dead_letters_are_deleted_when_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are named, or all, are gone; what waits for a retry stays, and so do the events."""
    waiting = Parked(4, "dev-1", attempts=1, first_failed_at=START, due_at=START, error="")
    fill(*map(event, range(1, 5)), dead=[dead_letter(1), dead_letter(2), dead_letter(3), waiting])
    assert run(["dead", "alerts", "--delete", "--id", str(id_of(1)), "--id", str(id_of(4))]) == 1
    captured = capsys.readouterr()
    assert captured.out == "1 dead letter of alerts deleted.\n"
    assert captured.err == f"these are no dead letters of alerts: {id_of(4)}\n"
    assert run(["dead", "alerts", "--delete", "--all"]) == 0
    assert capsys.readouterr().out == "2 dead letters of alerts deleted.\n"
    (row,) = asked(capsys, "handlers")["handlers"]
    assert (row["retries"], row["dead"]) == (1, 0)
    assert positions(asked(capsys, "events")) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "command",
    [
        "--delete",
        "alerts --delete --cause mood",
        "alerts --delete --cause gone --all",
        "alerts --delete --all --by-cause",
        "--delete --all",
        "alerts --delete",
        "alerts --all",
        "alerts --delete --all --id {id}",
    ],
)
def test_nothing_is_deleted_by_half_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What to delete is said in full: the handler, --delete, and either ids or all; else it is bad usage."""
    fill(event(1), dead=[dead_letter(1)])
    assert run(["dead", *command.format(id=id_of(1)).split()]) == 2
    capsys.readouterr()
    assert len(asked(capsys, "dead alerts")["dead"]) == 1


def test_dead_letters_of_one_cause_are_redriven_or_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    """Every condition that is given narrows the choice: cause, and when they failed first."""
    causes = ["timeout", "gone", "timeout", "timeout"]
    fill(*map(event, range(1, 5)), dead=[dead_letter(at, cause=cause) for at, cause in enumerate(causes, 1)])
    for command, said in (
        ("redrive alerts --cause gone --until 2026-07-28T12:00:00Z", "alerts gets 0 dead letters again."),
        ("redrive alerts --cause gone --since 2026-07-28T12:00:00Z", "alerts gets 1 dead letter again."),
        (f"redrive alerts --cause timeout --id {id_of(3)}", "alerts gets 1 dead letter again."),
        ("dead alerts --delete --cause timeout", "2 dead letters of alerts deleted."),
    ):
        assert run(command.split()) == 0
        assert capsys.readouterr().out == f"{said}\n"


def test_a_redrive_with_a_rate_takes_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Between steps it waits, so that no more than the rate are given back in a second."""
    fill(*map(event, range(1, 5)), dead=[dead_letter(at) for at in range(1, 5)])
    begun = time.monotonic()
    assert run(["redrive", "alerts", "--all", "--rate", "10/s"]) == 0
    assert time.monotonic() - begun >= 0.2, "two and two"
    assert capsys.readouterr() == ("alerts gets 4 dead letters again.\n", "")


def test_a_handler_is_paused_and_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command says what it changed, may be repeated, and `handlers` shows the state."""
    fill(event(1), dead=[dead_letter(1)])
    for command, said, state in (
        ("pause", "alerts is paused now; `headrace resume alerts` ends it.", "paused"),
        ("pause", "alerts was paused already; `headrace resume alerts` ends it.", "paused"),
        ("resume", "alerts delivers again.", "stopped"),
        ("resume", "alerts was not paused.", "stopped"),
    ):
        assert run([command, "alerts"]) == 0
        assert capsys.readouterr().out == f"{said}\n"
        (row,) = asked(capsys, "handlers")["handlers"]
        assert (row["state"], row["paused_because"]) == (state, _BECAUSE if state == "paused" else None)


_BECAUSE = "asked for by headrace pause"


def test_a_handler_is_tried_with_a_sample_or_a_stored_event(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What took how long and what was answered is printed; where it failed the exit code is 1, and nothing changes."""
    (tmp_path / "tried_by_hand.py").write_text("def on_event(event):\n    assert event.name != 'temperature', 'cold'\n")
    Path("headrace.toml").write_text('[handlers.alerts]\ntype = "python"\ncall = "tried_by_hand:on_event"\n')
    assert run(["test-handler", "alerts"]) == 0
    assert re.fullmatch(r"[0-9a-f-]{36} \(a sample\): 0\.\d{3} s\nalerts took it\.\n", capsys.readouterr().out)
    fill(event(1), dead=[dead_letter(1)])
    before = asked(capsys, "handlers"), asked(capsys, "dead")
    assert run(["test-handler", "alerts", "--id", str(id_of(1))]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{id_of(1)} (temperature): 0.")
    assert captured.err.startswith("alerts did not take it (handler_error): AssertionError: cold")
    assert (asked(capsys, "handlers"), asked(capsys, "dead")) == before


def test_only_what_is_there_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    """A handler that is not configured is bad usage (2), an unknown event a fault (1)."""
    fill(event(1))
    Path("headrace.toml").write_text('[handlers.alerts]\ntype = "log"\n')
    assert run(["test-handler", "rules"]) == 2
    said = "handlers.rules: expected a handler of the configuration; there are alerts\n"
    assert capsys.readouterr().err == said
    assert run(["test-handler", "alerts", "--id", str(id_of(2))]) == 1
    assert capsys.readouterr().err.startswith(f"there is no event {id_of(2)} in the store")
