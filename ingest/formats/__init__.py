"""The formats of senders: bytes to records, pure; a file for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingest.event import Origin
from ingest.formats.generic import Fields, GenericFormat
from ingest.formats.particle import ParticleFormat
from ingest.formats.product import SentProduct

AnyFormat = ParticleFormat | GenericFormat
"""Every format decodes bodies, frames and messages: see the three Protocols of ingest.protocols."""


def make_format(
    name: str, origin: Origin, ignore: Sequence[str], fields: Mapping[str, str], products: SentProduct | None = None
) -> AnyFormat:
    """Return the format of that name ("particle", "generic"); `products`: how its sender says whose events
    these are. Raises ConfigurationError for a field's place."""
    if name == "generic":
        return GenericFormat(origin, ignore, Fields(**fields), products)
    return ParticleFormat(origin, ignore, products)
