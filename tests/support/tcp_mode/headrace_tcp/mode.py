"""The mode `tcp`, for Headrace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ingest.event import Origin
from ingest.sources.mode import Fault, SourceMode, SourceParts, Sources

from .settings import TcpSettings

if TYPE_CHECKING:
    from ingest.formats import AnyFormat

    from .source import TcpSource


class Listeners:
    """The ports of one process."""

    def __init__(self, parts: SourceParts) -> None:
        self._parts = parts

    def __call__(self, origin: Origin, settings: TcpSettings, format_: AnyFormat) -> TcpSource:
        """Make the source that listens on the port of a label."""
        from .source import TcpSource

        parts = self._parts
        port = settings.port or 0  # _faults: it is there
        return TcpSource(origin, port, format_, parts.intake(origin), parts.coverage, parts.clock)


def _faults(sources: Sources) -> Iterator[Fault]:
    """Find sources that have no port, or that of another one."""
    owners: dict[int, str] = {}
    for label, source in sources.items():
        key, port = ("sources", label, "tcp", "port"), source.table("tcp").port
        if "tcp" not in source.modes:
            continue
        if port is None:
            yield key, "required with mode tcp"
        elif (owner := owners.setdefault(port, label)) != label:
            yield key, f"expected a port that sources.{owner} does not have"


TCP = SourceMode(name="tcp", settings=TcpSettings, factory=Listeners, faults=_faults)
