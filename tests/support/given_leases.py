"""Leases as a test gives and takes them."""

from __future__ import annotations

from ingest.leases import Lease


class GivenLeases:
    """protocols.Leases: those of `held` are this process's from the beginning; `peers` may be changed."""

    def __init__(self, *held: str, peers: int = 1) -> None:
        self.holder = "given"
        self.peers = peers
        self.known: dict[str, Lease] = {}
        self._held = held

    def lease(self, name: str) -> Lease:
        """See protocols.Leases."""
        return self.known.setdefault(name, Lease(held=name in self._held))

    async def join(self) -> None:
        """See protocols.Leases."""

    async def run(self) -> None:
        """See protocols.Leases."""

    async def leave(self) -> None:
        """See protocols.Leases."""

    async def close(self) -> None:
        """See protocols.Leases."""
