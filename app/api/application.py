"""The FastAPI application, from parts that are passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from app.access import AccessRules
from app.api import problems
from app.api.balance import balance_router
from app.api.dead_letters import dead_letters_router
from app.api.devices import devices_router
from app.api.events import events_router
from app.api.guard import Guard
from app.api.handlers import HandlersHere, handlers_router
from app.api.openapi import document_of
from app.api.pages import add_pages
from app.api.probes import Readiness, probes_router
from app.api.sources import sources_router
from app.redriving import BackgroundRedrives
from ingest.coverage import Gap
from ingest.sources.webhook.request_log import RecentRequests
from ingest.supervisor import SourceStatus
from storage.engine import Database
from storage.queries.device_rows import Silences


def create_api(
    *,
    database: Database,
    registry: CollectorRegistry,
    access: AccessRules,
    loopback: bool,
    source_states: Callable[[], Sequence[SourceStatus]],
    open_gap: Callable[[str, str], Gap | None],
    readiness: Callable[[], Readiness],
    webhooks: Sequence[tuple[str, str]],
    handlers: HandlersHere,
    redrives: BackgroundRedrives,
    graces: Mapping[str, float],
    clock: Callable[[], datetime],
    silences: Callable[[], Silences],
    recent_requests: Callable[[str], RecentRequests | None] = lambda _label: None,
) -> FastAPI:
    """Make the application: API, probes, metrics and pages.

    `webhooks`: (path, label) of the endpoints that stand in front of it.
    `loopback`: the server listens on loopback addresses only. `graces`: how many seconds late an event may come.
    """
    # No redirect: it would lead to whatever host the request named.
    api = FastAPI(title="Headrace", version=version("headrace"), docs_url=None, redoc_url=None, redirect_slashes=False)
    problems.install(api)
    api.add_middleware(Guard, rules=access, loopback=loopback)
    api.include_router(events_router(database, handlers.settings))
    api.include_router(sources_router(database, registry, source_states, open_gap, clock, recent_requests))
    api.include_router(balance_router(database, registry, graces))
    api.include_router(devices_router(database, silences))
    api.include_router(handlers_router(database, handlers, lambda: readiness().handlers_failing))
    api.include_router(dead_letters_router(database, redrives))
    api.include_router(probes_router(registry, source_states, readiness))
    add_pages(api)
    api.openapi = document_of(api, webhooks)  # type: ignore[method-assign]  # the way FastAPI documents
    return api
