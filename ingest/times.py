"""Times as senders write them: an instant in nanoseconds, whatever its offset and precision."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

import msgspec

# A time as JSON shows it: what `rfc3339` gives.
Time = Annotated[str, msgspec.Meta(description="UTC, three decimals, Z", extra_json_schema={"format": "date-time"})]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_SECOND = timedelta(seconds=1)
_ONE_MICROSECOND = timedelta(microseconds=1)
# RFC 3339 §5.6, and what senders make of it: a space for T, a missing offset (UTC), a comma, more digits.
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:[.,](\d{1,18}))?\s?([Zz]|[+-]\d\d:?\d\d|[+-]\d\d)?\Z", re.ASCII
)
# What nearly all senders write. fromisoformat is quick, but takes week dates too, and no leap second.
_COMMON = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d\.\d{3}Z\Z", re.ASCII)
# Above this a bare number of seconds would lie beyond the year 5138, so it is milliseconds.
_MILLISECONDS_FROM = 100_000_000_000
_elapsed = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic


def elapsed() -> float:
    """Seconds on a clock that nobody sets, and that goes on while the machine sleeps where it has such a one."""
    return _elapsed()


class Instant(msgspec.Struct, frozen=True, gc=False):
    """A point in time: exact in nanoseconds since 1970, and as an aware UTC datetime cut to microseconds."""

    nanoseconds: int
    at: datetime


def instant_of(at: datetime) -> Instant:
    """The instant of an aware datetime."""
    since = at - EPOCH
    return Instant((since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000, at)


def parse_rfc3339(text: str) -> Instant:
    """The instant that `text` names.

    A time without offset is UTC; second 60 is the leap second (RFC 3339 §5.7). Raises ValueError for anything else,
    also for instants that UTC cannot write with a four-digit year.
    """
    if _COMMON.match(text):
        return instant_of(datetime.fromisoformat(text))
    match = _RFC3339.match(text.strip())
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text[:64]!r}")
    date, hours_minutes, seconds, fraction, offset = match.groups()
    leap = seconds == "60"
    zone = "+00:00" if offset is None or offset in "Zz" else offset
    at = datetime.fromisoformat(f"{date}T{hours_minutes}:{'59' if leap else seconds}{zone}")
    try:
        utc = at.astimezone(UTC) + (_ONE_SECOND if leap else timedelta())
    except OverflowError:
        raise ValueError(f"beyond the years that can be written: {text[:64]!r}") from None
    nanoseconds = int((fraction or "0").ljust(9, "0")[:9])
    return Instant(instant_of(utc).nanoseconds + nanoseconds, utc.replace(microsecond=nanoseconds // 1000))


def parse_epoch(literal: str) -> Instant:
    """The instant of a JSON number: Unix seconds, or milliseconds where seconds would be absurd. Raises ValueError."""
    match = re.fullmatch(r"(-?\d{1,16})(?:\.(\d+))?", literal, re.ASCII)
    if match is None:
        raise ValueError(f"not a Unix time: {literal[:64]!r}")
    whole = int(match[1])
    digits = 9 if abs(whole) < _MILLISECONDS_FROM else 6
    fraction = int((match[2] or "0").ljust(digits, "0")[:digits])
    nanoseconds = whole * 10**digits + (-fraction if literal.startswith("-") else fraction)
    try:
        return Instant(nanoseconds, EPOCH + timedelta(microseconds=nanoseconds // 1000))
    except OverflowError:
        raise ValueError(f"beyond the years that can be written: {literal[:64]!r}") from None


def rfc3339(at: datetime) -> Time:
    """Return a time as it is shown everywhere: UTC, three decimals, Z (contract §4)."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
