"""The handler types, built as the configuration says and given events."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from app.handlers.log import LogSettings
from app.handlers.python import PythonSettings
from ingest.errors import ConfigurationError, DeadLetter
from ingest.protocols import Handler
from tests.support.dispatching import an_event

MODULE = """
import threading
from functools import wraps
from ingest import DeadLetter, Event

seen = []
limit = 3

async def later(event: Event) -> None:
    seen.append(event.name)

def now(event: Event) -> None:
    seen.append(threading.current_thread())

def stops(event: Event) -> None:
    next(iter(()))

def refuses(event: Event) -> None:
    raise DeadLetter("not today")

def hidden(function):
    @wraps(function)
    def inner(*arguments):
        return function(*arguments)
    return inner

wrapped = hidden(later)

class Rules:
    async def __call__(self, event: Event) -> None:
        seen.append(self)

    async def on_event(self, event: Event) -> None:
        seen.append("method")

    def both(self, event: Event, context: str) -> None:
        pass

rules = Rules()

async def imports_late(event: Event) -> None:
    import fleet_tables
    seen.append(fleet_tables.limit)

def imports_late_in_a_thread(event: Event) -> None:
    import fleet_tables
    seen.append(fleet_tables.limit)

async def clears(event: Event) -> None:
    clears_in_a_thread(event)

def clears_in_a_thread(event: Event) -> None:
    seen.append(dict(event.attributes))
    event.attributes.clear()

def yields(event: Event):
    seen.append(event)
    yield

async def yields_later(event: Event):
    yield event

hides_a_generator = hidden(yields)

class Yielding:
    def __call__(self, event: Event):
        yield

yielding = Yielding()

def gives_more(function):
    @wraps(function)
    def inner(event):
        function(event, context="given")
    return inner

@gives_more
def is_given_more(event: Event, context: str) -> None:
    seen.append(context)

def takes_nothing() -> None:
    pass

def takes_more(event: Event, *, context: str) -> None:
    pass

def takes_anything(*arguments: object, **named: object) -> None:
    seen.append(arguments)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a configuration's module in it, which no test after this one finds imported."""
    (tmp_path / "fleet_rules.py").write_text(MODULE)
    yield tmp_path
    for name in ("fleet_rules", "broken_rules", "fleet_tables"):
        sys.modules.pop(name, None)
    sys.path[:] = [place for place in sys.path if place != str(tmp_path)]


def python(folder: Path, call: str, **settings: Any) -> Handler:
    """The python handler of `call`."""
    return PythonSettings(call=call, **settings).build("rules", folder)


def seen() -> list[Any]:
    """What the module's functions left there."""
    found: list[Any] = sys.modules["fleet_rules"].seen
    return found


async def test_a_module_beside_the_configuration_is_found(folder: Path) -> None:
    """Its async function is awaited."""
    handler = python(folder, "fleet_rules:later")
    await handler.deliver([an_event(1, name="alarm")])
    await handler.close()

    assert seen() == ["alarm"]


async def test_what_a_function_imports_when_it_runs_is_found_too(folder: Path) -> None:
    """A module beside the configuration file, from an async function as from one in a thread."""
    (folder / "fleet_tables.py").write_text("limit = 4")
    for call in ("fleet_rules:imports_late", "fleet_rules:imports_late_in_a_thread"):
        handler = python(folder, call)
        await handler.deliver([an_event(1)])
        await handler.close()

    assert seen() == [4, 4]


@pytest.mark.parametrize("call", ["fleet_rules:rules", "fleet_rules:rules.on_event", "fleet_rules:wrapped"])
async def test_whatever_can_be_called_is_a_function(folder: Path, call: str) -> None:
    """Objects, methods, and async functions behind a plain decorator are called, and awaited."""
    handler = python(folder, call)
    await handler.deliver([an_event(1)])
    await handler.close()

    assert len(seen()) == 1


@pytest.mark.parametrize("call", ["fleet_rules:clears", "fleet_rules:clears_in_a_thread"])
async def test_each_handler_has_attributes_of_its_own(folder: Path, call: str) -> None:
    """What one writes into them, the next one that gets the event does not see."""
    event = msgspec.structs.replace(an_event(1), attributes={"fw_version": "91"})
    handler = python(folder, call)
    for _ in range(2):
        await handler.deliver([event])
    await handler.close()

    assert seen() == [{"fw_version": "91"}] * 2
    assert event.attributes == {"fw_version": "91"}


async def test_a_plain_function_runs_in_a_thread(folder: Path) -> None:
    """It may block: the event loop is not its thread."""
    handler = python(folder, "fleet_rules:now", concurrency=2)
    await handler.deliver([an_event(1)])
    await handler.close()

    (thread,) = seen()
    assert thread is not threading.current_thread()


