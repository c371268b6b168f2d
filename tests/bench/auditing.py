"""What following the counters of devices costs: `python -m tests.bench.auditing PART [PART …] [--rounds N]`.

`reading`: how fast an Auditor follows 400,000 events of 100,000 devices. `million`: the rows of a million devices, and
how an Auditor begins with them. `ingestion`: what a `sequence` costs a server's ingestion, in turns. `steady`: how far
behind the Auditor is while 20,000 events a second come. `books`: what the books cost a flood, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.bench.audited_server import DEVICES, AuditedServer
from tests.bench.audited_store import begin_apart, fill, follow_all, know_devices, table_bytes
from tests.bench.load import Loader
from tests.bench.stores import DEBIAN, SQLITE, Stores
from tests.bench.table import machine

_EVENTS, _MILLION = 400_000, 1_000_000
_KINDS = (SQLITE, DEBIAN)
_MEGABYTE = 1_000_000


def reading(stores: Stores, rounds: int) -> Iterator[str]:
    """Measure how fast all is followed, on a fresh store each time."""
    for kind in _KINDS:
        for _ in range(rounds):
            with stores.fresh(kind) as url:
                asyncio.run(fill(url, _EVENTS, DEVICES))
                yield f"{kind}: {asyncio.run(follow_all(url))}"


def million(stores: Stores, _rounds: int) -> Iterator[str]:
    """Measure the rows of a million devices, and how an Auditor begins with them."""
    for kind in _KINDS:
        with stores.fresh(kind) as url:
            asyncio.run(know_devices(url, _MILLION))
            (rows, beside), begun = asyncio.run(table_bytes(url, "sequences")), begin_apart(url)
            size = f"{rows / _MEGABYTE:.0f} MB of rows, {beside / _MEGABYTE:.0f} MB of indexes beside them"
            first_step = f"{begun.seconds:.2f} s and {begun.grown / _MEGABYTE:.1f} MB of memory to the first step"
            yield f"{kind}: {size}, {first_step}"


def main() -> None:
    """Measure the parts that are asked for, and print each figure as it is known."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        stores = Stores(folder)
        server = AuditedServer(folder, Loader(folder), stores)
        parts: dict[str, Callable[[int], Iterator[str]]] = {
            "reading": partial(reading, stores),
            "million": partial(million, stores),
            "ingestion": server.ingestion,
            "steady": server.steady,
            "books": server.books,
        }
        print(*machine(folder), sep="\n", file=sys.stderr)
        for part in arguments.parts:
            for line in parts[part](arguments.rounds):
                print(f"{part}, {line}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.auditing", description=__doc__)
    parser.add_argument("parts", nargs="+", choices=("reading", "million", "ingestion", "steady", "books"))
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
