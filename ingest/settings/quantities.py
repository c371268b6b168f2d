"""Durations ("20s"), sizes ("64KiB") and rates ("100/s") as the configuration writes them, there and back."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

_DURATION_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_SIZE_UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_RATE_SECONDS = {"s": 1, "m": 60, "h": 3600}
_RATE = re.compile(r"([0-9]{1,9}) ?/ ?(s|m|h)")
_QUANTITY = re.compile(r"([0-9]{1,15}) ?([A-Za-z]*)")
_FOREVER = "forever"
MAX_DURATION = timedelta(days=36500)


def parse_duration(value: Any) -> timedelta:
    """Return the duration that a text such as "200ms", "20s", "5m", "1h" or "30d" names. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    unit = _DURATION_UNITS.get(match[2]) if match else None
    if match is None or unit is None:
        raise ValueError('expected a duration such as "200ms", "20s", "5m", "1h" or "30d"')
    count = int(match[1])
    if count > MAX_DURATION // unit:
        raise ValueError(f'expected a duration of at most "{format_duration(MAX_DURATION)}"')
    return count * unit


def format_duration(duration: timedelta) -> str:
    """Return a duration in its largest whole unit; parts of a millisecond are cut off."""
    for name, unit in _DURATION_UNITS.items():
        if duration and not duration % unit:
            return f"{duration // unit}{name}"
    return f"{duration // _DURATION_UNITS['ms']}ms" if duration else "0s"


def parse_positive_duration(value: Any) -> timedelta:
    """Do as parse_duration, and zero is a ValueError too."""
    duration = parse_duration(value)
    if not duration:
        raise ValueError("expected a duration above zero")
    return duration


def parse_retention(value: Any) -> timedelta | None:
    """Do as parse_positive_duration; None is "forever"."""
    return None if value in (None, _FOREVER) else parse_positive_duration(value)


def format_retention(retention: timedelta | None) -> str:
    """Return a duration, or "forever"."""
    return _FOREVER if retention is None else format_duration(retention)


def parse_size(value: Any) -> int:
    """Return the bytes that a text such as "64KiB" or "1MiB", or a plain whole number, names. Raises ValueError."""
    match = _QUANTITY.fullmatch(str(value)) if isinstance(value, str | int) else None
    unit = _SIZE_UNITS.get(match[2] or "B") if match else None
    if match is None or unit is None or int(match[1]) == 0:
        raise ValueError('expected a size above zero such as "64KiB" or "1MiB", or a number of bytes')
    return int(match[1]) * unit


def format_size(size: int) -> str:
    """Return bytes in their largest whole unit."""
    name, unit = next((name, unit) for name, unit in _SIZE_UNITS.items() if not size % unit)
    return f"{size // unit}{name}"


def parse_rate(value: Any) -> float:
    """Return how many in a second a text such as "100/s", "30/m" or "10/h" means. Raises ValueError."""
    if isinstance(value, float):
        return value
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError('expected a rate above zero such as "100/s", "30/m" or "10/h"')
    return int(match[1]) / _RATE_SECONDS[match[2]]


def format_rate(rate: float) -> str:
    """Return a rate by the shortest time in which it is a whole number."""
    found = ((round(rate * seconds), seconds, name) for name, seconds in _RATE_SECONDS.items())
    return next((f"{count}/{name}" for count, seconds, name in found if count / seconds == rate), f"{rate:g}/s")


def parse_count(value: Any) -> Any:
    """Return anything but true and false, which would otherwise count as 1 and 0. Raises ValueError."""
    if isinstance(value, bool):
        raise ValueError("expected a whole number")
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration)]
PositiveDuration = Annotated[timedelta, BeforeValidator(parse_positive_duration), PlainSerializer(format_duration)]
Retention = Annotated[timedelta | None, BeforeValidator(parse_retention), PlainSerializer(format_retention)]
Rate = Annotated[float, BeforeValidator(parse_rate), PlainSerializer(format_rate)]
Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size)]
Count = Annotated[int, BeforeValidator(parse_count), Field(ge=1)]
