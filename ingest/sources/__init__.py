"""The delivery modes, a folder each; none imports another. Installed packages bring more by entry points."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ingest.sources.mode import SourceMode
from ingest.sources.pubsub.mode import PUBSUB
from ingest.sources.sse.mode import SSE
from ingest.sources.webhook.mode import WEBHOOK

GROUP = "headrace.sources"
"""The group of entry points, each of which names a SourceMode."""

_OURS: tuple[SourceMode[Any], ...] = (WEBHOOK, SSE, PUBSUB)


def modes() -> Mapping[str, SourceMode[Any]]:
    """Return every mode by its name: ours, then those of installed packages."""
    return _found()[0]


def unusable() -> list[str]:
    """Return a sentence for each installed mode that cannot be used; it names the package."""
    return _found()[1]


@cache
def _found() -> tuple[dict[str, SourceMode[Any]], list[str]]:
    found, faults = {mode.name: mode for mode in _OURS}, []
    for entry_point in sorted(entry_points(group=GROUP), key=lambda one: one.name):
        mode = _load(entry_point)
        if isinstance(mode, str):
            faults.append(mode)
        elif mode.name in found:
            faults.append(f"{_package(entry_point)}: there is another mode {mode.name}")
        else:
            found[mode.name] = mode
    return found, faults


def _load(entry_point: EntryPoint) -> SourceMode[Any] | str:
    """Return the mode that an entry point names, or why there is none."""
    try:
        mode = entry_point.load()
    except Exception as error:  # it is somebody else's code, and may raise anything
        return f"{_package(entry_point)}: cannot be imported ({type(error).__name__}: {error})"
    return mode if isinstance(mode, SourceMode) else f"{_package(entry_point)}: expected a SourceMode"


def _package(entry_point: EntryPoint) -> str:
    name = entry_point.dist.name if entry_point.dist else "unknown"
    return f"the installed package {name}, {entry_point.value} as mode {entry_point.name}"
