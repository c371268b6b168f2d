"""Which events a handler gets."""

from __future__ import annotations

from collections.abc import Callable

from ingest.event import Event
from ingest.settings.handlers import HandlerSettings


def make_filter(settings: HandlerSettings) -> Callable[[Event], bool]:
    """Return the predicate of `names`, `exclude`, `products` and `devices` together."""
    names, exclude = settings.names or ("",), settings.exclude
    products, devices = frozenset(settings.products), frozenset(settings.devices)

    def wants(event: Event) -> bool:
        return (
            event.name.startswith(names)
            and not event.name.startswith(exclude)
            and (not products or event.product in products)
            and (not devices or event.device in devices)
        )

    return wants
