"""A real Prometheus that scrapes real servers every second; with the rules of deploy/, their times shortened."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.promtool import RULES
from tests.support.required import missing
from tests.support.server import PATIENCE_SECONDS, free_port, wait_until

_STOP_SECONDS = 20.0
_CALM_SECONDS = 8.0
_RANGE = re.compile(r"\[(\d+)([mhd])(?=\])")
_OFFSET = re.compile(r"offset (\d+)([mhd])")
_MINUTES = {"m": 1, "h": 60, "d": 1440}
_FOR = re.compile(r"(\d+)([mhd])")


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

    def expect_alone(self, alert: str) -> None:
        """Return when that alert fires. Raises AssertionError if another one does, or it does not."""

        def fires() -> bool:
            firing = self.firing()
            assert firing <= {alert}, f"{firing} fire, not {alert} alone"
            return bool(firing)

        wait_until(fires, PATIENCE_SECONDS, f"{alert} does not fire", every=0.3)

    def expect_calm(self) -> None:
        """Return when nothing has fired for some seconds. Raises AssertionError if that takes too long."""
        calm_since = time.monotonic()

        def calm() -> bool:
            nonlocal calm_since
            if self.firing():
                calm_since = time.monotonic()
            return time.monotonic() - calm_since > _CALM_SECONDS

        wait_until(calm, PATIENCE_SECONDS, lambda: f"{self.firing()} do not resolve", every=0.3)

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
def scraping(
    folder: Path, targets: Sequence[str], rules: Path | None = None, token: str = "", *, https: bool = False
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes host:port targets as job `headrace`, and evaluates rules, every second."""
    program = shutil.which("prometheus") or missing("prometheus is missing")
    folder.mkdir()
    port = free_port()
    scrape: dict[str, Any] = {"job_name": "headrace", "static_configs": [{"targets": list(targets)}]}
    if token:
        scrape["authorization"] = {"credentials": token}
    if https:
        scrape |= {"scheme": "https", "tls_config": {"insecure_skip_verify": True}}
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
        wait_until(lambda: process.poll() is not None or _is_ready(port), 30, "prometheus is not ready")
        assert process.poll() is None, log.read_text()
        yield Prometheus(port, log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5):
            return True
    except OSError:  # urllib's errors are some
        return False


def shortened(folder: Path, seconds_a_minute: float = 1.0, **thresholds: str) -> Path:
    """Write the rules with a minute of their ranges made so many seconds, and each `for` 9 to 24 seconds.

    Ranges have 8 to 30 seconds: shorter ones hold too few scrapes. `thresholds` are other texts for those in the
    expression of an alert, given as `old -> new; old -> new`.
    """
    document = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in document["groups"] for rule in group["rules"]):

        def seconds(found: re.Match[str]) -> str:
            minutes = int(found[1]) * _MINUTES[found[2]]
            return f"{round(min(30.0, max(8.0, minutes * seconds_a_minute)))}s"

        rule["expr"] = _RANGE.sub(lambda found: f"[{seconds(found)}", rule["expr"])
        rule["expr"] = _OFFSET.sub(lambda found: f"offset {seconds(found)}", rule["expr"])
        if "for" in rule:
            waits = _FOR.fullmatch(rule["for"])
            assert waits is not None, rule["for"]
            rule["for"] = f"{min(24, 6 + 3 * int(waits[1]) * _MINUTES[waits[2]])}s"  # in the same order
        changes = thresholds.get(rule.get("alert", ""), "")
        for old, new in (change.split(" -> ") for change in changes.split("; ") if change):
            assert old in rule["expr"], f"{old} is not in {rule['expr']}"
            rule["expr"] = rule["expr"].replace(old, new)
    rules = folder / "shortened.json"
    rules.write_text(json.dumps(document))
    return rules
