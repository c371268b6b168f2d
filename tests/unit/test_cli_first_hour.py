"""What a new user types in the first hour: help, completion, one event, new events, tables into a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import run
from app.cli.output import show_table
from tests.support.cli_store import dead_letter, event, fill, id_of

HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
CONFIG = """
[sources.fleet]
mode = "webhook"
[sources.fleet.sse]
token = "t"
[sources.fleet.pubsub]
subscription = "projects/p/subscriptions/s"
[sources.other]
mode = ["webhook", "sse"]
[sources.other.webhook]
[sources.other.sse]
token = "t"
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", [[], ["events"], ["redrive"], ["serve"]])
def test_h_is_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """-h says what --help says, of the program and of every command."""
    assert run([*command, "--help"]) == 0
    long = capsys.readouterr().out
    assert run([*command, "-h"]) == 0
    assert capsys.readouterr().out == long


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(shell: str) -> None:
    """A shell asks by the environment; the script that asks is printed for it."""
    asking = {"_HEADRACE_COMPLETE": f"complete_{shell}", "COMP_WORDS": "headrace ev", "COMP_CWORD": "1"}
    asking |= {"_TYPER_COMPLETE_ARGS": "headrace ev", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    shown = subprocess.run(
        [sys.executable, "-m", "app.cli"], env={**HERE, **asking}, capture_output=True, text=True, check=True
    )
    assert "events" in shown.stdout
    assert "rejects" not in shown.stdout
    script = subprocess.run(
        [sys.executable, "-c", "import sys; from app.cli import run; sys.exit(run())", "--show-completion", shell],
        env={**HERE, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_HEADRACE_COMPLETE" in script.stdout


def test_one_event_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    """--id shows its parts, whole data, and what became of it; --json is the API's document."""
    fill(event(1, data=b"x" * 3000), event(2), dead=[dead_letter(1)])
    assert run(["events", "--id", str(id_of(1))]) == 0
    shown = capsys.readouterr().out
    assert "x" * 3000 in shown
    rows = dict(line.split(maxsplit=1) for line in shown.splitlines() if line)
    assert (rows["id"], rows["position"]) == (str(id_of(1)), "1")
    assert rows["alerts"].startswith("dead ")
    assert run(["events", "--id", str(id_of(1)), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["position"], document["deliveries"][0]["state"]) == (1, "dead")
    assert run(["events", "--id", str(id_of(9))]) == 1
    assert "there is no event" in capsys.readouterr().err
    assert run(["events", "--id", str(id_of(1)), "--name", "a"]) == 2


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_new_events_are_followed(form: list[str]) -> None:
    """Those that pass the filter come as they are committed, a line each, from now on or behind --after."""
    fill(event(1), event(2))
    command = [sys.executable, "-m", "app.cli", "events", "--follow", "--device", "dev-1", *form]
    with subprocess.Popen([*command, "--after", "1"], env=HERE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        fill(event(3), event(4, device="another"), event(5))
        lines += [process.stdout.readline() for _ in range(2)]
        process.terminate()
    positions = [json.loads(line)["position"] if form else int(line.split()[0]) for line in lines]
    assert positions == [2, 3, 5]


def test_a_table_in_a_file_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """However long a cell is; its columns stay columns, also for wide characters."""
    show_table(["a", "number", "c"], [["x" * 5000, 7, "y" * 5000], ["温度", 12, None]], empty="")
    first, second, third = capsys.readouterr().out.splitlines()
    assert second == f"{'x' * 5000}       7  {'y' * 5000}"
    assert third == f"温度{' ' * 4996}      12"
    assert first == f"a{' ' * 5001}number  c"


def test_an_error_is_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """At a narrow terminal it takes several lines, where data is cut."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    error = "ConnectionError: " + "e" * 400 + " the end"
    for heading, whole in (("error", True), ("last error", True), ("data", False)):
        show_table(["handler", heading], [["alerts", error]], empty="")
        shown = capsys.readouterr().out
        assert ("the end" in shown) == whole
        assert max(map(len, shown.splitlines())) <= 60
        assert ("…" in shown) != whole


def test_tables_of_modes_that_do_not_run_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """check says which tables of the file have no effect, and how they would."""
    Path("headrace.toml").write_text(CONFIG)
    assert run(["check"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "not used" in line]
    assert sorted(said) == [
        f'sources.fleet.{mode}: not used, as sources.fleet.mode is webhook; put "{mode}" there to run it'
        for mode in ("pubsub", "sse")
    ]
