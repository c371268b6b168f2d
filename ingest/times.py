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
# RFC 3339 §5.6, and what senders make of it: a space for T, a missing offset (UTC), a comma, more digits, UTC or GMT
# for Z, and behind an offset the zone's name, as Go and Ruby print it.
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:[.,](\d{1,18}))?\s?"
    r"(?:([Zz]|UTC|GMT)|(?:UTC|GMT)?([+-]\d\d(?::?\d\d)?)(?: \(?[A-Z]{1,5}\)?)?)?\Z",
    re.ASCII,
)
# What nearly all senders write. fromisoformat is quick, but takes week dates too, and no leap second.
_COMMON = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d\.\d{3}Z\Z", re.ASCII)
_NUMBER = re.compile(r"(-?)(\d{1,40})(?:\.(\d{1,40}))?(?:[eE]([+-]?\d{1,2}))?", re.ASCII)
# What a number counts, as a share of a second, and below what, were it seconds, in nanoseconds: seconds end in the year
# 5138, and so do milliseconds and microseconds after them; nanoseconds end with 64 bits.
_UNITS = ((1, 10**20), (10**3, 10**23), (10**6, 10**26), (10**9, 2**63 * 10**9))
# Linux stops CLOCK_MONOTONIC while the machine sleeps; where there is no CLOCK_BOOTTIME (macOS, BSD) it goes on.
_elapsed = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


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

    A time without offset is UTC; of an offset and a name behind it the offset counts. Second 60 is the leap second
    (RFC 3339 §5.7). Raises ValueError for anything else, also for instants that UTC cannot write with a four-digit
    year.
    """
    if _COMMON.match(text):
        return instant_of(datetime.fromisoformat(text))
    match = _RFC3339.match(text.strip())
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text[:64]!r}")
    date, hours_minutes, seconds, fraction, _, offset = match.groups()
    leap = seconds == "60"
    at = datetime.fromisoformat(f"{date}T{hours_minutes}:{'59' if leap else seconds}{offset or '+00:00'}")
    try:
        utc = at.astimezone(UTC) + (_ONE_SECOND if leap else timedelta())
    except OverflowError:
        raise ValueError(f"beyond the years that can be written: {text[:64]!r}") from None
    nanoseconds = int((fraction or "0").ljust(9, "0")[:9])
    return Instant(instant_of(utc).nanoseconds + nanoseconds, utc.replace(microsecond=nanoseconds // 1000))


def parse_epoch(literal: str) -> Instant:
    """Return the instant of a number as JSON writes it: Unix seconds, or the unit of a thousandth, millionth or
    billionth that brings it before the year 5138. Raises ValueError.
    """
    match = _NUMBER.fullmatch(literal.strip())
    if match is None:
        raise ValueError(f"not a Unix time: {literal[:64]!r}")
    sign, whole, fraction, exponent = match.groups("")
    shift = 9 + int(exponent or "0") - len(fraction)
    digits = int(sign + whole + fraction)
    nanoseconds = digits * 10**shift if shift >= 0 else digits // 10**-shift
    unit = next((unit for unit, end in _UNITS if abs(nanoseconds) < end), None)
    if unit is None:
        raise ValueError(f"too large for a time: {literal[:64]!r}")
    nanoseconds //= unit
    return Instant(nanoseconds, EPOCH + timedelta(microseconds=nanoseconds // 1000))


def parse_time(text: str) -> Instant:
    """Return the instant that a sender's text or number names, in any of its spellings. Raises ValueError."""
    try:
        return parse_rfc3339(text)
    except ValueError:
        return parse_epoch(text)


def rfc3339(at: datetime) -> Time:
    """Return a time as it is shown everywhere: UTC, three decimals, Z (contract §4)."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
