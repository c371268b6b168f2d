"""Something that is made from files, and made anew when they are replaced while we run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

_Stamp = tuple[int, int, int]  # what shows that a file is another one
T = TypeVar("T")

log = structlog.get_logger(__name__)


class Renewed(Generic[T]):
    """`newest` is what `load` made of the files. Raises OSError where it cannot make it at first."""

    def __init__(self, files: Sequence[Path], load: Callable[[], T]) -> None:
        self._files = files
        self._load = load
        self._loaded = self._refused = self._look()
        self.newest = load()

    def renew(self) -> None:
        """Load what changed. What cannot be loaded is logged once, tried again at the next call, and never used."""
        found = self._look()
        if found == self._loaded:
            return
        try:
            self.newest = self._load()
        except OSError as error:
            if found != self._refused:
                log.warning("certificate_not_renewed", certificate=str(self._files[0]), error=str(error))
            self._refused = found
            return
        self._loaded = self._refused = found
        log.info("certificate_renewed", certificate=str(self._files[0]))

    def _look(self) -> tuple[_Stamp | None, ...]:
        return tuple(map(_stamp, self._files))


def _stamp(file: Path) -> _Stamp | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