async def test_errors_of_a_plain_function_come_back(folder: Path) -> None:
    """DeadLetter is honoured from a thread, and StopIteration, which no future carries, is an error like others."""
    with pytest.raises(DeadLetter, match="not today"):
        await python(folder, "fleet_rules:refuses").deliver([an_event(1)])
    with pytest.raises(RuntimeError, match="StopIteration"):
        await python(folder, "fleet_rules:stops").deliver([an_event(1)])


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("no_such_module:f", "no_such_module cannot be imported: ModuleNotFoundError"),
        ("broken_rules:f", "broken_rules cannot be imported: ZeroDivisionError"),
        ("fleet_rules:missing", "has no missing"),
        ("fleet_rules:rules.missing", "has no rules.missing"),
        ("fleet_rules:limit", "expected a function of one event, and limit of fleet_rules is none"),
        ("fleet_rules:yields", "is a generator, whose body is not run when it is called: take out its yield"),
        ("fleet_rules:yields_later", "is a generator"),
        ("fleet_rules:yielding", "is a generator"),
        ("fleet_rules:Rules", "is a class: name a function, or a method of an instance"),
        ("fleet_rules:Rules.on_event", "takes (self, event: ingest.event.Event) -> None: it is called with the event"),
        ("fleet_rules:takes_nothing", "takes () -> None: it is called with the event and nothing else"),
        ("fleet_rules:takes_more", "it is called with the event and nothing else"),
        ("fleet_rules:rules.both", "it is called with the event and nothing else"),
    ],
)
def test_a_call_that_cannot_be_made_is_a_fault_of_the_configuration(folder: Path, call: str, reason: str) -> None:
    """The message names the key and what is wrong, also where the module itself fails."""
    (folder / "broken_rules.py").write_text("1 / 0")

    with pytest.raises(ConfigurationError, match=r"^handlers\.rules\.call: ") as caught:
        python(folder, call)

    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise BaseExceptionGroup('two', [KeyboardInterrupt()])", "BaseExceptionGroup: two (1 sub-exception)"),
        ("class E(BaseException): __str__ = None\nraise E", "E"),
        ("raise ValueError('several\\nlines\\n')", "ValueError: several lines"),
        ("this is no Python", "SyntaxError: invalid syntax (broken_rules.py, line 1)"),
    ],
)
def test_whatever_an_import_raises_is_one_sentence(folder: Path, code: str, reason: str) -> None:
    """It names the key and the module, in one line."""
    (folder / "broken_rules.py").write_text(code)

    with pytest.raises(ConfigurationError) as caught:
        python(folder, "broken_rules:f")

    assert str(caught.value) == f"handlers.rules.call: broken_rules cannot be imported: {reason}"


@pytest.mark.parametrize(
    ("file", "call"),
    [
        ("app/rules.py", "app.rules:on_event"),
        ("storage.py", "storage:on_event"),
        ("ingest/dispatcher.py", "ingest.dispatcher:on_event"),
        ("app/main.py", "app.main:on_event"),
    ],
)
def test_a_module_that_bears_the_name_of_one_of_our_packages_is_said_so(tmp_path: Path, file: str, call: str) -> None:
    """The sentence names the key, the package that hides it, and what to do."""
    module = tmp_path / file
    module.parent.mkdir(exist_ok=True)
    module.write_text("def on_event(event): pass\n")
    with pytest.raises(ConfigurationError) as refusal:
        python(tmp_path, call)
    assert str(refusal.value).startswith("handlers.rules.call: ")
    package = call.partition(":")[0].partition(".")[0]
    assert f"{package} is a package of Headrace, which hides yours of that name: give yours one" in str(refusal.value)


async def test_a_generator_behind_a_decorator_is_a_failed_delivery(folder: Path) -> None:
    """It cannot be seen before it is called, but its body did not run, so nothing is delivered."""
    with pytest.raises(TypeError, match="returned a generator, whose body was not run"):
        await python(folder, "fleet_rules:hides_a_generator").deliver([an_event(1)])
    assert not seen()


async def test_a_function_of_any_arguments_is_called_with_the_event(folder: Path) -> None:
    """It is none of those that are refused, nor is one whose decorator gives it what it takes besides."""
    event = an_event(1)
    await python(folder, "fleet_rules:takes_anything").deliver([event])
    await python(folder, "fleet_rules:is_given_more").deliver([event])
    assert seen() == [(event,), "given"]


async def test_log_writes_one_line_per_event(tmp_path: Path) -> None:
    """Identity, name and data are in it; attributes, where tokens may hide, are not."""
    event = msgspec.structs.replace(an_event(1), position=7, attributes={"userid": "hidden"})
    handler = LogSettings().build("log", tmp_path)
    with capture_logs() as lines:
        await handler.deliver([event])
    await handler.close()

    (line,) = lines
    assert (line["handler"], line["id"], line["position"]) == ("log", str(event.id), 7)
    assert (line["device"], line["name"], line["data"]) == ("d1", "temperature", "1")
    assert line["published_at"] == "2026-07-28T12:00:01.000Z"
    assert "hidden" not in str(line)


@pytest.mark.parametrize(
    ("data", "shown"),
    [(None, None), (b"x" * 200, "x" * 200), (b"x" * 201, "x" * 200 + "… (201 bytes)"), (b"\xff\xfe", "(2 bytes)")],
)
async def test_log_shortens_data(tmp_path: Path, data: bytes | None, shown: str | None) -> None:
    """A line stays short, and binary data is only measured."""
    with capture_logs() as lines:
        await LogSettings().build("log", tmp_path).deliver([msgspec.structs.replace(an_event(1), data=data)])

    assert lines[0]["data"] == shown
