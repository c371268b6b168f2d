"""The README is followed to the letter: its commands run, its configuration is valid, its handler handles."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import PATIENCE_SECONDS, Server, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def block(language: str, holds: str) -> str:
    """The first code block of a language that holds a text."""
    return next(code for code in blocks(language) if holds in code)


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
    assert blocks(language)


def test_each_documented_body_is_taken(tmp_path: Path) -> None:
    """Every curl of the README is answered 204, and what it posted can be read back as the README says."""
    examples = block("sh", "the same event again")
    with Server(tmp_path, "") as server:
        answers = re.findall(r"HTTP/1\.1 (\d+)", shell(examples, server))

        assert answers == ["204"] * examples.count("curl -i")
        counts = read(server, "/api/v1/sources")["sources"][0]["counts"]
        assert (counts["stored"], counts["duplicate"], counts["rejected"]) == (6, 1, 1)

        reading = shell(block("sh", "headrace events  "), server)
        assert "temperature" in reading
        assert "missing_name" in reading


def test_the_documented_configuration_and_handler_work(tmp_path: Path) -> None:
    """The small file and its python handler, copied out of the README, deliver an event."""
    (tmp_path / "fleet_rules.py").write_text(block("python", "on_event"))
    config = block("toml", "[handlers.rules]").replace("${HOOK_SECRET}", "a-secret-of-the-test")
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
    config = block("toml", "[sources.github]").replace("${GITHUB_SECRET}", "It's a Secret to Everybody")
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"  # GitHub's own example
    with Server(tmp_path, config) as server:
        headers = {"X-Hub-Signature-256": signature, "X-GitHub-Event": "push", "X-GitHub-Delivery": "72d3162e"}
        request = urllib.request.Request(f"{server.url}/ingest/github", b"Hello, World!", headers)
        assert urllib.request.urlopen(request, timeout=10).status == 204  # authentic, and no JSON: a reject
        assert read(server, "/api/v1/rejects")["rejects"][0]["body_base64"] == "SGVsbG8sIFdvcmxkIQ=="


def test_the_push_example_is_a_valid_configuration(tmp_path: Path) -> None:
    """What the README says for pushes is taken by `headrace check`, which shows whose tokens are let in."""
    config = tmp_path / "headrace.toml"
    config.write_text(block("toml", "google-oidc"))
    command = [sys.executable, "-m", "app.cli", "check", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert "headrace-push@my-project.iam.gserviceaccount.com" in shown


def test_the_console_template_gives_an_event(tmp_path: Path) -> None:
    """Particle's template, filled in by the cloud, is decoded with its attributes."""
    template = next(code for code in blocks("") if "PARTICLE_EVENT_NAME" in code)
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
