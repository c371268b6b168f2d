"""Faults that only show where sections are seen together: who may reach us, and which paths collide."""

from __future__ import annotations

from collections.abc import Iterator

from app.certificate import load_certificate
from app.settings.faults import Fault
from app.settings.model import Settings, is_loopback
from ingest.formats.pointer import FRAME_ID, attribute_name, parse_place
from ingest.sources import modes


def conflicts(settings: Settings) -> Iterator[Fault]:
    """Yield every fault between sections."""
    yield from _tls_faults(settings)
    yield from _spool_faults(settings)
    for mode in modes().values():
        yield from (Fault(key, text) for key, text in mode.faults(settings.sources))
    yield from _product_faults(settings)
    yield from _attribute_faults(settings)
    yield from _sequence_faults(settings)
    yield from access_faults(settings)


def access_faults(settings: Settings) -> Iterator[Fault]:
    """Yield why a server that other machines can reach must not start: no tokens, or a source that believes anyone."""
    if settings.access.open or is_loopback(settings.server.host):
        return
    because = "because server.host is not loopback (access.open = true lets everybody in)"
    for key in ("read_tokens", "admin_tokens"):
        if not getattr(settings.access, key):
            yield Fault(("access", key), f"required {because}")
    for label, source in settings.sources.items():
        for mode in source.modes:
            if (unguarded := modes()[mode].unguarded(source.table(mode))) is not None:
                key, expected = unguarded
                yield Fault(("sources", label, mode, key), f"{expected} {because}")


def _product_faults(settings: Settings) -> Iterator[Fault]:
    for label, source in settings.sources.items():
        key, product = ("sources", label, "product"), source.products
        if product.map and product.place is None:
            yield Fault((*key, "from"), "required with product.map")
        if product.place is not None and not product.map:
            yield Fault((*key, "map"), "required with product.from")


def _attribute_faults(settings: Settings) -> Iterator[Fault]:
    """Yield places that only messages have, where a source also takes what has none: the ids would be others there."""
    for label, source in settings.sources.items():
        others = [mode for mode in source.modes if mode in {"webhook", "sse"}]
        if source.format != "generic" or not others:
            continue
        places = [(("fields", name), place) for name, place in source.fields or ()]
        for key, place in [*places, (("product", "from"), source.products.place)]:
            if isinstance(place, str) and attribute_name(parse_place(place)) is not None:
                because = "only messages have attributes, and the same event would get another id"
                yield Fault(("sources", label, *key), f"expected a JSON pointer with mode {others[0]}: {because}")


def _spool_faults(settings: Settings) -> Iterator[Fault]:
    store = settings.store
    if store.spool is not None and store.url.value().startswith("sqlite:"):
        yield Fault(("store", "spool"), "goes with PostgreSQL only; leave it out: SQLite is on this disk itself")


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


def _sequence_faults(settings: Settings) -> Iterator[Fault]:
    """Sources of one product are one sequence: what one of them does not read would be missing at the other."""
    first_of: dict[str, str] = {}
    for label, source in settings.sources.items():
        for product in sorted(source.products.names):
            first = first_of.setdefault(product, label)
            yield from _differing_sequences(settings, label, first, f"for both have the product {product}")


def _differing_sequences(settings: Settings, label: str, first: str, because: str) -> Iterator[Fault]:
    source, other = settings.sources[label], settings.sources[first]
    if (source.sequence is None) != (other.sequence is None):
        yield Fault(("sources", label, "sequence"), f"expected in sources.{first} too or in neither, {because}")
        return
    for key in ("sequence_first", "sequence_modulus", "sequence_names"):
        if getattr(source, key) != getattr(other, key):
            yield Fault(("sources", label, key), f"expected the same as sources.{first}.{key}, {because}")
    if (source.sequence_epoch is None) != (other.sequence_epoch is None):
        yield Fault(("sources", label, "sequence_epoch"), f"expected in sources.{first} too or in neither, {because}")


def recommendations(settings: Settings) -> Iterator[str]:
    """Yield what would do better, or has no effect, though nothing is at fault; each names its key."""
    for label, mode in settings.unused_tables:
        chosen = ", ".join(settings.sources[label].modes)
        yield f'sources.{label}.{mode}: not used, as sources.{label}.mode is {chosen}; put "{mode}" there to run it'
    for label, source in settings.sources.items():
        has_id = source.fields is not None and source.fields.id is not None
        if source.format == "generic" and source.modes == ("sse",) and not has_id:
            yield (
                f'sources.{label}.fields.id: "{FRAME_ID.name}" is recommended where frames have an id: line of their '
                "own, so that what is sent again after a reconnect is stored once"
            )
