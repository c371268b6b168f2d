"""`python -m tests.bench` prints one table of ratios, all measured in this run on this machine.

`--against CHECKOUT` measures this checkout against another one instead. `--quick` measures briefly, to see that all of
it runs; `--write` puts the table into this folder's README.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.bench import nginx
from tests.bench.anchored import Anchored
from tests.bench.compared import ROWS, Compared
from tests.bench.load import CONNECTIONS, Loader
from tests.bench.sizes import FULL, QUICK
from tests.bench.stores import Stores
from tests.bench.table import machine, show, write
from tests.support.postgres import debian_programs


def main() -> None:
    """Run, print, and write where asked to."""
    arguments = _arguments()
    sizes = QUICK if arguments.quick else FULL
    if arguments.rounds:
        sizes = replace(sizes, rounds=arguments.rounds)

    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        stores, loader = Stores(folder), Loader(folder)
        facts = [*machine(folder), f"load: {CONNECTIONS} connections; product hooks by {loader.name}"]
        if arguments.against:
            compared = Compared(folder, sizes, loader, stores, arguments.against)
            figures = list(compared.figures(arguments.only or ROWS))
        else:
            anchored = Anchored(folder, sizes, loader, stores)
            figures = list(anchored.figures())
            facts += anchored.facts()
    show(figures, facts)
    if arguments.write:
        write("comparison" if arguments.against else "results", figures, facts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="brief rounds; the figures mean little")
    parser.add_argument("--rounds", type=int, help="how often each figure is measured, in turns")
    parser.add_argument("--write", action="store_true", help="write the results into tests/bench/README.md")
    parser.add_argument("--against", type=_checkout, metavar="CHECKOUT", help="measure against another checkout")
    parser.add_argument(
        "--only", action="append", choices=ROWS, help="of --against: measure this alone; may be repeated"
    )
    arguments = parser.parse_args()
    if arguments.only and not arguments.against:
        parser.error("--only chooses rows of --against")
    needed = {"nginx": nginx.installed(), "Debian's PostgreSQL": debian_programs() is not None}
    if lacking := [name for name, there in needed.items() if not there]:
        parser.error(f"not installed: {', '.join(lacking)}")
    return arguments


def _checkout(path: str) -> Path:
    return Path(path).resolve(strict=True)


if __name__ == "__main__":
    main()
