"""From the store to the handlers: in order, at least once, each handler at its own pace."""

from __future__ import annotations

from app.dispatcher.dispatcher import Dispatcher
from app.dispatcher.limits import DispatchLimits

__all__ = ["DispatchLimits", "Dispatcher"]
