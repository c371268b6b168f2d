"""A delivery mode of an installed package: found by its entry point, configured and seen as if it were ours."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import TCP_MODE, a_package, installed
from tests.support.server import Server, free_port

LINE = b'{"event":"%b","coreid":"dev1","published_at":"2026-07-28T16:53:05.616Z","data":"1"}\n'
CONFIG = """
[sources.fleet]
product = "tracker"
mode = {mode}
[sources.fleet.tcp]
port = {port}
"""


def get(server: Server, path: str) -> Any:
    """Ask the API."""
    with urllib.request.urlopen(f"{server.url}{path}", timeout=10) as answer:
        return json.load(answer)


def check(folder: Path, config: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`headrace check` of this configuration."""
    (folder / "headrace.toml").write_text(config)
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "check"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_lines_over_tcp_are_answered_stored_and_shown(tmp_path: Path) -> None:
    """Beside a webhook of the same source; the events are there with mode tcp, also when the package is gone."""
    port = free_port()
    environment = installed(tmp_path / "site", TCP_MODE)
    config = CONFIG.format(mode='["tcp", "webhook"]', port=port)
    with Server(tmp_path, config, environment=environment) as server:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sender:
            sender.sendall(LINE % b"temp" + LINE % b"alarm")
            answers = sender.makefile("rb")
            assert [answers.readline(), answers.readline()] == [b"ok 1\n", b"ok 2\n"]
        again = urllib.request.Request(f"{server.url}/ingest/fleet", LINE % b"temp", method="POST")
        with urllib.request.urlopen(again, timeout=20) as answer:
            assert answer.status == 204
        events = get(server, "/api/v1/events")["events"]
        assert [(event["name"], event["mode"]) for event in events] == [("temp", "tcp"), ("alarm", "tcp")]
        by_mode = {source["mode"]: source for source in get(server, "/api/v1/sources")["sources"]}
        assert by_mode["tcp"]["counts"]["stored"] == 2
        assert by_mode["webhook"]["duplicate_kinds"]["overlap"] == 1
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
            assert b'headrace_events_stored_total{mode="tcp",source="fleet"} 2.0' in answer.read()
        assert server.terminate() == 0

    with Server(tmp_path, '[sources.fleet]\nproduct = "tracker"\n') as server:
        assert [event["mode"] for event in get(server, "/api/v1/events")["events"]] == ["tcp", "tcp"]


def test_faults_of_its_table_name_its_keys(tmp_path: Path) -> None:
    """Its table is judged as ours are: what is missing, wrong or misspelt, by its full key."""
    environment = installed(tmp_path / "site", TCP_MODE)

    missing = check(tmp_path, '[sources.fleet]\nmode = "tcp"\n', environment)
    wrong = check(tmp_path, CONFIG.format(mode='"tcp"', port=70000), environment)
    misspelt = check(tmp_path, '[sources.fleet]\nmode = "webhook"\ntcp.prot = 1\n', environment)

    assert (missing.returncode, wrong.returncode, misspelt.returncode) == (2, 2, 2)
    assert "sources.fleet.tcp.port: required with mode tcp" in missing.stderr
    assert "sources.fleet.tcp.port: expected at most 65535" in wrong.stderr
    assert "sources.fleet.tcp.prot: unknown key; the nearest known one is sources.fleet.tcp.port" in misspelt.stderr


def test_a_mode_that_nobody_installed_is_a_fault(tmp_path: Path) -> None:
    """The key is named, and the modes that there are."""
    done = check(tmp_path, '[sources.fleet]\nmode = "tcp"\n', installed(tmp_path / "site"))

    assert done.returncode == 2
    assert "sources.fleet.mode: expected webhook, sse, pubsub, or a list" in done.stderr


@pytest.mark.parametrize(
    ("entry_point", "code", "reason"),
    [
        ("broken_mode:MODE", None, "cannot be imported (ModuleNotFoundError: No module named 'broken_mode')"),
        ("broken_mode:MODE", "raise RuntimeError('not today')", "cannot be imported (RuntimeError: not today)"),
        ("broken_mode:MODE", "MODE = 5", "expected a SourceMode"),
        ("ingest.sources.sse.mode:SSE", None, "there is another mode sse"),
    ],
    ids=["absent", "raising", "other", "twice"],
)
def test_a_package_that_cannot_be_used_is_named(
    tmp_path: Path, entry_point: str, code: str | None, reason: str
) -> None:
    """One plain line says which package it is and why, whatever that package raises; no traceback."""
    package = a_package(tmp_path, "somebodys-mode", entry_point, code)

    done = check(tmp_path, "", installed(tmp_path / "site", package))

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "the installed package somebodys-mode" in done.stderr
    assert reason in done.stderr
