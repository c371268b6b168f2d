"""The states of devices in hand, and what was found since they were last saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from app.auditor.followed_sources import FollowedSources, observation_of
from ingest.event import Event
from ingest.sequences import Changes, DeviceState, Observation, SequenceRules, expire, observe
from storage.sequences import DeviceKey, Followed, SequenceRow

Number = tuple[Observation, SequenceRules]


class Findings:
    """The work between two saves. `complete`: no event was gone before it was read."""

    def __init__(self, sources: FollowedSources, next_id: int, *, complete: bool) -> None:
        self.changes = Changes(next_id)
        self._sources = sources
        self._complete = complete
        self._forget = False
        self._states: dict[DeviceKey, DeviceState] = {}
        self._heard_at: dict[DeviceKey, int] = {}

    @property
    def devices(self) -> int:
        """Return how many states are in hand."""
        return len(self._states)

    def read(self, events: Iterable[Event]) -> list[Number]:
        """Return the numbers that events carry."""
        found = []
        for event in events:
            source = self._sources.of_event(event)
            if source is not None and (seen := observation_of(source, event)) is not None:
                found.append((seen, source.rules))
        return found

    def unknown(self, keys: Iterable[DeviceKey]) -> list[DeviceKey]:
        """Return the devices whose state is not in hand."""
        return [] if self._forget else [key for key in dict.fromkeys(keys) if key not in self._states]

    def take_states(self, keys: Iterable[DeviceKey], found: Mapping[DeviceKey, bytes]) -> None:
        """Take the states of devices in hand, as they are in the store."""
        for key in keys:
            encoded = found.get(key)
            self._states[key] = DeviceState() if encoded is None else DeviceState.decode(encoded)

    def observe(self, numbers: Iterable[Number]) -> None:
        """Follow the counters."""
        states = self._states
        for seen, rules in numbers:
            key = (seen.product, seen.device)
            state = states.get(key)
            if state is None:
                state = states[key] = DeviceState()
            is_certain = state.runs or self._complete  # else the device may have begun long before
            observe(state, seen, rules if is_certain else rules._replace(first=None), self.changes)
            self._heard_at[key] = max(seen.at, self._heard_at.get(key, 0))

    def expire(self, keys: Iterable[DeviceKey], now: int) -> None:
        """Call lost what was due by `now`, in microseconds."""
        for product, device in keys:
            modulus = self._sources.modulus_of(product)
            expire(self._states[product, device], product, device, now, modulus, self.changes)

    def forget(self) -> None:
        """Forget every device, for events were gone before they were read: nothing is certain of before."""
        next_id, self._complete, self._forget = self.changes.next_id, False, True
        self.changes = Changes(next_id)
        self._states.clear()
        self._heard_at.clear()

    def followed(self) -> Followed:
        """Return what is to be saved."""
        self.changes.merge_recovered()
        ranges = self.changes.ranges
        return Followed(
            [self._row(key, state) for key, state in self._states.items()],
            [row for row in ranges.values() if row is not None],
            [id_ for id_, row in ranges.items() if row is None],
            self._forget,
        )

    def after_save(self) -> Findings:
        """Return what begins when this was saved."""
        return Findings(self._sources, self.changes.next_id, complete=self._complete)

    def _row(self, key: DeviceKey, state: DeviceState) -> SequenceRow:
        modulus = self._sources.modulus_of(key[0])
        number = state.runs[-1].top if state.runs else 0
        return SequenceRow(
            *key, state.encode(), number if modulus is None else number % modulus, self._heard_at.get(key, 0)
        )
