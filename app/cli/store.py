"""The store as the commands use it: directly, whether a server runs or not, and never made by mere reading."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from app.cli.faults import Fault
from app.settings import Settings
from ingest.errors import StoreUnavailable
from storage.engine import Database, DataRefused, open_database, parse_url
from storage.migrate import SchemaBehind, require_newest
from storage.queries.handlers import handler_names

DEMO_FILE = "headrace-demo.db"
DEMO_URL = f"sqlite:///{DEMO_FILE}"

T = TypeVar("T")


def sqlite_file(settings: Settings) -> Path | None:
    """The file of an SQLite store; None for PostgreSQL."""
    url = parse_url(settings.store.url.value())
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


@contextmanager
def store_explained(settings: Settings) -> Iterator[None]:
    """Says of which store it is that an error speaks, and what to do. Raises Fault in its place."""
    try:
        yield
    except StoreUnavailable as error:
        raise Fault(
            f"the store {settings.store.url} cannot be used: {error}; check store.url, and that the database runs "
            "and may be written"
        ) from error
    except DataRefused as error:
        raise Fault(
            f"the store {settings.store.url} does not take what was asked ({error}); check the options, and store.url"
        ) from error
    except SchemaBehind as error:
        raise Fault(f"the store {settings.store.url} cannot be used yet: {error}") from error


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """The store at whatever schema it is. Raises Fault where it cannot be used."""
    with store_explained(settings):
        database = open_database(settings.store.url.value())
        try:
            yield database
        finally:
            await database.close()


async def ask(settings: Settings, question: Callable[[Database], Awaitable[T]]) -> T:
    """The answer of a store at the newest schema. Raises Fault where there is none."""
    _require_file(settings)
    async with opened(settings) as database:
        await require_newest(database)
        return await question(database)


def _require_file(settings: Settings) -> None:
    file = sqlite_file(settings)
    if file is not None and not file.exists():
        raise Fault(
            f"there is no database {file} yet: `headrace serve` makes it, or --config names another one{_demo()}"
        )


def _demo() -> str:
    """Return the end of a sentence that says how the demo's store is read, where there is one."""
    return f"; the demo's is read with HEADRACE_STORE__URL={DEMO_URL}" if Path(DEMO_FILE).exists() else ""


async def require_handler(database: Database, handler: str) -> str:
    """Return the name of a handler that ever ran. Raises Fault, which names those that did."""
    names = await database.read(handler_names)
    if handler not in names:
        known = f"the ones that did are {', '.join(names)}" if names else "none did"
        raise Fault(f"no handler {handler} ran on this store yet: {known}")
    return handler
