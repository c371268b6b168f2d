"""What arrives, and the promise made about it. Users import from here: `from ingest import Event, DeadLetter`."""

from __future__ import annotations

from ingest.errors import DeadLetter
from ingest.event import Event

__all__ = ["DeadLetter", "Event"]
