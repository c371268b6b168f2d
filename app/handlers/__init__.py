"""The handler types there are. A new one is a file here and a line in `_BUILDERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from app.handlers import log, python
from app.handlers.callables import is_beside
from app.settings import HandlerSettings
from ingest.protocols import Handler

_BUILDERS: Mapping[str, Callable[[str, HandlerSettings, Path], Handler]] = {
    "log": log.build,
    "python": python.build,
}


def build(label: str, settings: HandlerSettings, folder: Path) -> Handler:
    """The handler that `[handlers.<label>]` describes; `folder` is where the configuration file is.

    Raises ConfigurationError, naming the key.
    """
    return _BUILDERS[settings.type](label, settings, folder)


def check(label: str, settings: HandlerSettings, folder: Path, *, everywhere: bool) -> bool:
    """Build the handler, only to see that it can be; return whether that was tried. Raises ConfigurationError.

    What is beside the configuration file is always tried, what is somewhere else only if `everywhere`.
    """
    if not everywhere and not (settings.call and is_beside(settings.call, folder)):
        return False
    build(label, settings, folder)
    return True
