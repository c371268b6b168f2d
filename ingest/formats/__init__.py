"""The formats of senders: bytes to records, pure; a file for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingest.event import Origin
from ingest.formats.generic import Fields, GenericFormat
from ingest.formats.message_id import MessageIdFormat, parse_message_place
from ingest.formats.particle import ParticleFormat
from ingest.formats.product import SentProduct

AnyFormat = ParticleFormat | GenericFormat | MessageIdFormat
"""Every format decodes bodies, frames and messages: see the three Protocols of ingest.protocols."""


def make_format(
    name: str,
    origin: Origin,
    ignore: Sequence[str],
    fields: Mapping[str, str],
    products: SentProduct | None = None,
    message_id: str | None = None,
) -> AnyFormat:
    """Return the format of that name ("particle", "generic"); `products`: how its sender says whose events these are,
    `message_id`: where the device's own number of a message stands. Raises ConfigurationError for a field's place.
    """
    format_ = (
        GenericFormat(origin, ignore, Fields(**fields), products)
        if name == "generic"
        else ParticleFormat(origin, ignore, products)
    )
    return format_ if message_id is None else MessageIdFormat(format_, parse_message_place(message_id))
