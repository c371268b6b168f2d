"""Leases: what one process does at a time, of all that share the store, and how they spread over the processes.

A name is a path, `kind/…/own name`: "handler/alerts", "stream/fleet/1", "duty/retention". All leases that differ in
the last part alone are a group, such as the streams of a source; all that begin alike are a kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple

RETENTION = "duty/retention"
STORE_GAUGES = "duty/store-gauges"
BOOKS = "duty/books"
PARTITIONS = "duty/partitions"
BALANCE = "duty/balance"


def handler_lease(handler: str) -> str:
    """Return the name of a handler's lease."""
    return f"handler/{handler}"


def stream_lease(source: str, stream: int) -> str:
    """Return the name of the lease of one of a source's streams."""
    return f"stream/{source}/{stream}"


class Lease:
    """A lease as this process has it, or has it not."""

    def __init__(self, *, held: bool = False) -> None:
        self._held = asyncio.Event()
        self._free = asyncio.Event()
        self.change(held=held)

    @property
    def held(self) -> bool:
        """Return whether it is this process's to do."""
        return self._held.is_set()

    async def acquired(self) -> None:
        """Return when this process holds it."""
        await self._held.wait()

    async def lost(self) -> None:
        """Return when this process does not hold it: it gave it back, or may have lost it."""
        await self._free.wait()

    def change(self, *, held: bool) -> None:
        """Note whether this process holds it now."""
        now, before = (self._held, self._free) if held else (self._free, self._held)
        before.clear()
        now.set()


class OwnLeases:
    """protocols.Leases where no other process can be: all of them are held, at no cost."""

    def __init__(self, holder: str = "alone") -> None:
        self.holder = holder
        self._leases: dict[str, Lease] = {}

    @property
    def peers(self) -> int:
        """See protocols.Leases."""
        return 0

    def lease(self, name: str) -> Lease:
        """See protocols.Leases."""
        return self._leases.setdefault(name, Lease(held=True))

    async def join(self) -> None:
        """See protocols.Leases."""

    async def run(self) -> None:
        """See protocols.Leases."""
        await asyncio.Event().wait()

    async def leave(self) -> None:
        """See protocols.Leases."""

    async def close(self) -> None:
        """See protocols.Leases."""


class Changes(NamedTuple):
    """The leases that a process takes, and those that it gives back because others hold less."""

    taken: Collection[str]
    given: Collection[str]


def spread(me: str, wants: Mapping[str, Collection[str]], held: Mapping[str, str]) -> Changes:
    """Return what `me` should take and give back. `wants`: by living process; `held`: who has what, of these alone.

    A free lease goes to the process that holds the least of its group, then of its kind. One that is held goes back
    where another process would still hold less with it. All processes that look at the same come to the same.
    """
    load = _Load(wants, held)
    taken, given = [], []
    for name in sorted({name for wanted in wants.values() for name in wanted} - held.keys()):
        process = load.least(name, wants)
        load.add(process, name)
        if process == me:
            taken.append(name)
    for name in sorted(name for name, holder in held.items() if holder == me):
        others = [process for process in wants if process != me]
        if any(name in wants[other] and load.with_one_more(other, name) < load.of(me, name) for other in others):
            load.add(me, name, -1)
            load.add(load.least(name, others_of(wants, me)), name)
            given.append(name)
    return Changes(taken, given)


def others_of(wants: Mapping[str, Collection[str]], me: str) -> Mapping[str, Collection[str]]:
    """Return what the other processes want."""
    return {process: names for process, names in wants.items() if process != me}


class _Load:
    """How many leases of a group, and of a kind, each process holds."""

    def __init__(self, processes: Iterable[str], held: Mapping[str, str]) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        for name, holder in held.items():
            self.add(holder, name)

    def of(self, process: str, name: str) -> tuple[int, int]:
        """Return how many of the name's group a process holds, and of its kind."""
        group, kind = name.rpartition("/")[0], name.partition("/")[0]
        return self._counts.get((process, group), 0), self._counts.get((process, f"{kind}/"), 0)

    def with_one_more(self, process: str, name: str) -> tuple[int, int]:
        """Return what `of` would with this name."""
        group, kind = self.of(process, name)
        return group + 1, kind + 1

    def least(self, name: str, wants: Mapping[str, Collection[str]]) -> str:
        """Return the process that wants it and holds the least; of equal ones any, but always the same."""
        return min(
            (process for process, names in wants.items() if name in names),
            key=lambda process: (*self.of(process, name), _tie(process, name)),
        )

    def add(self, process: str, name: str, count: int = 1) -> None:
        """Count a lease of a process."""
        for key in (name.rpartition("/")[0], f"{name.partition('/')[0]}/"):
            self._counts[process, key] = self._counts.get((process, key), 0) + count


def _tie(process: str, name: str) -> bytes:
    return blake2b(f"{process}\0{name}".encode(), digest_size=8).digest()
