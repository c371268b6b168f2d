"""Keeps every configured handler at work, those of the operator's own code apart from everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from random import Random

from app.dispatcher.apart import Apart
from app.dispatcher.context import DispatchLimits, HandlerContext, LeftBehind
from app.dispatcher.handler_metrics import HandlerMetrics
from app.dispatcher.runner import Runner
from app.dispatcher.time_slice import TimeSlice
from app.settings import HandlerSettings
from ingest.metrics import Metrics
from ingest.protocols import Cursors, Feed, Handler


class Dispatcher:
    """Runs each handler until stopped. `holder` names this process; `clock` gives aware UTC times."""

    def __init__(
        self,
        handlers: Mapping[str, tuple[Handler, HandlerSettings]],
        feed: Feed,
        cursors: Cursors,
        metrics: Metrics,
        *,
        holder: str,
        clock: Callable[[], datetime],
        random: Random,
        limits: DispatchLimits | None = None,
    ) -> None:
        time_slice = TimeSlice()
        metrics.declare_handlers(handlers)
        self._stopping = asyncio.Event()
        self._runners = {
            label: (Apart if settings.runs_apart else Runner)(
                HandlerContext(
                    label=label,
                    handler=handler,
                    settings=settings,
                    feed=feed,
                    cursors=cursors,
                    metrics=HandlerMetrics(label, metrics),
                    time_slice=time_slice,
                    clock=clock,
                    random=random,
                    limits=limits or DispatchLimits(),
                    left_behind=LeftBehind(settings.concurrency),
                ),
                holder,
                self._stopping,
            )
            for label, (handler, settings) in handlers.items()
        }

    async def run(self) -> None:
        """Deliver until stopped; cancelling is like a crash: what was not saved yet is delivered once more."""
        async with asyncio.TaskGroup() as group:
            for runner in self._runners.values():
                group.create_task(runner.run())

    def stop(self) -> None:
        """Take up nothing new; `run` returns when what was in flight is done, or its time is over."""
        self._stopping.set()

    def faults(self) -> Mapping[str, str]:
        """Return which handlers do not deliver because of their own code, and why."""
        found = {label: runner.fault for label, runner in self._runners.items()}
        return {label: fault for label, fault in found.items() if fault is not None}
