"""Which events a handler gets: names, exclude, products and devices together."""

from __future__ import annotations

from typing import Any

import pytest

from app.handlers.filters import make_filter
from app.handlers.log import LogSettings
from tests.support.dispatching import an_event


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, True),
        ({"names": ["alarm/"]}, True),
        ({"names": ["status", "alarm/"]}, True),
        ({"names": ["status"]}, False),
        ({"names": ["alarm/fire/1"]}, False),
        ({"exclude": ["alarm/"]}, False),
        ({"exclude": ["status", "alarm/fire"]}, False),
        ({"exclude": ["fire"]}, True),
        ({"names": ["alarm/"], "exclude": ["alarm/test"]}, True),
        ({"names": ["alarm/"], "exclude": ["alarm/"]}, False),
        ({"products": ["tracker"]}, True),
        ({"products": ["track"]}, False),
        ({"devices": ["d1"]}, True),
        ({"devices": ["d2", "d1"]}, True),
        ({"devices": ["d"]}, False),
        ({"names": ["alarm/"], "products": ["tracker"], "devices": ["d1"]}, True),
        ({"names": ["alarm/"], "products": ["tracker"], "devices": ["d2"]}, False),
        ({"names": ["alarm/"], "products": ["other"], "devices": ["d1"]}, False),
    ],
)
def test_an_event_is_wanted_by_all_filters_or_not_at_all(settings: dict[str, Any], wanted: bool) -> None:
    """Names and exclude are prefixes, products and devices whole; without a filter everything is wanted."""
    wants = make_filter(LogSettings(**settings))
    assert wants(an_event(1, device="d1", name="alarm/fire", product="tracker")) is wanted


def test_an_event_without_a_device_is_of_none() -> None:
    """It is wanted where devices are not filtered, and by no list of devices."""
    assert make_filter(LogSettings())(an_event(1, device=None))
    assert not make_filter(LogSettings(devices=("d1",)))(an_event(1, device=None))
