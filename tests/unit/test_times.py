"""One instant from every way of writing it, exact to the nanosecond, and ValueError for what is no time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.times import Instant, instant_of, parse_epoch, parse_rfc3339, parse_time, rfc3339

STAMP = 1_785_257_585_616_000_000


@pytest.mark.parametrize(
    "text",
    [
        "2026-07-28T16:53:05.616Z",
        "2026-07-28t16:53:05.616z",
        "2026-07-28 16:53:05.616",
        "2026-07-28T16:53:05,616Z",
        "2026-07-28T16:53:05.616000000Z",
        "2026-07-28T16:53:05.616 Z",
        "2026-07-28T18:53:05.616+02:00",
        "2026-07-28T18:53:05.616+0200",
        "2026-07-28T18:53:05.616+02",
        "2026-07-28T06:23:05.616-10:30",
        "  2026-07-28T16:53:05.616Z\n",
        "2026-07-28 16:53:05.616 UTC",
        "2026-07-28 16:53:05.616 GMT",
        "2026-07-28 16:53:05.616UTC",
        "2026-07-28 16:53:05.616 +0000 UTC",
        "2026-07-28 16:53:05.616 +00:00 (UTC)",
        "2026-07-28 18:53:05.616 +0200 CEST",
        "2026-07-28T18:53:05.616 GMT+02:00",
    ],
)
def test_one_instant_from_every_way_of_writing_it(text: str) -> None:
    """Offset, precision and separators never change the instant."""
    assert parse_rfc3339(text) == Instant(STAMP, datetime(2026, 7, 28, 16, 53, 5, 616000, UTC))


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:00.0000000019Z", 1),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000_000),
        ("2016-12-31T23:59:60.500Z", 1_483_228_800_500_000_000),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000_000_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999_000_000),
    ],
)
def test_the_edges_of_time_are_exact(text: str, nanoseconds: int) -> None:
    """Nanoseconds, leap seconds, times before 1970 and the first and last year keep their exact place."""
    assert parse_rfc3339(text).nanoseconds == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-07-28",
        "2026-13-28T16:53:05Z",
        "2026-02-30T16:53:05.616Z",
        "2026-07-28T25:53:05.616Z",
        "2026-07-28T16:53:61Z",
        "2026-W01-1T16:53:05.616Z",
        "٢٠٢٦-07-28T16:53:05.616Z",
        "2026-07-28T16:53:05.٦١٦Z",
        "2026-07-28T16:53:05.616ZZ",
        "2026-07-28 16:53:05.616 CEST",
        "2026-07-28 16:53:05.616 UTC GMT",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "9999-12-31T23:59:60Z",
        "2026-07-28T16:53:05+99:00",
    ],
)
def test_what_is_no_time_is_an_error(text: str) -> None:
    """Anything but a timestamp, and instants that UTC cannot write in four digits, raise ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        parse_rfc3339(text)


@pytest.mark.parametrize(
    ("literal", "nanoseconds"),
    [
        ("0", 0),
        ("1785257585", 1_785_257_585_000_000_000),
        ("1785257585.616", STAMP),
        ("1785257585616", STAMP),
        ("1785257585616.25", STAMP + 250_000),
        ("-1", -1_000_000_000),
        ("-0.5", -500_000_000),
        ("-1.5", -1_500_000_000),
        ("1785257585616000", STAMP),
        ("1785257585616000000", STAMP),
        ("1785257585616000000.9", STAMP),
        ("1.785257585616e9", STAMP),
        ("1785.257585616E+06", STAMP),
        ("1785257585616000e-3", STAMP),
        ("1.75e9", 1_750_000_000_000_000_000),
        ("1.0" + "0" * 30, 1_000_000_000),
        ("-0.0000000001", -1),
        ("99999999999", 99_999_999_999_000_000_000),
        ("100000000000", 100_000_000_000_000_000),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_unix_times_of_any_unit(literal: str, nanoseconds: int) -> None:
    """A number is seconds, or of the first finer unit by which it lies before the year 5138; its fraction is exact."""
    assert parse_epoch(literal).nanoseconds == nanoseconds


@pytest.mark.parametrize(
    "literal",
    ["", "1e300", "1e", "NaN", "Infinity", "0x10", "1 2", "9223372036854775808", "9" * 41, "1." + "0" * 41, "1.", "٣"],
)
def test_what_is_no_unix_time_is_an_error(literal: str) -> None:
    """Other notations and absurd numbers raise ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        parse_epoch(literal)


@given(
    st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),
    st.integers(-1439, 1439),
)
def test_every_aware_time_survives_writing_and_reading(naive: datetime, minutes: int) -> None:
    """An instant is the same in whichever zone it is written, to the microsecond."""
    at = naive.replace(tzinfo=UTC)
    text = at.astimezone(timezone(timedelta(minutes=minutes))).isoformat()
    assert parse_rfc3339(text) == instant_of(at)


@given(
    st.integers(10**12, 10**14 // 20),
    st.sampled_from([1, 10, 100, 1000]),
    st.integers(-1439, 1439),
    st.sampled_from(["", "0", "000"]),
)
def test_every_spelling_of_an_instant_is_one(millis: int, precision: int, minutes: int, zeros: str) -> None:
    """Text in any offset, and numbers of any unit, with or without an exponent, name the same nanosecond."""
    stamp = millis // precision * precision
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=stamp)
    utc, there = (
        f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond:06}{zeros}",
        at.astimezone(timezone(timedelta(minutes=minutes))),
    )
    seconds = f"{stamp // 1000}.{stamp % 1000:03}{zeros}"
    spellings = [
        *(there.isoformat(), f"{utc} UTC", f"{utc} GMT", f"{utc} +0000 UTC", utc.replace(" ", "T") + "Z"),
        *(seconds, str(stamp), f"{stamp}000", f"{stamp}000000", f"{stamp}.{zeros}" if zeros else f"{stamp}"),
        *(f"{str(stamp)[0]}.{str(stamp)[1:]}e{len(str(stamp)) - 4}", f"{stamp}e-3", f"{stamp}E+6"),
    ]
    assert {parse_time(spelling) for spelling in spellings} == {instant_of(at)}


def test_times_are_shown_in_utc_with_milliseconds() -> None:
    """Three decimals, cut and not rounded, four digits of year, and Z."""
    there = timezone(timedelta(hours=2))
    assert rfc3339(datetime(2026, 7, 28, 18, 53, 5, 616999, there)) == "2026-07-28T16:53:05.616Z"
    assert rfc3339(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000Z"
