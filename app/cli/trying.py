"""A handler tried out with one event, whether a server runs or not."""

from __future__ import annotations

import asyncio
from uuid import UUID

from app.cli.faults import Fault
from app.cli.output import show
from app.cli.store import ask
from app.settings import Settings
from app.trial import TrialOf, sample_for, try_here
from ingest.errors import ConfigurationError
from ingest.event import Event
from storage.queries.events import stored_event


def try_handler(settings: Settings, handler: str, id_: UUID | None) -> None:
    """Deliver a stored event, or a sample, and print what was answered.

    Raises ConfigurationError for a handler that is not configured, Fault where there is no such event or it failed.
    """
    configured = settings.handlers.get(handler)
    if configured is None:
        known = f"there are {', '.join(settings.handlers)}" if settings.handlers else "there is none"
        raise ConfigurationError(f"handlers.{handler}: expected a handler of the configuration; {known}")
    event = sample_for(configured) if id_ is None else _stored(settings, id_)
    tried = asyncio.run(try_here(TrialOf(handler, configured, settings.folder, event)))
    answered = "" if tried.status is None else f", answered {tried.status}"
    show(f"{event.id} ({'a sample' if id_ is None else event.name}): {tried.seconds:.3f} s{answered}")
    if tried.answer:
        show(tried.answer)
    if not tried.delivered:
        raise Fault(f"{handler} did not take it ({tried.cause}): {tried.error or ''}")
    show(f"{handler} took it.")


def _stored(settings: Settings, id_: UUID) -> Event:
    event = asyncio.run(ask(settings, lambda database: database.read(stored_event, id_)))
    if event is None:
        raise Fault(f"there is no event {id_} in the store: `headrace events --json` shows ids")
    return event
