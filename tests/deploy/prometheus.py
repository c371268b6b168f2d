"""A real Prometheus that scrapes real servers every second; with the rules of deploy/, their times shortened."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.promtool import RULES
from tests.support.proxies import listens
from tests.support.required import missing
from tests.support.server import free_port, wait_until

_STOP_SECONDS = 20.0
_RANGE = re.compile(r"\[(\d+)([mhd])(?=\])")
_OFFSET = re.compile(r"offset (\d+)([mhd])")
_MINUTES = {"m": 1, "h": 60, "d": 1440}
_ALL_AT_ONCE = "2s"


class Prometheus:
    """Asked by its HTTP API."""

    def __init__(self, port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = log

    def query(self, expression: str) -> list[Mapping[str, Any]]:
        """Return the series of an instant query, each with `metric` and `value`."""
        return list(self._get("query", query=expression)["result"])

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"}

    def log_tail(self) -> str:
        """The last lines that it wrote."""
        return self._log.read_text(errors="replace")[-2000:]

    def _get(self, path: str, **parameters: str) -> Mapping[str, Any]:
        with urllib.request.urlopen(
            f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=20
        ) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return dict(found["data"])


@contextmanager
def scraping(folder: Path, targets: Sequence[str], rules: Path | None = None, token: str = "") -> Iterator[Prometheus]:
    """A Prometheus that scrapes host:port targets as job `headrace`, and evaluates rules, every second."""
    program = shutil.which("prometheus") or missing("prometheus is missing")
    folder.mkdir()
    port = free_port()
    scrape: dict[str, Any] = {"job_name": "headrace", "static_configs": [{"targets": list(targets)}]}
    if token:
        scrape["authorization"] = {"credentials": token}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"},
        "rule_files": [str(rules)] if rules else [],
        "scrape_configs": [scrape],
    }
    (folder / "prometheus.json").write_text(json.dumps(config))
    command = [
        *(program, f"--config.file={folder}/prometheus.json", f"--storage.tsdb.path={folder}/data"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until(lambda: process.poll() is not None or listens(port), 30, "prometheus does not listen")
        assert process.poll() is None, log.read_text()
        yield Prometheus(port, log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def shortened(folder: Path, seconds_a_minute: float = 1.0, **thresholds: str) -> Path:
    """Write the rules with every `for` two seconds long, and with ranges of so many seconds for each minute.

    Ranges have 5 to 30 seconds: shorter ones hold too few scrapes. `thresholds` are other texts for those in the
    expression of an alert, given as `old -> new`.
    """
    document = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in document["groups"] for rule in group["rules"]):

        def seconds(found: re.Match[str]) -> str:
            minutes = int(found[1]) * _MINUTES[found[2]]
            return f"{round(min(30.0, max(5.0, minutes * seconds_a_minute)))}s"

        rule["expr"] = _RANGE.sub(lambda found: f"[{seconds(found)}", rule["expr"])
        rule["expr"] = _OFFSET.sub(lambda found: f"offset {seconds(found)}", rule["expr"])
        if "for" in rule:
            rule["for"] = _ALL_AT_ONCE
        if change := thresholds.get(rule.get("alert", "")):
            old, new = change.split(" -> ")
            assert old in rule["expr"], f"{old} is not in {rule['expr']}"
            rule["expr"] = rule["expr"].replace(old, new)
    rules = folder / "shortened.json"
    rules.write_text(json.dumps(document))
    return rules
