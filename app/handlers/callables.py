"""The function that `call` names: found, and seen to be one whose body runs when it is called with an event."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

from ingest.errors import ConfigurationError
from ingest.event import Event

_OURS = ("app", "ingest", "storage")


def find_function(key: str, call: str, folder: Path) -> Callable[[Event], Any]:
    """Import the function that `call` names ("module:function"); modules in `folder` are found first, also later.

    Raises ConfigurationError, a sentence that names the key, where there is none, or it could never do its work.
    """
    module_name, _, path = call.partition(":")
    place = str(folder.absolute())
    if place not in sys.path:
        sys.path.insert(0, place)  # for good: a function may import when it runs
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:  # the module is somebody else's code, and may raise anything
        raise ConfigurationError(
            f"{key}: {module_name} cannot be imported: {_text(error)}{_hidden(module_name, folder)}"
        ) from error
    try:
        function: Any = reduce(getattr, path.split("."), module)
    except AttributeError:
        hidden = _hidden(module_name, folder)
        raise ConfigurationError(f"{key}: {module_name} ({module.__file__}) has no {path}{hidden}") from None
    except BaseException as error:  # likewise
        raise ConfigurationError(f"{key}: {path} of {module_name} cannot be read: {_text(error)}") from error
    fault = _fault(function)
    if fault is not None:
        raise ConfigurationError(f"{key}: expected a function of one event, and {path} of {module_name} {fault}")
    found: Callable[[Event], Any] = function
    return found


def is_beside(call: str, folder: Path) -> bool:
    """Return whether the module that `call` names is beside the configuration file."""
    top = folder / call.partition(":")[0].partition(".")[0]
    return top.is_dir() or top.with_suffix(".py").is_file()


def _hidden(module_name: str, folder: Path) -> str:
    """Return the end of a sentence that says so where the module bears the name of one of our packages."""
    top = module_name.partition(".")[0]
    if top not in _OURS or folder.resolve() == Path(__file__).parent.parent.parent:
        return ""
    return (
        f"; {top} is a package of Headrace, which hides yours of that name: give yours one that is none of "
        f"{', '.join(_OURS)}"
    )


def is_async(function: Callable[[Event], Any]) -> bool:
    """Return whether calling the function gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def require_run(result: object) -> None:
    """Raise TypeError where what a function returned shows that its body has not been run."""
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError("the handler returned a generator, whose body was not run: take out its yield")


def _fault(function: Any) -> str | None:
    """Return why a call would never do what its author meant."""
    if not callable(function):
        return "is none"
    if inspect.isclass(function):
        return "is a class: name a function, or a method of an instance that the module holds"
    for each in (function, type(function).__call__):
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            return "is a generator, whose body is not run when it is called: take out its yield"
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # a decorator may give more arguments
    except (TypeError, ValueError):  # written in C, without one
        return None
    try:
        signature.bind(None)
    except TypeError:
        return f"takes {signature}: it is called with the event and nothing else"
    return None


def _text(error: BaseException) -> str:
    """Type and message in one line."""
    try:
        message = " ".join(str(error).split())
    except BaseException:  # its __str__ is somebody else's code too
        message = ""
    return f"{type(error).__name__}: {message}".rstrip(": ")
