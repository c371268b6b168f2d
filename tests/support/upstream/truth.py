"""What really happened, from a journal: which events were sent when, and when no connection could receive."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.support.spans import Span, complement
from tests.support.upstream.journal import Deaf, Entry, Hears, Sent


@dataclass(frozen=True, slots=True)
class Truth:
    """Times by `time.time()`.

    `sent` has every copy of each number. `deaf` is when no connection could receive: none was open and answered with a
    stream, or each one was stalled, ended, or so far behind that its events were dropped.
    """

    sent: Mapping[int, Sequence[Sent]]
    deaf: Sequence[Span]
    dropped_at: Sequence[float]  # when events were dropped because a reader was too slow

    def lasted(self, number: int) -> Span:
        """From when to when a number was first being sent."""
        first = self.sent[number][0]
        return first.at, first.done

    def handed(self, since: float, until: float) -> int:
        """How many copies were handed to connections in a stretch of time."""
        return sum(len(copy.handed) for copies in self.sent.values() for copy in copies if since <= copy.at <= until)


def truth_of(entries: Sequence[Entry], within: Span) -> Truth:
    """The truth about a stretch of time that begins with a stream that hears."""
    sent: defaultdict[int, list[Sent]] = defaultdict(list)
    hearing: list[Span] = []
    since: dict[int, float] = {}
    for entry in entries:
        if isinstance(entry, Sent):
            sent[entry.number].append(entry)
        elif isinstance(entry, Hears):
            since[entry.connection] = entry.at
        elif isinstance(entry, Deaf):
            hearing.append((since.pop(entry.connection), entry.at))
    hearing += [(at, within[1]) for at in since.values()]
    dropped = [entry.at for entry in entries if isinstance(entry, Deaf) and entry.why == "dropped"]
    return Truth(dict(sent), complement(hearing, within), dropped)
