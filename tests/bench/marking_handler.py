"""A handler that does nothing but note when the first and the last event came: copied beside a configuration.

How many there are stands in the file `events` beside it. The notes go to `marks`, a line each: seconds of the clock,
and of a core that the process used.
"""

from __future__ import annotations

import time
from pathlib import Path

_FOLDER = Path(__file__).parent
_last = int((_FOLDER / "events").read_text()) if (_FOLDER / "events").exists() else 0
_came = 0


async def on_event(_: object) -> None:
    """Take an event."""
    global _came  # noqa: PLW0603 - it is called once for each event, and nothing else may cost time
    _came += 1
    if _came in {1, _last}:
        with (_FOLDER / "marks").open("a") as marks:
            marks.write(f"{time.monotonic()} {time.process_time()}\n")
