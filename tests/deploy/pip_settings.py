"""This machine's settings of pip, lent to a build that must not keep them: an index, a certificate, local wheels."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_LINE = re.compile(r"(?P<place>[^.]+)\.(?P<name>[a-z-]+)='(?P<value>.*)'")
_FILE = re.compile(r"(?<!\S)(/\S+)")
_INDEX = re.compile(r"file://(\S+)/[^/\s]+")  # its pages lead to files beside it


def lend(folder: Path) -> Mapping[Path, Path]:
    """Write one pip.conf with all settings in force into `folder`; what has to be mounted where."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = {
        found["name"]: found["value"]
        for line in listed.stdout.splitlines()
        if (found := _LINE.fullmatch(line)) and found["place"] in ("global", "install", "user", "site", ":env:")
    }
    conf = folder / "pip.conf"
    conf.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    named = {Path(path) for value in settings.values() for path in _FILE.findall(value) + _INDEX.findall(value)}
    return {conf: Path("/etc/pip.conf")} | {path: path for path in sorted(named) if path.exists()}
