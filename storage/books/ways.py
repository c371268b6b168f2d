"""The ways by which the same events come: the modes of a source, and those of other sources of its product."""

from __future__ import annotations

from collections.abc import Container, Iterator
from hashlib import blake2b
from itertools import chain, combinations
from typing import NamedTuple


class Way(NamedTuple):
    """A source and one of its modes."""

    source: str
    mode: str


class ComparedSource(NamedTuple):
    """A source whose events come several ways, its own modes first, so much later at most: `grace`, in microseconds."""

    label: str
    grace: int
    ways: tuple[Way, ...]

    def name_of(self, way: Way) -> str:
        """Return the name of a way: its mode; of another source's, `label:mode`."""
        return way.mode if way.source == self.label else f"{way.source}:{way.mode}"

    def names(self, brought: Container[Way]) -> str:
        """Return the names of those ways that brought an event, joined by +."""
        return "+".join(self.name_of(way) for way in self.ways if way in brought)

    def missed(self, names: str) -> list[str]:
        """Return the names of the ways that are not among `names`."""
        seen = names.split("+")
        return [name for way in self.ways if (name := self.name_of(way)) not in seen]

    def possible_names(self) -> Iterator[str]:
        """Yield all names that its events may have: one way at least is its own."""
        sets = chain.from_iterable(combinations(self.ways, size) for size in range(1, len(self.ways) + 1))
        return (self.names(some) for some in sets if any(way.source == self.label for way in some))


def place_of(kind: str, sources: tuple[ComparedSource, ...]) -> str:
    """Return the name of a place in the books, which changes with the ways that are compared."""
    ways = ";".join(f"{source.label}={source.names(source.ways)}" for source in sources)
    return f"{kind} {blake2b(ways.encode(), digest_size=8).hexdigest()}"
