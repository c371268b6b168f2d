"""The table of figures: each beside its anchor, with the target it should reach, on a terminal and as Markdown."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

README = Path(__file__).with_name("README.md")
_HEADINGS = ("what", "measured", "against", "ratio", "target", "met")
_SYNCS = 50


@dataclass(frozen=True, slots=True)
class Figure:
    """One line: a measurement, what it stands beside, and the target for their ratio or for itself."""

    what: str
    measured: str
    against: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """The line as text."""
        met = "" if self.met is None else ("yes" if self.met else "no")
        return (self.what, self.measured, self.against, self.ratio, self.target, met)


def rate(what: str, measured: float, anchor: str = "", anchored: float = 0.0, least: float | None = None) -> Figure:
    """Make a row of a rate per second, as a multiple of its anchor's; `least` is the target for that."""
    if not anchor:
        return Figure(what, f"{measured:,.0f}/s")
    ratio = measured / anchored
    target = "" if least is None else f"≥ {least:g} ×"
    met = None if least is None else ratio >= least
    return Figure(what, f"{measured:,.0f}/s", f"{anchored:,.0f}/s {anchor}", f"{ratio:.2f} ×", target, met)


def price(what: str, measured: float, shown: str, anchor: str, anchored: float, most: float | None = None) -> Figure:
    """Make a row of what should be low, as a multiple of its anchor's; `most` is the target for that."""
    ratio = measured / anchored
    target = "" if most is None else f"≤ {most:g} ×"
    met = None if most is None else ratio <= most
    return Figure(what, shown, anchor, f"{ratio:.2f} ×", target, met)


def show(figures: Sequence[Figure], facts: Sequence[str]) -> None:
    """Print the table and what it was measured under."""
    table = Table(*_HEADINGS)
    for figure in figures:
        table.add_row(*figure.cells())
    console = Console(width=150)
    console.print(table)
    for fact in facts:
        console.print(fact, highlight=False)


def write(section: str, figures: Sequence[Figure], facts: Sequence[str]) -> None:
    """Replace a section of this folder's README."""
    rows = [_HEADINGS, tuple("---" for _ in _HEADINGS), *(figure.cells() for figure in figures)]
    lines = [*(f"* {fact}" for fact in facts), "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->"
    before, _, rest = README.read_text().partition(begin)
    README.write_text("".join((before, begin, "\n".join(lines), end, rest.partition(end)[2])))


def machine(folder: Path) -> list[str]:
    """What the figures depend on: date, processor, Python, and how long this disk takes to sync."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({model[1] if model else platform.machine()}),"
        f" {platform.system()}, Python {platform.python_version()}",
        f"write and fsync of 4 KiB where the databases are: median {sync_seconds(folder) * 1e6:,.0f} µs",
    ]


def sync_seconds(folder: Path) -> float:
    """The median time of a write of 4 KiB with fsync, in seconds: what durability costs here at least."""
    taken = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)
