"""Handler `log`: one structured line per event. Attributes are left out, and data is shortened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import structlog

from ingest.event import Event
from ingest.settings.handlers import HandlerSettings
from ingest.times import rfc3339

_DATA_CHARACTERS = 200


class LogHandler:
    """protocols.Handler that writes events into the log."""

    def __init__(self, label: str) -> None:
        self._log = structlog.get_logger(__name__).bind(handler=label)

    async def deliver(self, events: Sequence[Event]) -> None:
        """See protocols.Handler."""
        for event in events:
            self._write(event)

    async def close(self) -> None:
        """See protocols.Handler."""

    def _write(self, event: Event) -> None:
        self._log.info(
            "device_event",
            id=str(event.id),
            position=event.position,
            product=event.product,
            device=event.device,
            name=event.name,
            data=_shortened(event.data),
            published_at=None if event.published_at is None else rfc3339(event.published_at),
            source=event.source,
            mode=event.mode,
        )


class LogSettings(HandlerSettings):
    """`type = "log"`: no keys of its own."""

    type: Literal["log"] = "log"

    def build(self, label: str, _folder: Path) -> LogHandler:
        """See HandlerSettings."""
        return LogHandler(label)


def _shortened(data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"({len(data)} bytes)"
    return text if len(text) <= _DATA_CHARACTERS else f"{text[:_DATA_CHARACTERS]}… ({len(data)} bytes)"
