"""README and docs/modes.md are followed to the letter: commands run, configuration is valid, the handler handles."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import CHECKOUT, block, blocks
from tests.support.server import PATIENCE_SECONDS, Server, wait_until

README = "README.md"
MODES = "docs/modes.md"
LINK = re.compile(r"\]\(([^)]+)\)")
ADDRESS = "http://127.0.0.1:8000"


def shell(command: str, server: Server) -> str:
    """Run a block of the README as its reader would, against a server on another port."""
    command = command.replace(ADDRESS, server.url).replace(".venv/bin/headrace", f"{sys.executable} -m app.cli")
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=server.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(server: Server, path: str) -> Any:
    """A page of the API."""
    with urllib.request.urlopen(server.url + path, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.parametrize("language", ["sh", "toml", "python"])
def test_the_readme_has_such_examples(language: str) -> None:
    """The tests below would be empty if the README lost its examples."""
    assert blocks(README, language)


@pytest.mark.parametrize("page", [README, *(f"docs/{path.name}" for path in sorted((CHECKOUT / "docs").glob("*.md")))])
def test_links_lead_somewhere(page: str) -> None:
    """Each page, and each heading of it, that is linked to is there."""
    text = (CHECKOUT / page).read_text()
    links = [link for link in LINK.findall(text) if not link.startswith("http")]
    assert links
    for link in links:
        path, _, heading = link.partition("#")
        target = (CHECKOUT / page).parent / path if path else CHECKOUT / page
        assert target.exists(), link
        assert not heading or heading in anchors(target.read_text()), link


def anchors(text: str) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


def test_each_documented_body_is_taken(tmp_path: Path) -> None:
    """Every curl of the README is answered 204, and what it posted can be read back as the README says."""
    examples = block(README, "sh", "the same event again")
    with Server(tmp_path, "") as server:
        answers = re.findall(r"HTTP/1\.1 (\d+)", shell(examples, server))

        assert answers == ["204"] * examples.count("curl -i")
        counts = read(server, "/api/v1/sources")["sources"][0]["counts"]
        assert (counts["stored"], counts["duplicate"], counts["rejected"]) == (6, 1, 1)

        reading = shell(block(README, "sh", "headrace events  "), server)
        assert "temperature" in reading
        assert "missing_name" in reading


def test_the_documented_configuration_and_handler_work(tmp_path: Path) -> None:
    """The small file and its python handler, copied out of the README, deliver an event."""
    (tmp_path / "fleet_rules.py").write_text(block(README, "python", "on_event"))
    config = block(README, "toml", "[handlers.rules]").replace("${HOOK_SECRET}", "a-secret-of-the-test")
    with Server(tmp_path, config) as server:
        body = b'{"event":"temperature","data":"21.5","published_at":"2026-07-28T16:53:05.616Z","coreid":"d1"}'
        headers = {"X-Particle-Key": "a-secret-of-the-test"}
        request = urllib.request.Request(f"{server.url}/ingest/fleet", body, headers)
        assert urllib.request.urlopen(request, timeout=10).status == 204
        event = read(server, "/api/v1/events")["events"][0]
        assert event["product"] == "tracker"
        wait_until(
            lambda: event["id"] in server.log.read_text(), PATIENCE_SECONDS, "the handler did not print the event"
        )


def test_the_generic_example_takes_a_github_event(tmp_path: Path) -> None:
    """The README's table for GitHub identifies a delivery by its header: sent twice, it is one event."""
    config = block(README, "toml", "[sources.github]").replace("${GITHUB_SECRET}", "It's a Secret to Everybody")
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"  # GitHub's own example
    with Server(tmp_path, config) as server:
        headers = {"X-Hub-Signature-256": signature, "X-GitHub-Event": "push", "X-GitHub-Delivery": "72d3162e"}
        request = urllib.request.Request(f"{server.url}/ingest/github", b"Hello, World!", headers)
        assert urllib.request.urlopen(request, timeout=10).status == 204  # authentic, and no JSON: a reject
        assert read(server, "/api/v1/rejects")["rejects"][0]["body_base64"] == "SGVsbG8sIFdvcmxkIQ=="


