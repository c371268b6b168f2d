"""What comes from devices never moves a terminal's cursor, whichever way it gets there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from app.api.problems import problem
from app.api.replies import json_reply
from app.cli import run
from app.cli.output import hint, show, show_json, show_table
from app.visible import visible, visible_json

HOSTILE = "\x1b]0;owned\x07\x1b[31m \u202eabc\u2066\x9b2J\x7f\r\ud800end"
FORBIDDEN = ("\x1b]", "\x1b[31m \x07", "\x07", "\u202e", "\u2066", "\x9b", "\x7f", "\r\ud800")
LOGS = """
import logging, sys
from datetime import UTC, datetime
from uuid import UUID
from app.handlers.log import LogHandler
from app.logs import configure_logs
import asyncio, structlog
from ingest.event import Event

HOSTILE = {hostile!r}
configure_logs()
event = Event(id=UUID(int=1), product=HOSTILE, device=HOSTILE, name=HOSTILE, data=HOSTILE.encode(errors="replace"),
    content_type=None, published_at=None, received_at=datetime.now(UTC), source="fleet", mode="sse", attributes={{}})
asyncio.run(LogHandler("shown").deliver([event]))
log = structlog.get_logger("ours")
log.warning("deliveries_failed", last_error=HOSTILE, nested={{"a": [HOSTILE]}}, traceback="first\\n" + HOSTILE)
for log in (log, logging.getLogger("theirs")):
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.exception("failed")
logging.getLogger("theirs").warning("of %s", HOSTILE)
"""


def at_a_terminal(program: str, **environment: str) -> str:
    """What a program writes to stderr where that is a terminal."""
    master, slave = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", program], stderr=slave, env={**os.environ, "TERM": "xterm-256color", **environment}
    )
    os.close(slave)
    written = b""
    with suppress(OSError):  # the other end is closed
        while part := os.read(master, 65536):
            written += part
    os.close(master)
    assert child.wait() == 0, written
    return written.decode(errors="surrogateescape").replace("\r\n", "\n")


def assert_harmless(text: str) -> None:
    """Nothing of HOSTILE is raw in a text, and something of it is there."""
    assert "owned" in text
    assert not [each for each in FORBIDDEN if each in text]


def test_logs_at_a_terminal_spell_out_what_came_from_outside() -> None:
    """The log handler's data, errors, tracebacks, ours and libraries'; a traceback keeps its lines."""
    shown = at_a_terminal(LOGS.format(hostile=HOSTILE))

    assert_harmless(shown)
    assert shown.count("owned") >= 8
    assert "\nfirst\n" in shown
    assert "\x1b[" in shown, "no colours: nothing was rendered for a terminal"


def test_logs_elsewhere_are_ascii() -> None:
    """A log that went to a file may be shown by a terminal later."""
    done = subprocess.run(
        [sys.executable, "-c", LOGS.format(hostile=HOSTILE)], capture_output=True, text=True, check=True
    )
    assert_harmless(done.stderr.replace("\x7f", ""))
    assert done.stderr.isascii()


def test_no_colours_where_nobody_wants_them() -> None:
    """NO_COLOR (https://no-color.org) is for logs too; an empty one is none."""
    assert "\x1b" not in at_a_terminal(LOGS.format(hostile="owned"), NO_COLOR="1")
    assert "\x1b[" in at_a_terminal(LOGS.format(hostile="owned"), NO_COLOR="")


def test_what_commands_print_is_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Sentences, hints, errors, tables and documents."""
    show(HOSTILE)
    hint(HOSTILE)
    show_table(["a", "b"], [[HOSTILE, HOSTILE]], empty="")
    show_json({"data": HOSTILE})
    run(["events", "--source", HOSTILE, "--config", HOSTILE])
    captured = capsys.readouterr()
    for text in captured:
        assert_harmless(text)
    assert "\x1b" not in captured.out


@pytest.mark.parametrize("as_problem", [False, True])
def test_answers_of_the_api_are_the_same_text_and_harmless(as_problem: bool) -> None:
    """What curl prints at a terminal: JSON's escapes for controls, and every other character as it is."""
    text = HOSTILE.replace("\ud800", "\U0001f9d3ü")
    answer = problem(422, text) if as_problem else json_reply({"detail": text})
    body = bytes(answer.body)
    assert_harmless(body.decode())
    assert json.loads(body)["detail"] == text
    assert "\U0001f9d3ü".encode() in body


def test_text_that_is_harmless_stays() -> None:
    """No letter of any script is spelled out."""
    text = "Grüße, 温度 21.5 °C, שלום 🧓"
    assert visible(text) == text
    assert visible_json(text.encode()) == text.encode()


@pytest.mark.parametrize("url", ["sqlite:///a?x.db", "sqlite:///a.db?mode=ro", "sqlite:///a?uri=true", "sqlite:///a?"])
@pytest.mark.parametrize("command", ["check", "events", "migrate", "serve --port 0"])
def test_an_unknown_option_of_sqlite_is_an_error(
    url: str, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It names the key and the option; no file of another name is opened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_STORE__URL", url)
    assert run(command.split()) == 2
    assert capsys.readouterr().err.startswith("store.url: the option ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["a\0b.db", "/a?timeout=abc", "", ":memory:", "/", "/dev/null/x"])
def test_a_url_of_sqlite_is_never_unexpected(
    value: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands behind sqlite:///, the answer is a sentence that names the key, and no ValueError."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "headrace.toml").write_text(f"[store]\nurl = {json.dumps(f'sqlite:///{value}')}\n")
    for command in ("check --connect", "migrate", "serve --port 0"):
        assert run(command.split()) in {1, 2}
        shown = capsys.readouterr().err
        assert "store.url" in shown
        assert "unexpected" not in shown


def test_a_question_mark_in_a_files_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written %3F."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_STORE__URL", "sqlite:///a%3Fx.db")
    assert run(["migrate"]) == 0
    assert "schema none to" in capsys.readouterr().out
    assert (tmp_path / "a?x.db").exists()
