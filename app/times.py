"""Times as people ask for them, on the command line and in the API."""

from __future__ import annotations

from datetime import UTC, datetime

from ingest.times import parse_rfc3339


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(UTC)


def time_of(text: str, now: datetime) -> datetime:
    """Return an RFC 3339 time, or a duration before `now` such as "30m", "2h" or "3d". Raises ValueError."""
    from ingest.settings.quantities import parse_duration  # pydantic takes a while, and --help needs none of it

    try:
        return now - parse_duration(text)
    except (ValueError, OverflowError):
        pass
    try:
        return parse_rfc3339(text).at
    except ValueError:
        raise ValueError('expected a time such as "2026-07-28T16:53:05Z", or "2h", "3d" for that long ago') from None


def age_of(time: str, now: datetime) -> str:
    """Return how long ago an RFC 3339 time was, in the largest unit of which there are two: "90 s", "45 min", "3 d"."""
    seconds = max(0.0, (now - parse_rfc3339(time).at).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
