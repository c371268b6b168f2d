"""`headrace copy`: a SQLite store to PostgreSQL, told as it goes on, compared at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from app.cli.faults import Fault
from app.cli.output import show, show_table
from app.cli.progress import progress
from ingest.errors import ConfigurationError, StoreUnavailable
from ingest.settings.secret import masked_url
from storage import copying
from storage.database import Database, DataRefused
from storage.engine import open_database, parse_url
from storage.migrate import SchemaBehind, migrate, require_newest, revision
from storage.served_file import served_alone


def copy_store(source_url: str, target_url: str) -> None:
    """Copy, and print what is on both sides. Raises ConfigurationError, or Fault where the sides differ."""
    file = _source_file(source_url)
    if _parsed(target_url, "--to") != "postgresql":
        raise ConfigurationError("--to: expected a PostgreSQL store, postgresql://user@host/database")
    try:
        with served_alone(source_url):
            compared = asyncio.run(_copied(file, source_url, target_url))
    except ConfigurationError as error:
        raise Fault(str(error).replace("store.url", "--from", 1)) from error
    columns = ("table", "rows", "there", "checksum", "there")
    sums = [(f"{of.source_sum:016x}", f"{of.target_sum:016x}") for of in compared]
    rows = [(of.table, of.source_rows, of.target_rows, *both) for of, both in zip(compared, sums, strict=True)]
    show_table(columns, rows, empty="")
    different = [of for of in compared if not of.equal]
    if different:
        raise Fault("the copy differs from its source: " + "; ".join(map(_difference, different)))
    show("Both sides are equal. Set store.url to the copy and start the server.")


def _source_file(url: str) -> Path:
    parsed = _parsed(url, "--from")
    if parsed != "sqlite":
        raise ConfigurationError("--from: expected a SQLite store, sqlite:///file")
    file = Path(parse_url(url).database or "")
    if not file.is_file():
        raise ConfigurationError(f"--from: there is no database {file}")
    return file.absolute()


def _parsed(url: str, option: str) -> str:
    try:
        return parse_url(url).get_backend_name()
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace("store.url", option, 1)) from None


async def _copied(file: Path, source_url: str, target_url: str) -> Sequence[copying.Compared]:
    source, target = open_database(source_url), open_database(target_url)
    try:
        await _require_schema(source, target)
        total = await copying.begin(source, target, str(file))
        with progress("Copied", total) as advance:
            await copying.copy(source, target, _telling(advance))
        with progress("Compared", total) as advance:
            compared = await copying.compare(source, target, _telling(advance))
        if all(of.equal for of in compared):
            await copying.finish(source, target)
        return compared
    except (StoreUnavailable, DataRefused) as error:
        raise Fault(f"the copy to {masked_url(target_url)} stopped: {error}; run it again, and it goes on") from error
    finally:
        await source.close()
        await target.close()


async def _require_schema(source: Database, target: Database) -> None:
    """Make the schema in a target that is empty. Raises Fault where either side is at an older one."""
    if await revision(target) is None:
        await migrate(target)
    for database, option in ((source, "--from"), (target, "--to")):
        try:
            await require_newest(database)
        except SchemaBehind as error:
            raise Fault(f"{option}: {error}") from error


def _telling(advance: Callable[[int], None]) -> Callable[[str, int], None]:
    return lambda _table, count: advance(count)


def _difference(of: copying.Compared) -> str:
    where = "" if of.first_difference is None else f", from {of.first_difference} on"
    return f"{of.table} has {of.target_rows} rows for {of.source_rows}{where}"
