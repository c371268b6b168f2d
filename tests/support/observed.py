"""What the service says of a run, read by its API alone."""

from __future__ import annotations

import re
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from tests.support.exactness import Observed, RecordedGap
from tests.support.numbered import number_of
from tests.support.oracle import get_json

_PAGE = 1000
_DUPLICATES = re.compile(r'^headrace_events_duplicate_total\{[^}]*kind="(\w+)"[^}]*\} (\S+)$', re.MULTILINE)


def observe(base_url: str, run: str, sent_again: Iterable[int] = ()) -> Observed:
    """Stored numbers of a run, the gaps of its streams, and the arrivals of the numbers that were sent again."""
    ids: dict[int, str] = {}
    stored: Counter[int] = Counter()
    for event in pages(base_url, "events"):
        if (found := numbered(event)) and found[0] == run:
            stored[found[1]] += 1
            ids[found[1]] = event["id"]
    arrivals = {number: arrivals_of(base_url, ids[number]) if number in ids else 0 for number in sent_again}
    return Observed(stored, list(gaps(base_url)), arrivals)


def gaps(base_url: str, mode: str = "sse") -> Iterator[RecordedGap]:
    """Every gap of a mode."""
    for row in pages(base_url, "gaps"):
        if row["mode"] == mode:
            until = None if row["until"] is None else seconds_of(row["until"])
            yield RecordedGap(seconds_of(row["since"]), until, row["cause"])


def arrivals_of(base_url: str, id_: str) -> int:
    """How often an event arrived."""
    return 1 + len(get_json(f"{base_url}/api/v1/events/{id_}")["sightings"])


def newest_number(base_url: str, run: str) -> int:
    """The number of the last event that was stored; -1 where that is none of the run."""
    rows = get_json(f"{base_url}/api/v1/events?order=desc&limit=1")["events"]
    found = numbered(rows[0]) if rows else None
    return found[1] if found and found[0] == run else -1


def duplicates(base_url: str) -> Counter[str]:
    """What the service counted as duplicates, by kind."""
    found: Counter[str] = Counter()
    with urllib.request.urlopen(f"{base_url}/metrics", timeout=20) as answer:
        for kind, value in _DUPLICATES.findall(answer.read().decode()):
            found[kind] += int(float(value))
    return found


def pages(base_url: str, what: str, **wanted: str) -> Iterator[dict[str, Any]]:
    """All rows of a listing, page by page; `wanted` are its filters."""
    after: int | None = 0
    while after is not None:
        query = urllib.parse.urlencode({"limit": _PAGE, "after": after, **wanted})
        page = get_json(f"{base_url}/api/v1/{what}?{query}")
        yield from page[what]
        after = page["next"]


def numbered(event: dict[str, Any]) -> tuple[str, int] | None:
    """The run and number of an event as the API shows it; None where it is no numbered one."""
    return number_of((event["data"] or "").encode())


def seconds_of(time: str) -> float:
    """An RFC 3339 time as seconds since 1970."""
    return datetime.fromisoformat(time).timestamp()
