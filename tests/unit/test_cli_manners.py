"""The command line's manners: help, exit codes, and faults as plain sentences without secrets."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.cli import run
from app.times import time_of
from storage.migrate import newest_revision

READING = ("events", "gaps", "losses", "rejects", "sources", "handlers", "devices")
COMMANDS = (
    *("serve", "check", "migrate", "verify", "health", "copy", *READING),
    *("dead", "redrive", "pause", "resume", "test-handler"),
)
SECRET = "wjy7-never-to-be-shown"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def configure(text: str) -> None:
    """Write the configuration file that is found without being named."""
    Path("headrace.toml").write_text(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_helps_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help ends with 0, shows an example of the command, and the options that every command has."""
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example:\n    headrace {command}" in shown
    assert "--config" in shown
    assert "--debug" in shown


def test_nothing_asked_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`headrace` alone lists the commands."""
    assert run([]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {command} " in shown for command in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version names the distribution and its version."""
    assert run(["--version"]) == 0
    name, number = capsys.readouterr().out.split()
    assert name == "headrace"
    assert number[0].isdigit()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("wash", "No such command 'wash'"),
        ("events --limit 0", "'--limit'"),
        ("events --limit 1001", "'--limit'"),
        ("events --after -1", "'--after'"),
        ("events --since yesterday", "expected a time such as"),
        ("events --colour red", "No such option: --colour"),
        ("dead --after 3", "goes with a HANDLER"),
        ("redrive", "Missing argument 'HANDLER'"),
        ("pause", "Missing argument 'HANDLER'"),
        ("resume", "Missing argument 'HANDLER'"),
        ("redrive alerts", "--all"),
        ("redrive alerts --all --id 0199f3a2-7c11-8b52-9f0e-3c5a7d1e2f40", "either"),
        ("redrive alerts --all --cause timeout", "either"),
        ("redrive alerts --rate 50/s", "either"),
        ("redrive alerts --all --rate fast", "expected a rate above zero"),
        ("redrive alerts --cause mood", "'mood' is not one of"),
        ("redrive alerts --id 17", "'--id'"),
        ("serve --port many", "'--port'"),
    ],
)
def test_bad_usage_is_one_sentence(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad usage ends with 2 and one line on stderr that says where to read on; nothing is done."""
    assert run(arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert "--help`" in captured.err
    assert not Path("headrace.db").exists()


@pytest.mark.parametrize("command", ["check", "migrate", "events", "rejects", "sources", "handlers", "dead", "serve"])
def test_a_faulty_configuration_names_each_key(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command ends with 2 and a line for each fault: the key, what was expected, the nearest known one."""
    configure('[server]\nprot = 80\n[store]\nretention = "soon"\n')
    assert run([command]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert first == "server.prot: unknown key; the nearest known one is server.port"
    assert second.startswith("store.retention: expected a duration")


def test_a_named_file_must_be_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration file that --config or HEADRACE_CONFIG names and that is absent is a fault."""
    assert run(["check", "--config", "absent.toml"]) == 2
    assert "absent.toml" in capsys.readouterr().err
    monkeypatch.setenv("HEADRACE_CONFIG", "gone.toml")
    assert run(["check"]) == 2
    assert "gone.toml" in capsys.readouterr().err


def test_serve_refuses_to_be_reached_without_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    """Bound to an address that is not loopback, nothing starts unless readers, admins and senders must prove it."""
    assert run(["serve", "--host", "0.0.0.0", "--port", "0"]) == 2
    faults = capsys.readouterr().err
    assert "access.read_tokens: required because server.host is not loopback" in faults
    assert "access.admin_tokens" in faults
    assert "sources.default.webhook.auth" in faults
    assert not Path("headrace.db").exists()


def test_reading_makes_no_database(capsys: pytest.CaptureFixture[str]) -> None:
    """To read where nothing was stored yet ends with 1, says what makes a database, and makes none."""
    assert run(["events"]) == 1
    assert "there is no database headrace.db yet: `headrace serve` makes it" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_a_database_of_another_schema_is_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    """A database that is behind ends a reader with 1, and names the command that helps."""
    Path("headrace.db").touch()
    assert run(["events"]) == 1
    assert "run `headrace migrate`" in capsys.readouterr().err


def test_migrate_says_from_where_to_where(capsys: pytest.CaptureFixture[str]) -> None:
    """The first migration makes the schema; a second has nothing to do. Then there are events to read: none."""
    assert run(["migrate"]) == 0
    assert f"from schema none to {newest_revision()}" in capsys.readouterr().out
    assert run(["migrate"]) == 0
    assert "the newest already" in capsys.readouterr().out
    assert run(["events"]) == 0
    assert capsys.readouterr().out == "There are no such events.\n"


@pytest.mark.parametrize("command", ["migrate", "events"])
def test_a_store_that_cannot_be_used(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An unreachable database ends a command with 1; the sentence names the store without its password."""
    configure(f'[store]\nurl = "postgresql://ann:{SECRET}@127.0.0.1:1/events"\n')
    assert run([command]) == 1
    captured = capsys.readouterr()
    assert "postgresql://ann:********@127.0.0.1:1/events cannot be used" in captured.err
    assert "check store.url" in captured.err
    assert "Traceback" not in captured.err
    assert SECRET not in captured.out + captured.err


def test_an_argument_that_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are no UTF-8 in an option end with 1 and a sentence."""
    run(["migrate"])
    assert run(["events", "--device", "\udcff"]) == 1
    assert "does not take what was asked" in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback comes only with --debug, or HEADRACE_DEBUG; it shows no secret either."""
    configure(f'[store]\nurl = "postgresql://ann:{SECRET}@127.0.0.1:1/events"\n')
    assert run(["events", "--debug"]) == 1
    asked = capsys.readouterr().err
    monkeypatch.setenv("HEADRACE_DEBUG", "1")
    assert run(["events"]) == 1
    for shown in (asked, capsys.readouterr().err):
        assert "Traceback" in shown
        assert shown.splitlines()[-1].startswith("the store postgresql://")
        assert SECRET not in shown


def test_check_shows_what_would_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A valid configuration is printed key by key, its secrets masked."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    configure(
        f'[access]\nread_tokens = ["{SECRET}-r"]\n[store]\nurl = "postgresql://ann:{SECRET}@db/events"\n'
        '[sources.fleet.webhook]\nauth = { type = "header", name = "X-Key", secrets = ["${HOOK_SECRET}"] }\n'
        '[handlers.all]\ntype = "log"\nnames = ["a/"]\nexclude = ["a/b", "a/c"]\nproducts = ["p"]\ndevices = ["d7"]\n'
    )
    assert run(["check"]) == 0
    captured = capsys.readouterr()
    rows = dict(line.split(maxsplit=1) for line in captured.out.splitlines())
    assert rows["sources.fleet.webhook.path"] == "/ingest/fleet"
    assert rows["store.url"] == "postgresql://ann:********@db/events"
    filters = {name: rows[f"handlers.all.{name}"] for name in ("names", "exclude", "products", "devices")}
    assert filters == {"names": "a/", "exclude": "a/b, a/c", "products": "p", "devices": "d7"}
    assert SECRET not in captured.out + captured.err


@pytest.mark.parametrize(
    ("mode", "fields", "recommends"),
    [
        ("'sse'", "{}", True),
        ("'sse'", "{ name = '/n' }", True),
        ("'sse'", "{ id = '/id' }", False),
        ("'sse'", "{ id = 'sse:id' }", False),
        ("['webhook', 'sse']", "{}", False),
    ],
)
def test_check_recommends_the_ids_of_frames(
    mode: str, fields: str, recommends: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a generic source has mode sse alone and names no id; by several modes the ids would differ."""
    configure(f"[sources.fleet]\nmode = {mode}\nformat = 'generic'\nfields = {fields}\nsse.url = 'http://h/'\n")
    assert run(["check"]) == 0
    assert ('sources.fleet.fields.id: "sse:id" is recommended' in capsys.readouterr().out) == recommends


def test_check_connect_tries_store_and_handlers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With --connect the store is looked at, but not made, and python handlers are imported."""
    Path("rules.py").write_text("async def on_event(event):\n    pass\n")
    configure('[handlers.rules]\ntype = "python"\ncall = "rules:on_event"\n')
    assert run(["check", "--connect"]) == 0
    shown = capsys.readouterr().out
    assert "store.url: headrace.db is not there yet, serve makes it" in shown
    assert "handlers.rules: can be called" in shown
    assert not Path("headrace.db").exists()
    run(["migrate"])
    assert run(["check", "--connect"]) == 0
    assert "at the newest schema" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--connect"]])
def test_check_refuses_a_function_beside_the_file_that_could_not_work(
    options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Also without --connect, in one sentence that names the key."""
    Path("yielding_rules.py").write_text("def on_event(event):\n    yield\n")
    configure('[handlers.rules]\ntype = "python"\ncall = "yielding_rules:on_event"\n')
    assert run(["check", *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("handlers.rules.call: expected a function of one event, and on_event of yielding")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[handlers.rules]\ntype = "python"\ncall = "no_such_module_here:on_event"\n', "handlers.rules.call"),
        ('[handlers.rules]\ntype = "python"\ncall = "json:no_such_function"\n', "handlers.rules.call"),
        ('[store]\nurl = "sqlite:///no/such/folder/headrace.db"\n', "store.url"),
        (f'[store]\nurl = "postgresql://ann:{SECRET}@127.0.0.1:1/events"\n', "store.url"),
    ],
)
def test_check_connect_names_the_key(text: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be reached or imported ends --connect with 2 and the key's name; without it nothing is tried."""
    configure(text)
    assert run(["check"]) == 0
    capsys.readouterr()
    assert run(["check", "--connect"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"{key}: ")
    assert SECRET not in captured.out + captured.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", datetime(2026, 7, 28, 10, tzinfo=UTC)),
        ("3d", datetime(2026, 7, 25, 12, tzinfo=UTC)),
        ("30m", datetime(2026, 7, 28, 11, 30, tzinfo=UTC)),
        ("2026-07-28T16:53:05.616Z", datetime(2026, 7, 28, 16, 53, 5, 616_000, tzinfo=UTC)),
        ("2026-07-28T16:53:05+02:00", datetime(2026, 7, 28, 14, 53, 5, tzinfo=UTC)),
    ],
)
def test_times_are_absolute_or_relative(text: str, expected: datetime) -> None:
    """A time is RFC 3339, or a duration before now."""
    assert time_of(text, datetime(2026, 7, 28, 12, tzinfo=UTC)) == expected
