"""Each type of handler with what receives from it: what the contract suite is run over."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from app.handlers import handler_types
from app.handlers.http.settings import HttpSettings
from app.handlers.log import LogSettings
from app.handlers.python import PythonSettings
from ingest.settings.handlers import HandlerSettings
from tests.support.raw_receiver import raw_receiver, status

PACKAGE = Path(__file__).parent / "append_package"

_MODULE = """
from pathlib import Path

delivered = []

def on_event(given):
    if Path(__file__).with_name("broken").exists():
        raise OSError("broken")
    delivered.extend(str(event.id) for event in (given if isinstance(given, list) else [given]))

async def on_event_later(given):
    on_event(given)
"""


@dataclass(frozen=True)
class Receiver:
    """Where a handler delivers to: the ids of what has arrived, and a switch with which it fails until it is mended."""

    settings: HandlerSettings
    folder: Path
    arrived: Callable[[], Sequence[str]]
    fail: Callable[[bool], None]


@dataclass(frozen=True)
class Kind:
    """A type of handler. `fails`: there is something at its other end that can fail."""

    name: str
    receive: Callable[[Path], AbstractAsyncContextManager[Receiver]]
    fails: bool = True


@asynccontextmanager
async def _log(folder: Path) -> AsyncIterator[Receiver]:
    with capture_logs() as lines:
        yield Receiver(LogSettings(), folder, lambda: [line["id"] for line in lines], lambda _fails: None)


def _python(function: str) -> Callable[[Path], AbstractAsyncContextManager[Receiver]]:
    @asynccontextmanager
    async def receive(folder: Path) -> AsyncIterator[Receiver]:
        (folder / "contract_rules.py").write_text(_MODULE)

        def fail(fails: bool) -> None:
            broken = folder / "broken"
            broken.touch() if fails else broken.unlink()

        def arrived() -> Sequence[str]:
            return list(sys.modules["contract_rules"].delivered)

        try:
            yield Receiver(PythonSettings(call=f"contract_rules:{function}"), folder, arrived, fail)
        finally:
            sys.modules.pop("contract_rules", None)
            sys.path[:] = [place for place in sys.path if place != str(folder)]

    return receive


@asynccontextmanager
async def _append(folder: Path) -> AsyncIterator[Receiver]:
    place = folder / "place"
    place.mkdir()

    def fail(fails: bool) -> None:
        place.rename(folder / "away") if fails else (folder / "away").rename(place)

    def arrived() -> Sequence[str]:
        return (place / "ids").read_text().split() if place.exists() else []

    yield Receiver(installed("append")(path=place / "ids"), folder, arrived, fail)


@asynccontextmanager
async def _http(folder: Path) -> AsyncIterator[Receiver]:
    async with raw_receiver() as receiver:
        taken: list[str] = []
        failing = False

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            if not failing:
                events = json.loads(receiver.received[-1].body)
                taken.extend(event["id"] for event in (events if isinstance(events, list) else [events]))
            return await status(500 if failing else 204)(reader, writer)

        def fail(fails: bool) -> None:
            nonlocal failing
            failing = fails

        receiver.answer = answer
        yield Receiver(HttpSettings(url=receiver.url), folder, lambda: list(taken), fail)


def installed(name: str) -> Callable[..., HandlerSettings]:
    """The settings model of a type that the package beside this file brings, found as Headrace finds it."""
    sys.path.insert(0, str(PACKAGE))
    try:
        models, _ = handler_types(entry_points(group="headrace.handlers"))
    finally:
        sys.path.remove(str(PACKAGE))
    found: Any = models[name]
    assert found.__module__ == "headrace_append"
    return found  # type: ignore[no-any-return]


KINDS = (
    Kind("http", _http),
    Kind("log", _log, fails=False),
    Kind("python", _python("on_event_later")),
    Kind("python in a thread", _python("on_event")),
    Kind("append, of a package", _append),
)
