"""The line before the inbox: submissions for which there is no room yet, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from ingest.submission import Submission


class WaitingLine:
    """Submissions that wait for room, of `bytes` together. What needs much is not overtaken by what needs little."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Submission, asyncio.Future[None]]] = deque()
        self.bytes = 0

    def __iter__(self) -> Iterator[Submission]:
        """Iterate over the submissions, the first in line first."""
        return (submission for submission, _ in self.waiting)

    async def wait(self, submission: Submission, seconds: float | None) -> bool:
        """Stand in line until called; return False where that takes more than `seconds` (None: as long as it takes)."""
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = submission, called
        self.waiting.append(place)
        self.bytes += submission.bytes
        await asyncio.wait((called,), timeout=seconds)
        if called.done():
            return True
        self.waiting.remove(place)
        self.bytes -= submission.bytes
        return False

    def call_first(self) -> Submission:
        """Take the first one out of the line, and let whoever waits for it go on."""
        submission, called = self.waiting.popleft()
        self.bytes -= submission.bytes
        called.set_result(None)
        return submission
