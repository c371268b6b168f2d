"""`headrace verify`: does the store balance? Told as it goes on; what differs is named with the rows to look at."""

from __future__ import annotations

import asyncio

from app.cli.faults import Fault
from app.cli.output import Column, show, show_json, show_rows
from app.cli.progress import progress
from app.cli.store import ask
from app.settings import Settings
from storage.engine import Database
from storage.verify.finding import Finding
from storage.verify.whole import Verification, Verified, size


def verify_store(settings: Settings, *, as_json: bool) -> None:
    """Verify, and print what was counted or what differs. Raises Fault where something does."""
    verified = asyncio.run(ask(settings, _verified))
    if as_json:
        show_json(verified)
    elif verified.balances:
        show_rows(("check", "of", "counted", "differences"), verified.checks, empty="")
        show("It balances.")
    else:
        columns: tuple[Column, ...] = ("check", ("where", _where), "expected", "found", "difference", "look_at")
        show_rows(columns, verified.differences, empty="")
    if not verified.balances:
        count = sum(check.differences for check in verified.checks)
        raise Fault(
            f"the store does not balance: {count} difference{'s' if count > 1 else ''}. Keep a copy of the database, "
            "and look at the rows that are named"
        )


async def _verified(database: Database) -> Verified:
    with progress("Verified", await size(database)) as advance:
        return await Verification(database, advance).run()


def _where(finding: Finding) -> str:
    """Return where it is: source and mode, handler, block, positions."""
    source = "/".join(part for part in (finding.source, finding.mode) if part is not None)
    block = None if finding.block is None else f"block {finding.block}"
    at = None if finding.last is None else f"positions {finding.first or 1}..{finding.last}"
    return ", ".join(part for part in (source, finding.handler, block, at) if part)
