"""From the store to the handlers: in order, at least once, each handler at its own pace."""

from __future__ import annotations

from app.dispatcher.context import DispatchLimits
from app.dispatcher.dispatcher import Dispatcher

__all__ = ["DispatchLimits", "Dispatcher"]
