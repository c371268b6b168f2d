"""The only place where the parts meet: they start in the order in which they need one another, and stop in reverse.

Start: store, inbox, dispatcher, sources, ready. Stop: readyz fails and answers say close, the drain delay passes, the
server refuses, sources pause, the inbox drains and settles, the server closes, the dispatcher, the store.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from random import Random
from typing import Protocol, cast

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from app.access import ingest_forbids
from app.api import HandlersHere, Readiness, create_api
from app.dispatcher import Dispatcher
from app.duties import Duties
from app.redriving import BackgroundRedrives
from app.replicas import make_replica
from app.server import Asgi, IngestRouter, make_server
from app.settings import Settings, is_loopback
from app.stopping import outlive_hangups, stop_on_signals
from ingest.counted_coverage import CountedCoverage
from ingest.errors import ConfigurationError, StoreUnavailable
from ingest.event import Origin
from ingest.formats import make_format
from ingest.inbox import Inbox
from ingest.intake import SourceIntake
from ingest.intake_metrics import IntakeAccounts
from ingest.metrics import Metrics
from ingest.retrying import wait_at_most
from ingest.sources import modes
from ingest.sources.mode import SourceParts
from ingest.supervisor import Supervised, Supervisor
from storage.cursors import SqlCursors
from storage.engine import Database, open_database
from storage.feed import SqlFeed
from storage.gaps import open_gaps
from storage.health import WatchedStore
from storage.migrate import migrate, require_newest
from storage.read_apart import ReadApart
from storage.rewinds import Rewinds
from storage.served_file import served_alone
from storage.spool import SpooledStore
from storage.spool_file import SpoolFile
from storage.store import SqlStore

# How long a webhook waits for room in a full inbox before it is told 503; senders give up after 20 s (Particle).
_PATIENCE_SECONDS = 5.0
# Short turns: a thread that reads must not wait five milliseconds for a busy event loop at every statement.
_SWITCH_SECONDS = 0.001
_BACKLOG = 4096
_LAST_REQUESTS_SECONDS = 2.0  # for those that came before we refused: what is stored now need not be sent again
_SECRETS_SECONDS = 5.0
_GC_THRESHOLD = 50_000  # events hold no cycles: looking for them at every 700th container cost 3 % of the time

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
        self._replica = make_replica(database, settings.store.url.value())
        leases = self._replica.leases
        self._at_once = asyncio.Event()
        metrics = make_metrics()
        rewinds = Rewinds(metrics.store_rewinds.inc)
        self._watched = WatchedStore(SqlStore(database, utc_now, rewinds), database)
        self._accounts = IntakeAccounts(metrics)
        self._spool: SpooledStore | None = None
        if settings.store.spool is not None:
            self._spool = SpooledStore(
                lambda: SqlStore(database, utc_now, rewinds),
                SpoolFile(settings.store.spool),
                self._accounts,
                utc_now,
                watched=self._watched.watched,
                prepare=lambda: require_newest(database),
            )
            self._spool.show(metrics)
        feed = SqlFeed(database, rewinds)
        self._inbox = Inbox(
            self._spool or self._watched,
            metrics,
            max_events=settings.store.inbox_events,
            max_bytes=settings.store.inbox_bytes,
            patience_seconds=_PATIENCE_SECONDS,
            in_order=database.dialect == "sqlite",  # it has one writer, PostgreSQL a connection for each commit
            publish=feed.publish if settings.handlers else None,
        )
        self._dispatcher = Dispatcher(
            {label: (handler.build(label, settings.folder), handler) for label, handler in settings.handlers.items()},
            feed,
            SqlCursors(database, rewinds, leases),
            metrics,
            holder=leases.holder,
            clock=utc_now,
            random=Random(),  # noqa: S311 - jitter is no secret
        )
        self._coverage = CountedCoverage(self._replica.coverage, metrics)
        sources = self._make_sources(metrics)
        self._redrives = BackgroundRedrives(self._read_apart)
        self._supervisor = Supervisor(sources, metrics, utc_now)
        endpoints = _endpoints(settings, sources)
        api = create_api(
            database=self._read_apart,
            registry=metrics.registry,
            access=settings.access,
            loopback=is_loopback(settings.server.host),
            source_states=self._supervisor.statuses,
            open_gap=self._coverage.open_gap,
            readiness=self._readiness,
            webhooks=[(path, label) for path, (label, _) in endpoints.items()],
            handlers=HandlersHere(leases.holder, settings.handlers, settings.folder),
            redrives=self._redrives,
            clock=utc_now,
        )
        self._server = make_server(
            IngestRouter({path: source for path, (_, source) in endpoints.items()}, api), settings.server
        )
        if certificate := self._server.certificate:
            metrics.certificate_expires.set_function(certificate.expiry_seconds)
        metrics.ready.set_function(lambda: float(self._readiness().ready))
        self._duties = Duties(settings, database, leases, metrics, self._coverage, utc_now)

    def _make_sources(self, metrics: Metrics) -> list[Supervised]:
        """A source for each label and mode, in the order of the configuration."""
        settings = self._settings
        parts = SourceParts(
            intake=lambda origin: SourceIntake(
                self._inbox, metrics, origin.source, origin.mode, self._accounts.of(origin.source, origin.mode)
            ),
            metrics=metrics,
            coverage=self._coverage,
            leases=self._replica.leases,
            opens=self._replica.opens,
            clock=utc_now,
            forbids=ingest_forbids(settings.access, loopback=is_loopback(settings.server.host)),
            inbox_bytes=settings.store.inbox_bytes,
        )
        running = {mode for source in settings.sources.values() for mode in source.modes}
        factories = {mode: modes()[mode].factory(parts) for mode in running}
        sources = []
        for label, source in settings.sources.items():
            fields = source.fields.model_dump(exclude_none=True) if source.fields else {}
            for mode in sorted(source.modes, key=list(modes()).index):
                origin = Origin(source.product, label, mode)
                format_ = make_format(source.format, origin, source.ignore, fields, source.products.sent())
                self._coverage.declare(label, origin.mode)
                sources.append(Supervised(origin, factories[mode](origin, source.table(mode), format_)))
        return sources

    def stop(self, *, at_once: bool = False) -> None:
        """Begin to stop; `at_once` skips the drain delay."""
        self._stop.set()
        if at_once:
            self._at_once.set()

    async def run(self, listening: socket.socket, companions: Sequence[Companion] = ()) -> None:
        """Serve on a bound socket until `stop`; companions run beside it until the sources take no more."""
        if self._spool is not None:
            await self._spool.open()
        await self._take_up_gaps()
        async with asyncio.TaskGroup() as tasks:
            leasing = tasks.create_task(self._replica.leases.run())
            committing = tasks.create_task(self._inbox.run())
            dispatching = tasks.create_task(self._dispatcher.run())
            attending = [tasks.create_task(self._supervisor.run()), tasks.create_task(self._watched.run())]
            attending.append(tasks.create_task(self._duties.run()))
            attending.append(tasks.create_task(self._look_at_secrets()))
            if self._spool is not None:
                attending.append(tasks.create_task(self._spool.run()))
            serving = tasks.create_task(self._server.serve(sockets=[listening]))
            accompanying = [tasks.create_task(companion.run()) for companion in companions]
            log.info("ready", address="{}:{}".format(*listening.getsockname()[:2]), version=version("headrace"))

            await self._stop.wait()
            self._draining = True
            self._server.close_after_answers()
            await self._replica.leave()
            await self._drain_delay()
            await self._server.refuse(listening, _LAST_REQUESTS_SECONDS)
            await self._supervisor.pause()
            await _cancelled(accompanying)
            self._inbox.close()
            await committing
            self._server.should_exit = True
            await serving
            await self._redrives.close()
            if self._spool is not None:
                await self._spool.drained()
            await _cancelled(attending)
            self._dispatcher.stop()
            await dispatching
            await _cancelled([leasing])
        await self._replica.close()
        if self._spool is not None:
            await self._spool.close()
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
        """Show the gaps that an earlier process began, until the sources listen again. With a spool nothing waits."""
        try:
            self._coverage.follow((await self._database.read(open_gaps)).items())
        except StoreUnavailable:
            if self._spool is None:
                raise

    async def _drain_delay(self) -> None:
        """Give load balancers time to see that readyz fails; SIGINT cuts it short."""
        await wait_at_most(self._at_once, self._settings.server.drain_delay.total_seconds())

    def _readiness(self) -> Readiness:
        return Readiness(
            draining=self._draining,
            store_fault=self._watched.fault() if self._spool is None else self._spool.fault(),
            handlers_failing=self._dispatcher.faults(),
            secrets_unread={file.key: why for file in self._settings.secret_files if (why := file.fault()) is not None},
            spool=None if self._spool is None else self._spool.state(),
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


def make_metrics() -> Metrics:
    """Our collectors on a registry of their own, beside those of the process and of Python."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    metrics = Metrics(registry)
    metrics.build_info.info({"version": version("headrace")})
    return metrics


