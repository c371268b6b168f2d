"""When devices count as silent: the configuration's `silent_after`, at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from app.settings import SourceSettings
from storage.queries.device_rows import Silences
from storage.rows import to_micros


def silences_of(sources: Mapping[str, SourceSettings], clock: Callable[[], datetime]) -> Callable[[], Silences]:
    """Return a function that returns what is silent by now."""
    silent_after = {label: _micros(source.silent_after) for label, source in sources.items()}
    return lambda: Silences(to_micros(clock()), silent_after)


def _micros(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // timedelta(microseconds=1)
