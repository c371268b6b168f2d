"""A device followed by the tracker: its state goes through bytes at each step, and its ranges lie in a table."""

from __future__ import annotations

from collections import Counter

from ingest.sequences import Changes, DeviceState, LossRange, LossState, Observation, SequenceRules, expire, observe

SECOND = 1_000_000


class Tracked:
    """One device of the source `fleet`. Times are in seconds. Where it goes `through_bytes` each step is checked."""

    def __init__(
        self,
        *,
        first: int | None = None,
        modulus: int | None = None,
        by_epoch: bool = False,
        grace: float = 300,
        through_bytes: bool = True,
    ) -> None:
        self.rules = SequenceRules(round(grace * SECOND), first, modulus, by_epoch)
        self.state = DeviceState()
        self.table: dict[int, LossRange] = {}
        self.counts: Counter[str] = Counter()
        self._through_bytes = through_bytes
        self._next_id = 1

    def see(
        self, *numbers: int, at: float = 0, data: str = "", epoch: int | None = None, source: str = "fleet"
    ) -> Tracked:
        """Numbers come, each with data of its own, `data` and the number."""
        for number in numbers:
            digest = (hash((data, number)) & 0xFFFFFF or 1).to_bytes(3, "little")
            seen = Observation("tracker", "dev1", source, number, digest, epoch, round(at * SECOND))
            changes = Changes(self._next_id)
            observe(self.state, seen, self.rules, changes)
            self._take(changes)
        return self

    def expire(self, at: float) -> Tracked:
        """Call lost what is due."""
        changes = Changes(self._next_id)
        expire(self.state, "tracker", "dev1", round(at * SECOND), self.rules.modulus, changes)
        self._take(changes)
        return self

    def numbers(self, state: str) -> list[int]:
        """The numbers that the table has in a state, by their ids."""
        rows = [row for _, row in sorted(self.table.items()) if row.state == state]
        return [number for row in rows for number in range(row.first, row.last + 1)]

    def _take(self, changes: Changes) -> None:
        changes.merge_recovered()
        self._next_id = changes.next_id
        for id_, row in changes.ranges.items():
            if row is None:
                self.table.pop(id_, None)
            else:
                self.table[id_] = row
        for name in ("missing", "lost", "ambiguous"):
            self.counts[name] += getattr(changes, name).total()
        for (_, before), count in changes.recovered.items():
            self.counts[f"recovered from {before.value}"] += count
        if self._through_bytes:
            self.state = DeviceState.decode(self.state.encode())
            self._check()

    def _check(self) -> None:
        """The table and the counts agree with each other and with the state; ids overlap nowhere."""
        end = 0
        for id_, row in sorted(self.table.items()):
            assert end <= id_ == row.id
            end = id_ + row.last - row.first + 1
        assert end <= self._next_id
        assert self.counts["missing"] == len(self.numbers("missing"))
        assert self.counts["lost"] == len(self.numbers("lost")) + self.counts["recovered from lost"]
        holes = [hole for run in self.state.runs for hole in run.holes]
        assert sum(hole.size() for hole in holes if not hole.lost) == self.counts["missing"]
        assert all(hole.id in self.table for hole in holes), LossState.MISSING
