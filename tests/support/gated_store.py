"""A Store that commits when the test says so: for what happens around a commit, not for what is in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ingest.event import Commit, Event, Ignored, Outcome, Record, Reject

Decide = Callable[[Sequence[Record]], Sequence[Outcome]]


def as_sent(records: Sequence[Record]) -> list[Outcome]:
    """Every event is new."""
    return [
        Outcome.REJECTED
        if isinstance(record, Reject)
        else Outcome.IGNORED
        if isinstance(record, Ignored)
        else Outcome.STORED
        for record in records
    ]


class GatedStore:
    """protocols.Store whose commits wait while the gate is closed. `decide` gives the outcomes, or raises."""

    def __init__(self, decide: Decide = as_sent) -> None:
        self.decide = decide
        self.batches: list[int] = []  # how many records each attempt had
        self._open = asyncio.Event()
        self._open.set()
        self._begun = asyncio.Event()

    def close_gate(self) -> None:
        """Let commits wait from now on."""
        self._open.clear()
        self._begun.clear()

    def open_gate(self) -> None:
        """Let commits through."""
        self._open.set()

    async def begun(self) -> None:
        """Return when a commit has begun since the gate was closed."""
        await self._begun.wait()

    async def commit(self, records: Sequence[Record]) -> Commit:
        """See protocols.Store."""
        self.batches.append(len(records))
        self._begun.set()
        await self._open.wait()
        await asyncio.sleep(0)  # as a real commit does, let the others have a turn
        outcomes = self.decide(records)
        told = zip(records, outcomes, strict=True)
        stored = [record for record, outcome in told if outcome is Outcome.STORED and isinstance(record, Event)]
        return Commit(outcomes, lambda: stored)
