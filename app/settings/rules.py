"""Faults that only show where sections are seen together: who may reach us, and which paths collide."""

from __future__ import annotations

from collections.abc import Iterator

from app.settings.faults import Fault
from app.settings.model import Settings, is_loopback
from ingest.event import Mode


def conflicts(settings: Settings) -> Iterator[Fault]:
    """Every fault between sections."""
    yield from _tls_faults(settings)
    yield from _path_faults(settings)
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


def _path_faults(settings: Settings) -> Iterator[Fault]:
    owners: dict[str, str] = {}
    for label, source in settings.sources.items():
        owner = owners.setdefault(source.webhook.path, label)
        if owner != label and Mode.WEBHOOK in source.modes:
            yield Fault(("sources", label, "webhook", "path"), f"expected a path that sources.{owner} does not have")
