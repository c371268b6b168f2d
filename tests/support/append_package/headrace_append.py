"""Handler `append`, as somebody else would publish it: the ids of events as lines of a file.

It knows `ingest` alone, and Headrace finds it by the entry point in the folder beside this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ingest.errors import ConfigurationError
from ingest.event import Event
from ingest.settings.handlers import HandlerSettings


class AppendHandler:
    """protocols.Handler that appends to a file, opened for each delivery: it may be moved away meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def deliver(self, events: Sequence[Event]) -> None:
        """See protocols.Handler. Raises OSError where the file cannot be written."""
        with self._path.open("a") as file:
            file.write("".join(f"{event.id}\n" for event in events))

    async def close(self) -> None:
        """See protocols.Handler."""


class AppendSettings(HandlerSettings):
    """`type = "append"`: `path` is beside the configuration file, or absolute."""

    type: Literal["append"] = "append"
    path: Path

    def build(self, label: str, folder: Path) -> AppendHandler:
        """See HandlerSettings."""
        path = folder / self.path
        if not path.parent.is_dir():
            raise ConfigurationError(f"handlers.{label}.path: expected a file in a folder that is there")
        return AppendHandler(path)
