"""How much is measured: in full, and briefly to see that all of it runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: `rounds` of `seconds`; events for dispatch, memory and the bare store.

    `streamed` events come by one stream, which is watched for `quiet_seconds` when nothing comes; `pulled` messages
    come from a subscription; `delivered` go to a receiver, `parked` wait for theirs.
    """

    rounds: int
    seconds: float
    dispatched: int
    resident: int
    stored: int
    streamed: int
    quiet_seconds: float
    pulled: int
    delivered: int
    parked: int


FULL = Sizes(
    rounds=5,
    seconds=5.0,
    dispatched=300_000,
    resident=1_000_000,
    stored=100_000,
    streamed=200_000,
    quiet_seconds=20.0,
    pulled=20_000,
    delivered=20_000,
    parked=100_000,
)
QUICK = Sizes(
    rounds=1,
    seconds=1.0,
    dispatched=20_000,
    resident=50_000,
    stored=10_000,
    streamed=20_000,
    quiet_seconds=2.0,
    pulled=4_000,
    delivered=4_000,
    parked=10_000,
)