def test_the_push_example_is_a_valid_configuration(tmp_path: Path) -> None:
    """What the page says for pushes is taken by `headrace check`, which shows whose tokens are let in."""
    config = tmp_path / "headrace.toml"
    config.write_text(block(MODES, "toml", "google-oidc"))
    command = [sys.executable, "-m", "app.cli", "check", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert "headrace-push@my-project.iam.gserviceaccount.com" in shown


def test_the_console_template_gives_an_event(tmp_path: Path) -> None:
    """Particle's template, filled in by the cloud, is decoded with its attributes."""
    template = next(code for code in blocks(README, "") if "PARTICLE_EVENT_NAME" in code)
    values = {
        "PARTICLE_EVENT_ID": "e-1",
        "PARTICLE_EVENT_NAME": "temperature",
        "PARTICLE_EVENT_VALUE": "21.5",
        "PARTICLE_DEVICE_ID": "e00fce682e79a004f1e69a2b",
        "PARTICLE_PUBLISHED_AT": "2026-07-28T16:53:05.616Z",
        "PRODUCT_ID": "13961",
        "PRODUCT_VERSION": "91",
        "PRODUCT_USER_ID": "5d447a8c6c0ad300017dd72e",
    }
    body = re.sub(r"\{\{\{(\w+)\}\}\}", lambda variable: values[variable[1]], template)
    with Server(tmp_path, "") as server:
        request = urllib.request.Request(f"{server.url}/ingest/default", body.encode())
        assert urllib.request.urlopen(request, timeout=10).status == 204
        event = read(server, "/api/v1/events")["events"][0]
        assert (event["name"], event["data"], event["device"]) == ("temperature", "21.5", "e00fce682e79a004f1e69a2b")
        assert event["attributes"] == {
            "event_id": "e-1",
            "product_id": "13961",
            "fw_version": "91",
            "userid": "5d447a8c6c0ad300017dd72e",
        }


RUNNABLE = re.compile(r"(?:^|: )((?:\.venv/bin/)?headrace [a-z][^;|]*|curl [^;]*)")
ELSEWHERE = {  # by the first words, and who runs it
    ".venv/bin/headrace serve": "every test here, by `Server`",
    "make run": "it installs from an index; `test_the_demo_moves_every_counter_and_shows_a_gap` runs what it runs",
    "make test": "this is a part of it",
    "curl -i": "test_each_documented_body_is_taken",
    "printf": "test_each_documented_body_is_taken",
    "PUBSUB_EMULATOR_HOST": "test_cli_demo and the tests of the emulator",
    "gcloud": "it needs a Google Cloud project",
}


def command_lines(page: str) -> list[str]:
    """Each line of a page's shell examples, and each command that a comment beside one names."""
    lines = []
    for code in blocks(page, "sh"):
        for line in re.sub(r"\\\n\s*|\n  +", " ", re.sub(r"'\n  \{.*?\}'", "'{}'", code)).splitlines():
            command, _, comment = line.partition(" #")
            if command.strip() and not command.startswith("#"):
                lines.append(command.strip())
            lines += [found.strip() for found in RUNNABLE.findall(comment)]
    return lines


def test_every_command_line_runs(tmp_path: Path) -> None:
    """Whatever a reader copies from README and docs/ works beside a server with the README's configuration.

    What cannot run here is named above with its reason.
    """
    pages = [README, *(f"docs/{path.name}" for path in sorted((CHECKOUT / "docs").glob("*.md")))]
    lines = [line for page in pages for line in command_lines(page)]
    assert len(lines) > 30
    lines = [line for line in dict.fromkeys(lines) if not line.startswith(tuple(ELSEWHERE))]
    (tmp_path / "fleet_rules.py").write_text(block(README, "python", "on_event"))
    small = block(README, "toml", "[handlers.rules]")
    secrets = {"HOOK_SECRET": "a-secret", "ALERTS_SECRET": "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="}
    with refusing() as receiver:
        alerts = block(README, "toml", "[handlers.alerts]").replace("https://example.org", receiver)
        with Server(tmp_path, small + alerts, environment=secrets) as server:
            assert _failed(lines, server, secrets) == {}


def test_each_command_that_is_named_is_there() -> None:
    """Whatever `headrace …` a page speaks of in its text is a command or an option of this version."""
    known = subprocess.run(
        [sys.executable, "-m", "app.cli", "-h"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout
    pages = [README, "deploy/README.md", *(f"docs/{path.name}" for path in (CHECKOUT / "docs").glob("*.md"))]
    named = {word for page in pages for word in re.findall(r"`headrace ([a-z-]+)", (CHECKOUT / page).read_text())}
    assert {"check", "migrate", "redrive"} <= named
    assert [word for word in named if f" {word} " not in known] == []


@contextmanager
def refusing() -> Iterator[str]:
    """A receiver that calls every event one that it cannot take; its URL."""

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(422)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{receiver.server_port}"
        finally:
            receiver.shutdown()
            thread.join()


def _failed(lines: list[str], server: Server, secrets: dict[str, str]) -> dict[str, str]:
    """Run the lines one after another, with a dead letter of each handler there; what those that failed said."""
    for number, data in enumerate(("null", '"21.5"')):
        body = f'{{"event":"alarm/a","data":{data},"published_at":"2026-07-28T16:53:0{number}Z","coreid":"d1"}}'
        request = urllib.request.Request(
            f"{server.url}/ingest/fleet", body.encode(), {"X-Particle-Key": secrets["HOOK_SECRET"]}
        )
        assert urllib.request.urlopen(request, timeout=10).status == 204
    event = read(server, "/api/v1/events")["events"][0]["id"]
    wait_until(
        lambda: [each["dead"] for each in read(server, "/api/v1/handlers")["handlers"]] == [2, 1],
        PATIENCE_SECONDS,
        "no dead letters",
    )
    failed = {}
    for line in lines:
        runs = line.replace("0199f3a2-7c11-8b52-9f0e-3c5a7d1e2f40", event)
        runs = f"timeout 5 {runs} || test $? = 124" if "--follow" in runs else runs
        done = run_line(runs, server, secrets)
        if done.returncode:
            failed[line] = done.stderr
    return failed


def run_line(line: str, server: Server, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command line as a shell does, against a server on another port."""
    line = re.sub(
        r"(\.venv/bin/)?headrace (?=[a-z-])", f"{sys.executable} -m app.cli ", line.replace(ADDRESS, server.url)
    )
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=server.folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
