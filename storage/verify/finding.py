"""What does not add up: where, by how much, and which rows to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

import msgspec

Check = Literal["rows", "positions", "blocks", "handlers", "gaps", "references", "ids", "losses", "process"]
"""What was compared. `process` is what a process counted itself (ingest.metrics); the others are of the store."""

_SHOWN = 10
K = TypeVar("K")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A difference. Of the members that say where, those are set that apply; `first` and `last` are positions.

    `difference` is never 0: where as many rows are there as there should be, but others, it is how many are wrong.
    `look_at` names the rows, as a condition of SQL or in words.
    """

    check: Check
    source: str | None = None
    mode: str | None = None
    handler: str | None = None
    block: int | None = None
    first: int | None = None
    last: int | None = None
    expected: int | None = None
    found: int | None = None
    difference: int
    look_at: str


class Looked(NamedTuple, Generic[K]):
    """A page of a check: how much it looked at, what differs, and the key to go on behind; None at the end."""

    counted: int
    findings: Sequence[Finding]
    after: K | None


def rows_at(table: str, numbers: Iterable[int], column: str = "position") -> str:
    """Return how rows at some positions are named, the first ones of many."""
    ordered = sorted(numbers)
    if len(ordered) == 1:
        return f"{table} WHERE {column} = {ordered[0]}"
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return f"{table} WHERE {column} IN ({', '.join(map(str, ordered[:_SHOWN]))}){more}"


def named(positions: Sequence[int]) -> str:
    """Return positions as people read them, the first ones of many."""
    more = f" and {len(positions) - _SHOWN} more" if len(positions) > _SHOWN else ""
    return f"position{'s' if len(positions) > 1 else ''} {', '.join(map(str, positions[:_SHOWN]))}{more}"


def quoted(text: str) -> str:
    """Return a text as SQL has it."""
    return "'{}'".format(text.replace("'", "''"))
