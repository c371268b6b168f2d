"""The commands that operators are told to type exist, with their options; what the documents name is there."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.deploy.promtool import DEPLOY

DOCUMENTS = [DEPLOY / "README.md", DEPLOY / "runbook.md", DEPLOY.parent / "docs/delivery.md"]
_CODE = re.compile(r"```sh\n(.*?)```|`([^`]+)`", re.DOTALL)
_LINK = re.compile(r"\]\(([^)#]+)\)")


def commands(document: Path) -> set[str]:
    """Return the command lines of `headrace` in the code of a document."""
    code = (block or inline for block, inline in _CODE.findall(document.read_text()))
    lines = (" ".join(line.split("#")[0].split()) for text in code for line in text.split("\n"))
    ours = re.compile(r"(/opt/headrace/bin/)?headrace ")
    return {line.removeprefix("/opt/headrace/bin/") for line in lines if ours.match(line)}


@cache
def shown_help(command: str) -> str:
    """Return the help of a command; of `headrace` itself where it is empty."""
    words = [sys.executable, "-m", "app.cli", *([command] if command else []), "--help"]
    done = subprocess.run(words, cwd=DEPLOY.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"there is no `headrace {command}`: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.name))
def test_commands_exist(document: Path) -> None:
    """Each command of `headrace` is one, and takes the options that it is given."""
    found = commands(document)
    assert found, "no commands in it"
    for line in sorted(found):
        _, command, *rest = line.split()
        for word in rest:
            if word.startswith("--"):
                assert word in shown_help(command), line
        assert shown_help(command)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.name))
def test_links_lead_somewhere(document: Path) -> None:
    """Each file that is linked to is there."""
    for link in _LINK.findall(document.read_text()):
        assert link.startswith("http") or (document.parent / link).exists(), link