async def prepare_store(url: str, *, spooled: bool = False) -> None:
    """Bring the schema up to date: SQLite by itself, PostgreSQL only by `headrace migrate`. Raises SchemaBehind.

    `spooled`: a PostgreSQL that is away is looked at when it is there.

    A migration takes as long as it takes, so it is not asked of the process that is killed where it does not answer.
    """
    database = open_database(url)
    try:
        if database.dialect == "sqlite":
            await migrate(database)
        else:
            await require_newest(database)
    except StoreUnavailable as error:
        if not spooled:
            raise
        log.warning("started_without_store", error=str(error), consequence="the spool takes what comes")
    finally:
        await database.close()


async def serve(settings: Settings, companions: Sequence[Companion] = ()) -> None:
    """Run the service until SIGTERM or SIGINT.

    Raises ConfigurationError where the address cannot be bound, StoreUnavailable or SchemaBehind where the store
    cannot be used.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    outlive_hangups()
    with ExitStack() as served:
        listening = served.enter_context(_listen(settings.server.host, settings.server.port))
        url = settings.store.url.value()
        served.enter_context(served_alone(url))
        await prepare_store(url, spooled=settings.store.spool is not None)
        headrace = Headrace(
            settings, open_database(url, write_apart=True), readers=open_database(url, write_apart=True)
        )
        stop_on_signals(headrace.stop, settings.server.drain_delay.total_seconds())
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked through again and again
        gc.set_threshold(_GC_THRESHOLD)
        await headrace.run(listening, companions)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"server.host, server.port: cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}"
        ) from None


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
