"""Durations and sizes: what is written is what is meant, and is shown as it would be written."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.settings.quantities import (
    MAX_DURATION,
    format_duration,
    format_rate,
    format_retention,
    format_size,
    parse_duration,
    parse_rate,
    parse_retention,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("200ms", 0.2), ("20s", 20), ("5m", 300), ("1h", 3600), ("30d", 2_592_000), ("0s", 0)]
)
def test_documented_durations(text: str, seconds: float) -> None:
    """Each unit of the documentation is understood, and shown again as written."""
    assert parse_duration(text) == timedelta(seconds=seconds)
    assert format_duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize("value", ["", "5", 5, 5.0, "s", "-5s", "5 minutes", "5M", "1h30m", "٥s", "5s\n", True, None])
def test_other_durations_are_refused(value: object) -> None:
    """A bare number has no unit, and nothing is guessed."""
    with pytest.raises(ValueError, match="expected a duration such as"):
        parse_duration(value)


@given(st.text() | st.from_regex(r"[0-9]{1,20} ?(ms|s|m|h|d)", fullmatch=True))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    """However large, a duration is within bounds that arithmetic on dates bears, or refused."""
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert timedelta() <= duration <= MAX_DURATION


@given(st.integers(min_value=0, max_value=MAX_DURATION // timedelta(milliseconds=1)))
def test_durations_round_trip(milliseconds: int) -> None:
    """What is shown can be written back and means the same."""
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


def test_forever() -> None:
    """Retention alone may be forever."""
    assert parse_retention("forever") is None
    assert format_retention(None) == "forever"
    assert parse_retention("1d") == timedelta(days=1)


@pytest.mark.parametrize(
    ("value", "size"), [("64KiB", 65536), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("7B", 7), ("7", 7), (7, 7)]
)
def test_sizes(value: object, size: int) -> None:
    """Binary units, or plain bytes as a number or, from the environment, as text."""
    assert parse_size(value) == size


@pytest.mark.parametrize("value", ["", "0", 0, -1, True, 1.5, "1KB", "1k", "1.5MiB", "-1MiB", "1MiBs", None])
def test_other_sizes_are_refused(value: object) -> None:
    """Units that could mean either 1000 or 1024, and sizes that hold nothing, are refused."""
    with pytest.raises(ValueError, match="expected a size above zero"):
        parse_size(value)


@given(st.integers(min_value=1, max_value=1 << 49))
def test_sizes_round_trip(size: int) -> None:
    """What is shown can be written back and means the same."""
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(("text", "rate"), [("100/s", 100.0), ("1/s", 1.0), ("30/m", 0.5), ("10/h", 10 / 3600)])
def test_documented_rates(text: str, rate: float) -> None:
    """So many in a second, a minute or an hour, shown again as written."""
    assert parse_rate(text) == rate
    assert format_rate(rate) == text


@pytest.mark.parametrize("value", ["", "0/s", "100", 100, "-1/s", "1.5/s", "5/d", "5/seconds", "/s", True, None])
def test_other_rates_are_refused(value: object) -> None:
    """A bare number has no unit, and nothing is no rate."""
    with pytest.raises(ValueError, match="expected a rate above zero such as"):
        parse_rate(value)
