"""From the store to the handlers: in order, at least once, each handler at its own pace."""

from __future__ import annotations

from app.dispatcher.dispatcher import Dispatcher
from app.dispatcher.pace import Pace
from app.dispatcher.runner import HandlerState

__all__ = ["Dispatcher", "HandlerState", "Pace"]
