"""Logs: machines get JSON lines, no traceback shows what variables held, and nobody fails because of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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
UNWRITABLE = """
import logging, structlog
from app.logs import configure_logs

configure_logs()
for log in (structlog.get_logger("ours"), logging.getLogger("theirs")):
    for _ in range(300):  # more than any buffer takes
        try:
            raise ValueError("it broke")
        except ValueError:
            log.exception("failed")
        log.warning("x" * 1000)
print("went on")
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


@pytest.mark.parametrize("stderr", [">/dev/full", ">&-", "> >(exec true)"], ids=["full disk", "closed", "no reader"])
def test_logs_that_cannot_be_written_are_lost_and_nothing_else_is(stderr: str) -> None:
    """A full disk under stderr, no stderr, or nobody who reads it: whoever logs goes on."""
    shell = ["bash", "-c", f'"$0" -c "$1" 2{stderr}', sys.executable, UNWRITABLE]
    done = subprocess.run(shell, stdout=subprocess.PIPE, text=True, check=False)

    assert done.stdout == "went on\n"


def test_no_file_or_socket_takes_the_place_of_a_closed_stderr() -> None:
    """What a command opens never gets descriptor 2, which libuv refuses to close and C code writes to."""
    command = "import os; from app.cli.main import run; run(['--version']); os.fstat(2)"
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" 2>&-', sys.executable, command], stdout=subprocess.PIPE, check=False
    )

    assert done.returncode == 0
