"""How much the dispatcher keeps in hand, and how often it looks; the defaults suit everybody, tests are in a hurry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """Bounds of what one handler has in hand, and the times between what it does again and again.

    `window_events` and `window_bytes` (of data) may be read ahead of the cursor, `read_events` at a time. The cursor
    is saved after `save_seconds` or `save_events`, whichever comes first. Every `round_seconds` parked rows that are
    due are fetched, at most `retry_events`, and gauges refreshed. A stop waits `drain_seconds` for what is in flight.
    Every `look_seconds` it is seen whether a handler's own event loop answers.
    """

    window_events: int = 2_000
    window_bytes: int = 32 * 1024 * 1024
    read_events: int = 256
    save_seconds: float = 0.2
    save_events: int = 1_000
    round_seconds: float = 1.0
    retry_events: int = 500
    drain_seconds: float = 8.0
    look_seconds: float = 0.5
