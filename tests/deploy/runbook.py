"""The runbook, and its first commands as an operator types them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.deploy.promtool import DEPLOY

RUNBOOK = DEPLOY / "runbook.md"
_SECTION = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def sections() -> Mapping[str, str]:
    """Return what stands under each alert's heading, in order."""
    return dict(_SECTION.findall(RUNBOOK.read_text()))


def first_command(alert: str) -> str:
    """Return the command that confirms the alert."""
    (command,) = _COMMAND.findall(sections()[alert])
    return str(command)


def command_that_mends(alert: str, beginning: str) -> str:
    """Return the command in the alert's text that begins so."""
    found = re.search(f"`({beginning}[^`]*)`", sections()[alert])
    assert found is not None, f"no `{beginning} …` under {alert}"
    return found[1]


def run_in_shell(command: str, variables: Mapping[str, str]) -> str:
    """Run it as an operator does; all that it printed, whatever it exits with."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    path = f"{Path(sys.executable).parent}:{inherited['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command],
        env=inherited | {"PATH": path, "PYTHONPATH": str(DEPLOY.parent)} | dict(variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr
