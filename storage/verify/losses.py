"""Ranges of numbers that did not come: each ends where it begins or later, and no number's id is another's too."""

from __future__ import annotations

from sqlalchemy import Connection, select

from storage.tables import losses
from storage.verify.finding import Finding, Looked, rows_at

_STEP = 4096


def look(connection: Connection, after: int) -> Looked[int]:
    """Look at the next ranges, behind an id."""
    first = select(losses.c.id, losses.c.source, losses.c.first, losses.c.last)
    before = connection.execute(first.where(losses.c.id <= after).order_by(losses.c.id.desc()).limit(1)).all()
    rows = connection.execute(first.where(losses.c.id > after).order_by(losses.c.id).limit(_STEP)).all()
    findings, ids_end = list[Finding](), 0
    for row in [*before, *rows]:
        if row.id > after and row.last < row.first:
            findings.append(_wrong(row.id, row.source, "it ends before it begins"))
        if row.id > after and row.id <= ids_end:
            findings.append(_wrong(row.id, row.source, "its ids are those of the range before it too"))
        ids_end = row.id + max(row.last - row.first, 0)
    return Looked(len(rows), findings, rows[-1].id if rows else None)


def _wrong(id_: int, source: str, why: str) -> Finding:
    return Finding(check="losses", source=source, difference=1, look_at=f"{rows_at('losses', [id_], 'id')}: {why}")
