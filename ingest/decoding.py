"""Decoding that may take long: a thread does it, so that the event loop goes on with everybody else meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AT_ONCE_BYTES = 64 * 1024
"""So much is decoded on the loop. The oddest JSON takes 0.3 ms for a KiB, usual events a tenth of that."""

_T = TypeVar("_T")


class DecodingThread:
    """Begins with the first use. One for several: a second would only wait for the first one's interpreter lock."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "decoding")

    async def run(self, decode: Callable[[], _T]) -> _T:
        """Return what `decode` makes of more than `AT_ONCE_BYTES`. It is pure: a caller who is cancelled leaves it."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, decode)
