"""The only place where the parts meet: they start in the order in which they need one another, and stop in reverse.

Start: store, inbox, dispatcher, sources, ready. Stop: readyz fails and answers say close, the drain delay passes, the
server refuses, sources pause, the inbox drains and settles, the server closes, the dispatcher, the store.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from random import Random
from typing import Protocol, cast

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from app.access import ingest_forbids
from app.api import HandlersHere, Readiness, create_api
from app.auditor import Auditor, followed_sources
from app.commits import Commits
from app.compared_sources import graces_of
from app.dispatcher import Dispatcher
from app.duties import Duties
from app.redriving import BackgroundRedrives
from app.replicas import make_replica
from app.server import Asgi, IngestRouter, make_server
from app.settings import Settings, is_loopback
from app.silences import silences_of
from app.uvicorn_seams import Server
from ingest.counted_coverage import CountedCoverage
from ingest.errors import StoreUnavailable
from ingest.event import Origin
from ingest.formats import make_format
from ingest.inbox import Inbox
from ingest.intake import SourceIntake
from ingest.leases import handler_lease
from ingest.metrics import Metrics
from ingest.retrying import wait_at_most
from ingest.sources import modes
from ingest.sources.mode import SourceParts
from ingest.sources.webhook.request_log import RecentRequests
from ingest.sources.webhook.source import WebhookSource
from ingest.supervisor import Supervised, Supervisor
from storage.auth_failures import add_auth_failures
from storage.cursors import SqlCursors
from storage.engine import Database
from storage.feed import SqlFeed
from storage.gaps import open_gaps
from storage.read_apart import ReadApart
from storage.rewinds import Rewinds

# How long a webhook waits for room in a full inbox before it is told 503; senders give up after 20 s (Particle).
_PATIENCE_SECONDS = 5.0
_LAST_REQUESTS_SECONDS = 2.0  # for those that came before we refused: what is stored now need not be sent again
_SECRETS_SECONDS = 5.0

log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    """The clock that is passed to everything."""
    return datetime.now(UTC)


class Headrace:
    """One process of the service."""

    def __init__(self, settings: Settings, database: Database, readers: Database) -> None:
        """`readers`: the same database, for the questions of the API."""
        self._settings = settings
        self._database = database
        self._read_apart = ReadApart(database, readers)
        self._draining = False
        self._stop = asyncio.Event()
        handlers = [handler_lease(label) for label in settings.handlers]
        self._replica = make_replica(database, settings.store.url.value(), handlers)
        leases = self._replica.leases
        self._at_once = asyncio.Event()
        metrics = make_metrics()
        rewinds = Rewinds(metrics.store_rewinds.inc)
        self._commits = Commits(settings.store.spool, database, rewinds, metrics, utc_now)
        feed, cursors = SqlFeed(database, rewinds), SqlCursors(database, rewinds, leases)
        followed = followed_sources(settings.sources)
        self._inbox = Inbox(
            self._commits.store,
            metrics,
            max_events=settings.store.inbox_events,
            max_bytes=settings.store.inbox_bytes,
            patience_seconds=_PATIENCE_SECONDS,
            in_order=database.dialect == "sqlite",  # it has one writer, PostgreSQL a connection for each commit
            publish=feed.publish if settings.handlers or followed else None,
        )
        self._dispatcher = Dispatcher(
            {label: (handler.build(label, settings.folder), handler) for label, handler in settings.handlers.items()},
            feed,
            cursors,
            metrics,
            holder=leases.holder,
            clock=utc_now,
            random=Random(),  # noqa: S311 - jitter is no secret
        )
        self._auditor = Auditor(
            followed,
            feed,
            cursors,
            database,
            metrics,
            holder=leases.holder,
            clock=utc_now,
            random=Random(),  # noqa: S311 - jitter is no secret
        )
        self._coverage = CountedCoverage(self._replica.coverage, metrics)
        sources = self._make_sources(metrics)
        self._redrives = BackgroundRedrives(self._read_apart)
        self._supervisor = Supervisor(sources, metrics, utc_now)
        self._server = self._make_server(sources, metrics)
        if certificate := self._server.certificate:
            metrics.certificate_expires.set_function(certificate.expiry_seconds)
        metrics.ready.set_function(lambda: float(self._readiness().ready))
        self._duties = Duties(settings, followed, database, leases, metrics, self._coverage, utc_now)

    def _make_sources(self, metrics: Metrics) -> list[Supervised]:
        """A source for each label and mode, in the order of the configuration."""
        settings = self._settings
        parts = SourceParts(
            intake=lambda origin: SourceIntake(
                self._inbox, metrics, origin.source, origin.mode, self._commits.accounts.of(origin.source, origin.mode)
            ),
            metrics=metrics,
            coverage=self._coverage,
            leases=self._replica.leases,
            opens=self._replica.opens,
            clock=utc_now,
            forbids=ingest_forbids(settings.access, loopback=is_loopback(settings.server.host)),
            inbox_bytes=settings.store.inbox_bytes,
            add_auth_failures=lambda source, count: self._database.write(add_auth_failures, source, count),
        )
        running = {mode for source in settings.sources.values() for mode in source.modes}
        factories = {mode: modes()[mode].factory(parts) for mode in running}
        sources = []
        for label, source in settings.sources.items():
            metrics.declare_sequence(label)
            fields = source.fields.model_dump(exclude_none=True) if source.fields else {}
            for mode in sorted(source.modes, key=list(modes()).index):
                origin = Origin(source.product, label, mode)
                product = source.products.sent()
                format_ = make_format(source.format, origin, source.ignore, fields, product, source.message_id)
                self._coverage.declare(label, origin.mode)
                sources.append(Supervised(origin, factories[mode](origin, source.table(mode), format_)))
        return sources

    def _make_server(self, sources: Sequence[Supervised], metrics: Metrics) -> Server:
        """Make what answers: the sources that take requests, and the API for all else."""
        settings = self._settings
        endpoints = _endpoints(settings, sources)
        api = create_api(
            database=self._read_apart,
            registry=metrics.registry,
            access=settings.access,
            loopback=is_loopback(settings.server.host),
            source_states=self._supervisor.statuses,
            open_gap=self._coverage.open_gap,
            recent_requests=partial(_recent_requests, settings.sources, sources),
            readiness=self._readiness,
            webhooks=[(path, label) for path, (label, _) in endpoints.items()],
            handlers=HandlersHere(self._replica.leases.holder, settings.handlers, settings.folder),
            redrives=self._redrives,
            graces=graces_of(settings.sources),
            clock=utc_now,
            silences=silences_of(settings.sources, utc_now),
        )
        return make_server(
            IngestRouter({path: source for path, (_, source) in endpoints.items()}, api), settings.server
        )

    def stop(self, *, at_once: bool = False) -> None:
        """Begin to stop; `at_once` skips the drain delay."""
        self._stop.set()
        if at_once:
            self._at_once.set()

    async def run(self, listening: socket.socket, companions: Sequence[Companion] = ()) -> None:
        """Serve on a bound socket until `stop`; companions run beside it until the sources take no more."""
        await self._commits.open()
        await self._take_up_gaps()
        await self._replica.leases.join()
        async with asyncio.TaskGroup() as tasks:
            leasing = tasks.create_task(self._replica.leases.run())
            committing = tasks.create_task(self._inbox.run())
            dispatching = tasks.create_task(self._dispatcher.run())
            auditing = tasks.create_task(self._auditor.run())
            attending = [tasks.create_task(self._supervisor.run()), tasks.create_task(self._commits.run())]
            attending.append(tasks.create_task(self._duties.run()))
            attending.append(tasks.create_task(self._look_at_secrets()))
            serving = tasks.create_task(self._server.serve(sockets=[listening]))
            accompanying = [tasks.create_task(companion.run()) for companion in companions]
            log.info("ready", address="{}:{}".format(*listening.getsockname()[:2]), version=version("headrace"))

            await self._stop.wait()
            self._draining = True
            self._server.close_after_answers()
            leaving = tasks.create_task(self._replica.leases.leave())
            await self._drain_delay()
            await leaving
            await self._server.refuse(listening, _LAST_REQUESTS_SECONDS)
            await self._supervisor.pause()
            await _cancelled(accompanying)
            self._inbox.close()
            await committing
            self._server.should_exit = True
            await serving
            await self._redrives.close()
            await self._commits.drained()
            await _cancelled(attending)
            self._dispatcher.stop()
            self._auditor.stop()
            await dispatching
            await auditing
            await _cancelled([leasing])
        await self._replica.close()
        await self._commits.close()
        await self._read_apart.close()
        await self._database.close()
        log.info("stopped")

    async def _look_at_secrets(self) -> None:
        """Look now and again whether the files of secrets can be read: a source may ask for its own once a day."""
        while True:
            await asyncio.sleep(_SECRETS_SECONDS)
            for file in self._settings.secret_files:
                file.fault()

    async def _take_up_gaps(self) -> None:
        """Show the gaps that an earlier process began, until the sources listen again; end those where none will.

        With a spool nothing waits.
        """
        try:
            await self._duties.begin()
            self._coverage.follow((await self._database.read(open_gaps)).items())
        except StoreUnavailable:
            if not self._commits.has_spool:
                raise

    async def _drain_delay(self) -> None:
        """Give load balancers time to see that readyz fails; SIGINT cuts it short."""
        await wait_at_most(self._at_once, self._settings.server.drain_delay.total_seconds())

    def _readiness(self) -> Readiness:
        return Readiness(
            draining=self._draining,
            store_fault=self._commits.fault(),
            handlers_failing=self._dispatcher.faults(),
            secrets_unread={file.key: why for file in self._settings.secret_files if (why := file.fault()) is not None},
            spool=self._commits.waiting(),
        )


class Companion(Protocol):
    """Something that runs as long as the service does."""

    async def run(self) -> None:
        """Run until cancelled."""
        ...


def _endpoints(settings: Settings, sources: Iterable[Supervised]) -> dict[str, tuple[str, Asgi]]:
    """Return the label and the application for each path whose requests go to a source."""
    endpoints = {}
    for supervised in sources:
        label, mode = supervised.origin.source, supervised.origin.mode
        path = modes()[mode].path(settings.sources[label].table(mode))
        if path is not None:
            endpoints[path] = (label, cast("Asgi", supervised.source))
    return endpoints


def _recent_requests(labels: Container[str], sources: Iterable[Supervised], label: str) -> RecentRequests | None:
    """Return the last requests of a source; None where there is no such source."""
    if label not in labels:
        return None
    for supervised in sources:
        if supervised.origin.source == label and isinstance(supervised.source, WebhookSource):
            return supervised.source.recent_requests()
    return RecentRequests(accepted=(), refused=())


def make_metrics() -> Metrics:
    """Our collectors on a registry of their own, beside those of the process and of Python."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    metrics = Metrics(registry)
    metrics.build_info.info({"version": version("headrace")})
    return metrics


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
