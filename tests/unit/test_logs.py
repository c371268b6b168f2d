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


def test_logs_are_json_lines_without_the_values_of_variables() -> None:
    """Ours and the libraries' lines are JSON; their tracebacks name the error and show no argument."""
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, check=True)

    ready, ours, theirs = (json.loads(line) for line in done.stderr.splitlines())
    assert (ready["event"], ready["level"], ready["address"]) == ("ready", "info", "127.0.0.1:8000")
    for line in (ours, theirs):
        assert line["exception"][0]["exc_value"] == "it broke"
        assert "s3cret-token" not in json.dumps(line)
