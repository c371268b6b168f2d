"""Whether a source is listening, told from what its processes wrote down: nobody of them is asked."""

from __future__ import annotations

from typing import Any

from app.row_json import time_json
from app.settings import Settings
from ingest.event import Cause, Mode
from ingest.sources import modes
from storage.queries import Covered, GapRow

LISTENING = "listening"
_LATE_SECONDS = 20.0  # by which a record may lag: an endpoint's is renewed every two, and a busy store takes its time


def patience_of(settings: Settings, source: str, mode: Mode) -> float:
    """How many seconds a stream that listens may go without proof: a quiet one has it by the next byte only."""
    configured = settings.sources.get(source)
    quiet = modes()[mode].quiet_seconds(configured.table(mode)) if configured and mode in modes() else 0.0
    return quiet + _LATE_SECONDS


def listening_json(covered: Covered | None, lasting: GapRow | None, patience: float) -> dict[str, Any]:
    """`state` is listening, or why nobody is; `since` when; `streams` those that were heard of in `patience` seconds.

    Where no record goes on and no gap was written, the process was killed: `down`, as the gap to come will say.
    All is null where no record is kept (Pub/Sub), and before the first start.
    """
    alive = [interval for interval in covered.open if interval.silent_seconds <= patience] if covered else []
    if lasting is not None:
        state, since = lasting.gap.cause.value, lasting.gap.since
    elif covered is not None:
        state, since = (LISTENING, covered.unbroken_since) if alive else (Cause.DOWN.value, covered.until)
    else:
        state, since = None, None
    return {
        "state": state,
        "since": time_json(since),
        "covered_since": time_json(covered.since if covered else None),
        "covered_until": time_json(covered.until if covered else None),
        "streams": [
            {"stream": one.stream, "since": time_json(one.since), "covered_until": time_json(one.until)}
            for one in alive
        ],
    }
