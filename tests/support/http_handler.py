"""An `http` handler in a test: how it is made, and how a delivery fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.handlers.http.handler import HttpHandler
from ingest.delivery import DeliveryFailed
from tests.support.dispatching import an_event

Make = Callable[..., HttpHandler]
EVENT = an_event(1)


async def failure(handler: HttpHandler) -> DeliveryFailed:
    """How delivering an event fails."""
    with pytest.raises(DeliveryFailed) as caught:
        await handler.deliver([EVENT])
    return caught.value
