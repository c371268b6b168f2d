"""The circuit of a handler: many failures in a row say that its receiver is away, and then only a probe is tried."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ingest.deliveries import CircuitState

LONGEST_PROBE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """A circuit that `failures` in a row open (0: never). Times are of a loop.

    Open, it wants a probe at `probe_at`: `probe_seconds` after it opened, and after each one that fails twice as long
    as before, up to ten minutes. Half-open, a probe is on its way.
    """

    failures: int
    probe_seconds: float
    state: CircuitState = CircuitState.CLOSED
    in_a_row: int = 0
    probe_at: float = 0.0
    probes_failed: int = 0

    @property
    def is_open(self) -> bool:
        """Return whether nothing but a probe is tried."""
        return self.state is not CircuitState.CLOSED

    def failed(self, now: float, *, at_once: bool = False) -> CircuitBreaker:
        """Count a failure, one that says `at_once` that the receiver cannot take anything."""
        if self.is_open:
            return self
        counted = replace(self, in_a_row=self.in_a_row + 1)
        if self.failures and (at_once or counted.in_a_row >= self.failures):
            return counted.opened(now + self.probe_seconds)
        return counted

    def opened(self, probe_at: float) -> CircuitBreaker:
        """Open it."""
        return replace(self, state=CircuitState.OPEN, probe_at=probe_at, probes_failed=0)

    def succeeded(self) -> CircuitBreaker:
        """Close it: something was delivered."""
        return replace(self, state=CircuitState.CLOSED, in_a_row=0)

    def probing(self) -> CircuitBreaker:
        """Note that a probe is on its way."""
        return replace(self, state=CircuitState.HALF_OPEN)

    def probe_failed(self, now: float) -> CircuitBreaker:
        """Wait twice as long for the next one."""
        failed = min(self.probes_failed + 1, 60)
        longest = max(self.probe_seconds, LONGEST_PROBE_SECONDS)
        wait = min(self.probe_seconds * 2**failed, longest)
        return replace(self, state=CircuitState.OPEN, probe_at=now + wait, probes_failed=failed)

    def probe_withdrawn(self) -> CircuitBreaker:
        """Be as before the probe, which came to nothing."""
        return replace(self, state=CircuitState.OPEN)
