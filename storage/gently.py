"""Writes that nobody waits for, between which the ingestion has the database to itself."""

from __future__ import annotations

import asyncio
import time

from storage.database import Database, P, T, Work


async def write_gently(database: Database, rest: float, work: Work[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Write, and then rest `rest` times as long as that took. Raises as Database.write does."""
    started = time.monotonic()
    result = await database.write(work, *args, **kwargs)
    await asyncio.sleep(rest * (time.monotonic() - started))
    return result
