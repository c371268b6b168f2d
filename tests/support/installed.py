"""A package as if it were installed: its folder and the metadata that an installer writes, on the path of a process."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]
TCP_MODE = _CHECKOUT / "tests" / "support" / "tcp_mode"


def installed(folder: Path, *packages: Path) -> dict[str, str]:
    """Return the environment of a process in which these packages (folders with a pyproject.toml) are installed.

    `folder` takes their metadata.
    """
    for package in packages:
        _write_metadata(folder, tomllib.loads((package / "pyproject.toml").read_text())["project"])
    return {"PYTHONPATH": os.pathsep.join(map(str, (_CHECKOUT, folder, *packages)))}


def a_package(folder: Path, name: str, entry_point: str, code: str | None = None) -> Path:
    """Make a package whose mode `broken` is at `entry_point`; with `code`, its module broken_mode has that."""
    package = folder / name
    package.mkdir()
    lines = ["[project]", f'name = "{name}"', 'version = "1"', '[project.entry-points."headrace.sources"]']
    (package / "pyproject.toml").write_text("\n".join([*lines, f'broken = "{entry_point}"']))
    if code is not None:
        (package / "broken_mode.py").write_text(code)
    return package


def _write_metadata(folder: Path, project: dict[str, object]) -> None:
    """Write what the specification of recorded installations asks for: METADATA and entry_points.txt."""
    info = folder / "{}-{}.dist-info".format(str(project["name"]).replace("-", "_"), project["version"])
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"]
    assert isinstance(groups, dict)
    (info / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items())
    )
