"""Commands that only use the store need no secret but the store's, and nothing else that is elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.cli import run

CONFIG = """
[server]
host = "0.0.0.0"
tls_cert = "/etc/no/such/cert.pem"
tls_key = "/etc/no/such/key.pem"
trusted_proxies = ["${PROXIES}"]
[access]
read_tokens = ["${READ_TOKEN}"]
admin_tokens = ["${file:/run/no/such/admin}"]
[store]
url = "${STORE_URL}"
[sources.fleet]
product = "tracker"
mode = ["webhook", "sse", "pubsub"]
[sources.fleet.webhook]
auth = { type = "header", name = "${HEADER}", secrets = ["${HOOK_SECRET}"] }
[sources.fleet.sse]
token = "${PARTICLE_TOKEN}"
[sources.fleet.pubsub]
subscription = "projects/${PROJECT}/subscriptions/s"
[handlers.alerts]
type = "http"
url = "https://${USER}@example.org/${PATH_SECRET}"
secrets = ["${ALERTS_SECRET}"]
headers = { X-Key = "${TENANT}" }
[handlers.basic]
type = "http"
url = "https://example.org/"
auth = { type = "basic", user = "u", password = "${PASSWORD}" }
tls = { ca = "/etc/no/such/ca.pem" }
[handlers.rules]
type = "python"
call = "no_such_module:on_event"
"""
UNSET = ("STORE_URL", "PROXIES", "READ_TOKEN", "HEADER", "HOOK_SECRET", "PARTICLE_TOKEN", "PROJECT", "PATH_SECRET")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HEADRACE_") or name in UNSET]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("headrace.toml").write_text(CONFIG)


@pytest.mark.parametrize(
    "command",
    [
        *("events", "gaps", "rejects", "sources", "handlers", "dead", "redrive alerts --all", "pause alerts"),
        *("resume alerts", "dead alerts --delete --all", "dead --by-cause", "events --json"),
    ],
)
def test_only_the_stores_secret_is_needed(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every other reference may be unset, and every other file away; the store's names its key."""
    assert run(command.split()) == 2
    assert capsys.readouterr().err == "store.url: the environment variable STORE_URL is not set\n"
    monkeypatch.setenv("STORE_URL", "sqlite:///mine.db")
    assert run(["migrate"]) == 0
    code = run(command.split())
    captured = capsys.readouterr()
    wants_a_handler = "alerts" in command
    assert code == wants_a_handler, captured.err
    assert ("no handler alerts ran" in captured.err) == wants_a_handler


def test_the_configurations_words_are_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sources that are listed are the configured ones, with their product."""
    monkeypatch.setenv("STORE_URL", "sqlite:///mine.db")
    run(["migrate"])
    capsys.readouterr()
    assert run(["sources"]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [["fleet", mode, "tracker"] for mode in ("webhook", "sse", "pubsub")]


@pytest.mark.parametrize("command", ["check", "serve", "test-handler alerts"])
def test_who_serves_needs_them_all(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each reference that leads nowhere is named."""
    monkeypatch.setenv("STORE_URL", "sqlite:///mine.db")
    assert run(command.split()) == 2
    said = capsys.readouterr().err
    for name in ("PARTICLE_TOKEN", "PROJECT", "ALERTS_SECRET", "PASSWORD", "HOOK_SECRET", "/run/no/such/admin"):
        assert name in said


def test_a_fault_of_another_kind_is_one_for_readers_too(capsys: pytest.CaptureFixture[str]) -> None:
    """What is misspelt is told, also where something else is not there."""
    Path("headrace.toml").write_text(CONFIG.replace("${STORE_URL}", "sqlite:///a.db") + "tiemout = '3s'\n")
    assert run(["events"]) == 2
    assert "handlers.rules.tiemout: unknown key" in capsys.readouterr().err
