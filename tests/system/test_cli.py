"""`headrace` as a process of its own, beside a running server and without one. Imports nothing of the product."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import fresh_database, session_server
from tests.support.server import PATIENCE_SECONDS, Server, free_port, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
NOTICED_SECONDS = 5.0  # a running server notices a redrive within

RULES = """
from pathlib import Path
from ingest import DeadLetter

def on_event(event):
    if not Path("mended").exists():
        raise DeadLetter("the rules are broken")
    with Path("delivered").open("a") as file:
        file.write(f"{event.id}\\n")
"""
WITH_RULES = '[handlers.rules]\ntype = "python"\ncall = "rules:on_event"\nfrom = "beginning"\n'


def environment(**more: str) -> dict[str, str]:
    """Ours without HEADRACE_ settings, with the checkout importable, and with output buffered as it usually is."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HEADRACE_") and name != "PYTHONUNBUFFERED"
    }
    return inherited | {"PYTHONPATH": str(CHECKOUT)} | more


def headrace(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(**variables), capture_output=True, text=True, check=False, timeout=60
    )


def document(folder: Path, *arguments: str, **environment: str) -> Any:
    """What a command prints with --json."""
    done = headrace(folder, *arguments, "--json", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server with these arguments; its output is in `server.log`. Killed at the end if it still runs."""
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", *arguments],
            cwd=folder,
            env=environment(),
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def fetch(url: str, headers: Mapping[str, str] | None = None) -> str:
    """The body of a GET."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=10) as answer:
        return str(answer.read().decode())


def post(url: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
    """The status of a POST."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, body, dict(headers or {}), method="POST"), timeout=10
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def dead(server: Server) -> int:
    """How many dead letters the handler `rules` has."""
    handlers = json.loads(fetch(f"{server.url}/api/v1/handlers"))["handlers"]
    return sum(int(row["dead"]) for row in handlers if row["handler"] == "rules")


def hook(number: int) -> bytes:
    """A webhook's body."""
    at = f"2026-07-28T16:53:05.{number:03d}Z"
    return json.dumps({"event": "alarm", "data": str(number), "coreid": "dev", "published_at": at}).encode()


# What a newcomer cannot see move: nothing here is refused by the store or fails to reach it; the stream has one
# connection, is tidy, mostly faster than the webhook, and has only two kinds of trouble, the first after 20 s; the
# handlers are Python, of which one raises, and nobody pauses them; its devices count nothing.
STILL = re.compile(
    r"redundant|resend|hook_echoes.*(error|skipped|sse)|refused_by_store|bad_id|too_large|deferred|unidentified|steady.*(retried|dead)|code=\"(200|[^2])|auth_"
    r"|failures_total.*(steady|cause=\"(?!handler_error|dead_letter))|_skipped_"
    r"|seen_by.*modes=\"sse\"|missed_by.*webhook"  # the demo's webhooks lose nothing
    r"|events_(lost|recovered|ambiguous)_|_gap|_reconnects_|_suspected_|(rejected|ignored|redelivery|overlap).*mode=\"sse\""
)


def unmoved(url: str) -> list[str]:
    """The counters of a server that the demo moves and that are still at 0."""
    try:
        lines = fetch(f"{url}/metrics").splitlines()
    except OSError:
        return ["no answer"]
    samples = [line.rpartition(" ") for line in lines if line.startswith("headrace_") and "_total{" in line]
    return [name for name, _, value in samples if float(value) == 0 and not STILL.search(name)]


def listed(url: str, what: str) -> list[dict[str, Any]]:
    """The rows of a listing; none while nobody answers."""
    try:
        return list(json.loads(fetch(url))[what])
    except OSError:
        return []


def test_the_demo_moves_every_counter_and_shows_a_gap(tmp_path: Path) -> None:
    """With nothing but `serve --demo` a newcomer sees every counter move, and a stream that stalled and came back.

    Ctrl+C or SIGTERM ends it with 0.
    """
    port = free_port()
    with running(tmp_path, "--demo", "--port", str(port)) as process:
        url = f"http://127.0.0.1:{port}"
        gaps = f"{url}/api/v1/gaps"
        wait_until(lambda: not unmoved(url), PATIENCE_SECONDS, lambda: f"did not move: {unmoved(url)}", every=0.2)
        wait_until(
            lambda: any(gap["until"] for gap in listed(gaps, "gaps")), PATIENCE_SECONDS, "no gap that ended", every=0.2
        )
        assert {(gap["cause"], gap["mode"]) for gap in listed(gaps, "gaps")} == {("idle", "sse")}
        process.send_signal(signal.SIGTERM)
        assert process.wait(25) == 0
    asked = headrace(tmp_path, "events")
    assert asked.returncode == 1
    assert "the demo's is read with HEADRACE_STORE__URL=sqlite:///headrace-demo.db" in asked.stderr
    shown = document(tmp_path, "events", "--limit", "1000", HEADRACE_STORE__URL="sqlite:///headrace-demo.db")
    assert len(shown["events"]) > 100
    assert {event["source"] for event in shown["events"]} == {"demo"}
    log = (tmp_path / "server.log").read_text()
    assert log.count("deliveries_failed") <= 4, "the demo's handlers fill the log"
    assert "Traceback" not in "".join(line for line in log.splitlines() if "deliveries_failed" not in line)
    pages = f"Pages: {url}/#token="
    assert all(line.startswith(pages) or json.loads(line) for line in log.splitlines())
    assert log.count(pages) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_well(number: signal.Signals, tmp_path: Path) -> None:
    """SIGTERM and SIGINT end `serve` with exit code 0."""
    with Server(tmp_path, "") as server:
        server.signal(number)
        assert server.wait() == 0, server.log_tail()


def test_a_table_that_is_not_used_is_logged_at_the_start(tmp_path: Path) -> None:
    """A table of a mode that `mode` does not name runs nothing, and the log says so with its key."""
    with Server(tmp_path, '[sources.default]\nmode = "webhook"\n[sources.default.sse]\ntoken = "${UNSET}"\n') as server:
        assert "sources.default.sse: not used, as sources.default.mode is webhook" in server.log_tail()


def test_an_address_in_use_is_bad_usage(tmp_path: Path) -> None:
    """A second server on the port ends with 2 and one sentence that names it."""
    with Server(tmp_path, "") as server:
        done = headrace(tmp_path, "serve", "--port", str(server.port))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"127.0.0.1:{server.port}" in done.stderr
    assert "server.port" in done.stderr


def test_a_store_that_cannot_be_opened_ends_serve(tmp_path: Path) -> None:
    """Where the store is unusable `serve` ends with 1 and a sentence that names it, and what to check."""
    store = {"HEADRACE_STORE__URL": "sqlite:///no/such/folder/events.db", "HEADRACE_SERVER__PORT": str(free_port())}
    done = headrace(tmp_path, "serve", **store)
    assert done.returncode == 1
    assert "sqlite:///no/such/folder/events.db cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unmigrated_postgresql_ends_serve(tmp_path: Path) -> None:
    """On PostgreSQL `serve` changes no schema: it ends with 1 and names the command, which says what it did."""
    url = fresh_database()
    store = {"HEADRACE_STORE__URL": url, "HEADRACE_SERVER__PORT": str(free_port())}
    try:
        done = headrace(tmp_path, "serve", **store)
        assert done.returncode == 1
        assert "headrace migrate" in done.stderr
        checked = headrace(tmp_path, "check", "--connect", **store)
        assert checked.returncode == 2
        assert checked.stderr.startswith("store.url: ")
        migrated = headrace(tmp_path, "migrate", **store)
        assert (migrated.returncode, migrated.stderr) == (0, "")
        assert "from schema none to" in migrated.stdout
        connected = headrace(tmp_path, "check", "--connect", HEADRACE_STORE__SPOOL="spool.db", **store)
        assert connected.returncode == 0
        assert "store.spool: nothing waits in it\n" in connected.stdout
        assert headrace(tmp_path, "events", **store).stdout == "There are no such events.\n"
    finally:
        session_server().drop_database(url)


def test_commands_show_what_the_api_shows(tmp_path: Path) -> None:
    """While a server runs, --json of each command has the shape and the rows of the API's answer."""
    (tmp_path / "rules.py").write_text(RULES)
    with Server(tmp_path, WITH_RULES) as server:
        path = f"{server.url}/ingest/default"
        assert [post(path, hook(number)) for number in range(3)] == [204] * 3
        assert post(path, b'{"event":') == 204
        wait_until(lambda: dead(server) == 3, PATIENCE_SECONDS, "no dead letters")
        api = f"{server.url}/api/v1"
        for command, asked in (
            (("events",), "events"),
            (("events", "--after", "1", "--limit", "1"), "events?after=1&limit=1"),
            (("gaps",), "gaps"),
            (("rejects",), "rejects"),
            (("dead", "rules"), "handlers/rules/dead"),
        ):
            shown = {name: value for name, value in document(tmp_path, *command).items() if name != "handler"}
            assert shown == json.loads(fetch(f"{api}/{asked}"))
        (row,) = document(tmp_path, "handlers")["handlers"]
        (api_row,) = json.loads(fetch(f"{api}/handlers"))["handlers"]
        assert row.keys() == api_row.keys()
        assert (row["state"], row["dead"]) == (api_row["state"], api_row["dead"]) == ("running", 3)
        (source,) = document(tmp_path, "sources")["sources"]
        assert (source["state"], len(source["streams"])) == ("running", 1)
        assert (source["counts"]["stored"], source["counts"]["rejected"]) == (3, 1)


def test_redrive_beside_a_running_server(tmp_path: Path) -> None:
    """A running server notices a redrive within five seconds, and delivers what was named."""
    (tmp_path / "rules.py").write_text(RULES)
    delivered = tmp_path / "delivered"
    with Server(tmp_path, WITH_RULES) as server:
        assert post(f"{server.url}/ingest/default", hook(1)) == 204
        assert post(f"{server.url}/ingest/default", hook(2)) == 204
        wait_until(lambda: dead(server) == 2, PATIENCE_SECONDS, "no dead letters")
        first, second = (row["event"]["id"] for row in document(tmp_path, "dead", "rules")["dead"])
        (tmp_path / "mended").touch()
        assert headrace(tmp_path, "redrive", "rules", "--id", second).returncode == 0
        wait_until(delivered.exists, NOTICED_SECONDS, "not delivered in time")
        wait_until(lambda: delivered.read_text().split() == [second], 1, "another one was delivered")
        assert headrace(tmp_path, "redrive", "rules", "--all").returncode == 0
        wait_until(lambda: delivered.read_text().split() == [second, first], NOTICED_SECONDS, "not all were delivered")
    assert document(tmp_path, "dead", "rules")["dead"] == []


def test_redrive_without_a_server(tmp_path: Path) -> None:
    """What is redriven while no server runs is delivered when one starts."""
    (tmp_path / "rules.py").write_text(RULES)
    with Server(tmp_path, WITH_RULES) as server:
        assert post(f"{server.url}/ingest/default", hook(1)) == 204
        wait_until(lambda: dead(server) == 1, PATIENCE_SECONDS, "no dead letter")
        assert server.terminate() == 0
        (tmp_path / "mended").touch()
        assert headrace(tmp_path, "redrive", "rules", "--all").returncode == 0
        assert not (tmp_path / "delivered").exists()
        server.start()
        wait_until((tmp_path / "delivered").exists, PATIENCE_SECONDS, "not delivered after the start")


def test_a_reader_that_leaves_early_is_no_fault(tmp_path: Path) -> None:
    """`headrace events | head -1` is silent: no complaint about the pipe, and the exit code is 0."""
    with Server(tmp_path, "") as server:
        body = b"\n".join(hook(number) for number in range(900))
        assert post(f"{server.url}/ingest/default", body) == 204
    for form in ("", "--json"):
        line = f"{sys.executable} -m app.cli events --limit 1000 {form} | head -1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        first, code = done.stdout.splitlines()
        assert first.startswith(("position", "{"))
        assert (code, done.stderr) == ("0", "")


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    """Tokens, the hook's secret and the store's password are in no output and in no log, however things go wrong."""
    secrets = {"HOOK": "hook-2f9c", "READ": "read-77aa", "ADMIN": "admin-31be", "PASSWORD": "pass-d04e"}
    config = (
        f'[access]\nread_tokens = ["{secrets["READ"]}"]\nadmin_tokens = ["{secrets["ADMIN"]}"]\n'
        f'[sources.fleet.webhook]\nauth = {{ type = "query", name = "key", secrets = ["{secrets["HOOK"]}"] }}\n'
    )
    said = []
    with Server(tmp_path, config) as server:
        path = f"{server.url}/ingest/fleet"
        assert post(f"{path}?key={secrets['HOOK']}", hook(1)) == 204
        assert post(f"{path}?key={secrets['HOOK']}x", hook(2)) == 401
        assert post(f"{path}?key={secrets['HOOK']}", b"{") == 204
        said.append(fetch(f"{server.url}/metrics", {"authorization": f"Bearer {secrets['READ']}"}))
        for command in ("check", "events", "rejects"):
            done = headrace(tmp_path, command)
            assert done.returncode == 0, done.stderr
            said += [done.stdout, done.stderr]
        assert server.terminate() == 0
        said.append(server.log.read_text())
    away = {"HEADRACE_STORE__URL": f"postgres://ann:{secrets['PASSWORD']}@127.0.0.1:1/db?sslmode=disable"}
    for arguments in (("serve",), ("migrate",), ("events", "--debug"), ("check", "--connect")):
        done = headrace(tmp_path, *arguments, **away, HEADRACE_SERVER__PORT=str(free_port()))
        assert done.returncode in {1, 2}
        said += [done.stdout, done.stderr]
    assert [secret for secret in secrets.values() for text in said if secret in text] == []
