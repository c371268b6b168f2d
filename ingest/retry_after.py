"""The header `Retry-After` of an answer."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MOST_DIGITS = 9  # 30 years


def parse_retry_after(value: str | None, now: datetime, longest: float = math.inf) -> float | None:
    """Return the seconds from `now` that it names, as a number or a date (RFC 9110 §10.2.3): 0 to `longest`.

    None where there is none, or it names nothing.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:_MOST_DIGITS]), longest)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max((aware - now).total_seconds(), 0.0), longest)
