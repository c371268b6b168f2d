"""Faults that only show where sections are seen together: who may reach us, and which paths collide."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from app.certificate import load_certificate
from app.settings.faults import Fault
from app.settings.model import PARTICLE_HOST, Settings, is_loopback
from ingest.event import Mode

FRAME_ID = "sse:id"


def conflicts(settings: Settings) -> Iterator[Fault]:
    """Every fault between sections."""
    yield from _tls_faults(settings)
    yield from _path_faults(settings)
    yield from _stream_faults(settings)
    yield from _frame_id_faults(settings)
    yield from _subscription_faults(settings)
    yield from access_faults(settings)


def access_faults(settings: Settings) -> Iterator[Fault]:
    """Why a server that other machines can reach must not start: no tokens, or a webhook that believes anyone."""
    if settings.access.open or is_loopback(settings.server.host):
        return
    because = "because server.host is not loopback (access.open = true lets everybody in)"
    for key in ("read_tokens", "admin_tokens"):
        if not getattr(settings.access, key):
            yield Fault(("access", key), f"required {because}")
    for label, source in settings.sources.items():
        if Mode.WEBHOOK in source.modes and source.webhook.auth.type == "none":
            yield Fault(("sources", label, "webhook", "auth"), f'expected another type than "none" {because}')


def _tls_faults(settings: Settings) -> Iterator[Fault]:
    server = settings.server
    if server.tls_cert and not server.tls_key:
        yield Fault(("server", "tls_key"), "required with server.tls_cert")
    if server.tls_key and not server.tls_cert:
        yield Fault(("server", "tls_cert"), "required with server.tls_key")
    if server.tls_cert and server.tls_key:
        try:
            load_certificate(server.tls_cert, server.tls_key)
        except OSError as error:
            yield Fault(("server", "tls_cert"), f"expected a certificate that server.tls_key belongs to ({error})")


def _stream_faults(settings: Settings) -> Iterator[Fault]:
    for label, source in settings.sources.items():
        if Mode.SSE not in source.modes:
            continue
        key = ("sources", label)
        if source.sse.token is None and urlsplit(source.sse.url).hostname == PARTICLE_HOST:
            yield Fault((*key, "sse", "token"), f"required for {PARTICLE_HOST}")
        for name, place in source.fields or ():
            if isinstance(place, str) and place.startswith("header:"):
                because = "the events of a stream have no headers, and would get other ids than by webhook"
                yield Fault((*key, "fields", name), f"expected a JSON pointer with mode sse: {because}")


def _frame_id_faults(settings: Settings) -> Iterator[Fault]:
    for label, source in settings.sources.items():
        for name, place in source.fields or ():
            if place == FRAME_ID and source.modes != (Mode.SSE,):
                because = "only the frames of a stream have an id: line, and by another mode the ids would be others"
                yield Fault(("sources", label, "fields", name), f'expected "{FRAME_ID}" with mode sse alone: {because}')


def _subscription_faults(settings: Settings) -> Iterator[Fault]:
    owners: dict[str, str] = {}
    for label, source in settings.sources.items():
        if Mode.PUBSUB not in source.modes:
            continue
        key = ("sources", label, "pubsub", "subscription")
        if source.pubsub.subscription is None:
            yield Fault(key, "required with mode pubsub")
        elif (owner := owners.setdefault(source.pubsub.subscription, label)) != label:
            because = "each message would come to one of them only"
            yield Fault(key, f"expected a subscription that sources.{owner} does not have: {because}")


def _path_faults(settings: Settings) -> Iterator[Fault]:
    owners: dict[str, str] = {}
    for label, source in settings.sources.items():
        owner = owners.setdefault(source.webhook.path, label)
        if owner != label and Mode.WEBHOOK in source.modes:
            yield Fault(("sources", label, "webhook", "path"), f"expected a path that sources.{owner} does not have")


def recommendations(settings: Settings) -> Iterator[str]:
    """Return what would do better, though nothing is at fault; each names its key."""
    for label, source in settings.sources.items():
        has_id = source.fields is not None and source.fields.id is not None
        if source.format == "generic" and source.modes == (Mode.SSE,) and not has_id:
            yield (
                f'sources.{label}.fields.id: "{FRAME_ID}" is recommended where frames have an id: line of their own, '
                "so that what is sent again after a reconnect is stored once"
            )
