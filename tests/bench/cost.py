"""Rates with the processor time they took (proc(5)), steadier than a rate on a machine that others use too."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.load import Sent
from tests.bench.table import Figure, price


@dataclass(frozen=True, slots=True)
class Measured:
    """Events per second, and the µs of a core that each took: of the event loop's process, and of its children."""

    per_second: float
    loop_micros: float
    writer_micros: float

    @property
    def micros(self) -> float:
        """Return the cost of an event."""
        return self.loop_micros + self.writer_micros

    @property
    def cost(self) -> str:
        """Return the cost of an event as text."""
        writer = f" + {self.writer_micros:.3g}" if self.writer_micros else ""
        return f"{self.loop_micros:.3g}{writer} µs"

    def __str__(self) -> str:
        return f"{self.per_second:,.0f}/s, {self.cost}"


def measured(pid: int, send: Callable[[], Sent]) -> Measured:
    """Measure what a process, and its children, spend while something is sent to it."""
    loop, writer = cpu_seconds(pid), children_seconds(pid)
    sent = send()
    loop, writer = cpu_seconds(pid) - loop, children_seconds(pid) - writer
    return Measured(sent.events / sent.seconds, loop / sent.events * 1e6, writer / sent.events * 1e6)


def median(found: list[Measured]) -> Measured:
    """Return the median of each figure."""
    return Measured(
        statistics.median(one.per_second for one in found),
        statistics.median(one.loop_micros for one in found),
        statistics.median(one.writer_micros for one in found),
    )


def cost(what: str, ours: Measured, anchor: str, theirs: Measured, most: float | None = None) -> Figure:
    """Make the row about the cost of an event, loop + writer, as a multiple of the anchor's."""
    return price(f"{what}: time of a core", ours.micros, ours.cost, f"{theirs.cost} {anchor}", theirs.micros, most)


def cpu_seconds(pid: int) -> float:
    """Return the seconds of a core that a process used so far, in user and system mode (utime, stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_seconds(pid: int) -> float:
    """Return what the process's children used so far: one of them writes SQLite."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(cpu_seconds(int(child)) for child in children)
