"""Logs: machines get JSON lines, and no traceback shows what variables held."""

from __future__ import annotations

import json
import subprocess
import sys

LOGS = """
import logging, structlog
from app.logs import configure_logs

def fail(authorization):
    raise ValueError("it broke")

configure_logs()
structlog.get_logger("ours").info("ready", address="127.0.0.1:8000")
for log in (structlog.get_logger("ours"), logging.getLogger("theirs")):
    try:
        fail("s3cret-" + "token")
    except ValueError:
        log.exception("failed")
"""
URLS = """
import logging, structlog
from app.logs import configure_logs

configure_logs()
try:
    raise ValueError("no route to postgres://bob:hush@h/d?password=hush")
except ValueError as error:
    structlog.get_logger("ours").exception("failed", error=str(error), url="https://h/e?token=hush")
    logging.getLogger("theirs").exception("failed %s", error)
"""


def test_logs_are_json_lines_without_the_values_of_variables() -> None:
    """Ours and the libraries' lines are JSON; their tracebacks name the error and show no argument."""
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, check=True)

    ready, ours, theirs = (json.loads(line) for line in done.stderr.splitlines())
    assert (ready["event"], ready["level"], ready["address"]) == ("ready", "info", "127.0.0.1:8000")
    for line in (ours, theirs):
        assert line["exception"][0]["exc_value"] == "it broke"
        assert "s3cret-token" not in json.dumps(line)


def test_urls_in_logs_show_no_secret() -> None:
    """An error's text with a URL in it, ours or a library's, is written without passwords and queries."""
    done = subprocess.run([sys.executable, "-c", URLS], capture_output=True, text=True, check=True)

    assert "hush" not in done.stderr
    assert [json.loads(line)["exception"][0]["exc_type"] for line in done.stderr.splitlines()] == ["ValueError"] * 2
    assert done.stderr.count("postgres://bob:********@h/d") == 4
