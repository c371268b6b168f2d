"""A delivery mode as it describes itself, so that nothing outside its folder or package need know it by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from ingest.event import Origin

if TYPE_CHECKING:  # settings are read by commands that run no source
    from ingest.formats import AnyFormat
    from ingest.intake import SourceIntake
    from ingest.metrics import Metrics
    from ingest.protocols import Coverage, Leases, Opens, Source

Table = TypeVar("Table", bound=BaseModel)
"""The model of the table `[sources.<label>.<mode>]`."""

Fault = tuple[tuple[str | int, ...], str]
"""A key by its parts, such as ("sources", "fleet", "sse", "token"), and what was expected there; never the value."""


@dataclass(frozen=True, slots=True)
class SourceParts:
    """The things that every source of a process is made with. `inbox_bytes`: how much the inbox holds.

    `leases` and `opens` are shared with the other processes on the store.
    """

    intake: Callable[[Origin], SourceIntake]
    metrics: Metrics
    coverage: Coverage
    leases: Leases
    opens: Opens
    clock: Callable[[], datetime]
    forbids: Callable[[Mapping[str, str]], bool]  # requests of foreign web pages, on loopback
    inbox_bytes: int
    add_auth_failures: Callable[[str, int], Awaitable[None]] | None = None  # to a source's, in the store


class ConfiguredSource(Protocol):
    """A table `[sources.<label>]` as the rules of modes see it."""

    @property
    def modes(self) -> tuple[str, ...]:
        """Return the modes that run."""
        ...

    @property
    def fields(self) -> Iterable[tuple[str, Any]] | None:
        """Name and place of each field of the generic format; None where none are given."""
        ...

    def table(self, mode: str) -> Any:
        """Return the table of a mode, whether it runs or not."""
        ...


Sources = Mapping[str, ConfiguredSource]
"""All sources of a configuration, by label."""

Factory = Callable[[Origin, Table, "AnyFormat"], "Source"]
"""Makes the source of a label from its table. Where the mode has a path, the source is an ASGI application too."""


def _nothing(*_: object) -> Any:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMode(Generic[Table]):
    """One delivery mode; its table has to be valid where it is empty, as that of a mode which does not run may be.

    `factory` is called once in a process; what it returns makes a source for each label, so they may share something.
    `defaults`: what the table has where it is silent, by label and product ("" where its sender says which). `faults`:
    what is wrong between keys, for sources that run the mode. `unguarded`: the key that lets everybody in and what is
    expected there, which is a fault
    where other machines reach us. `path`: whose requests the source answers. `probe`: tries what the table names for
    seconds, taking nothing, and returns a line, or None where nothing can be tried; raises ConfigurationError that
    begins with the key it is given. `quiet_seconds`: how long a source that listens may go without proof of it.
    """

    name: str
    settings: type[Table]
    factory: Callable[[SourceParts], Factory[Table]]
    defaults: Callable[[str, str], dict[str, Any]] = lambda _label, _product: {}
    faults: Callable[[Sources], Iterator[Fault]] = lambda _sources: iter(())
    unguarded: Callable[[Table], tuple[str, str] | None] = _nothing
    path: Callable[[Table], str | None] = _nothing
    probe: Callable[[str, Table], str | None] = _nothing
    quiet_seconds: Callable[[Table], float] = lambda _table: 0.0
