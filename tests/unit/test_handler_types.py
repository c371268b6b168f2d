"""Which types of handler there are: those built in, and those that installed packages name as entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import ClassVar, Literal

import pytest

from app.handlers import handler_types
from app.handlers.log import LogSettings
from ingest.settings.handlers import HandlerSettings


class GoodSettings(HandlerSettings):
    """What a package should name."""

    type: Literal["good"] = "good"


class OtherSettings(HandlerSettings):
    """The model of another type than the entry point says."""

    type: Literal["other"] = "other"


class Unrelated:
    """No settings at all."""

    type: ClassVar[str] = "unrelated"


def point(name: str, value: str) -> EntryPoint:
    """An entry point as a package's metadata has it; without a module's name, of this one."""
    return EntryPoint(name, value if ":" in value else f"{__name__}:{value}", "headrace.handlers")


def test_a_package_adds_a_type() -> None:
    """Beside those that are built in."""
    models, refused = handler_types([point("good", "GoodSettings")])
    assert models["good"] is GoodSettings
    assert models["log"] is LogSettings
    assert "good" not in refused


def test_a_package_does_not_replace_what_is_built_in() -> None:
    """An operator who writes `type = "log"` means ours, whatever else is installed."""
    models, refused = handler_types([point("log", "GoodSettings")])
    assert models["log"] is LogSettings
    assert "log" not in refused


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("bad", "no_such_module:Settings", "No module named 'no_such_module'"),
        ("bad", "Missing", "has no attribute 'Missing'"),
        ("bad", "Unrelated", "expected a class that extends HandlerSettings"),
        ("bad", "OtherSettings", 'expected its type to be Literal["bad"]'),
    ],
)
def test_a_package_that_is_at_fault_harms_only_who_uses_it(name: str, value: str, why: str) -> None:
    """Its type is refused with the reason; all others are there."""
    models, refused = handler_types([point(name, value), point("good", "GoodSettings")])
    assert name not in models
    assert why in refused[name]
    assert "good" in models
