"""The formats of senders: bytes to records, pure; a file for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingest.event import Origin
from ingest.formats.generic import Fields, GenericFormat
from ingest.formats.particle import ParticleFormat

AnyFormat = ParticleFormat | GenericFormat
"""Every format decodes bodies, frames and messages: see the three Protocols of ingest.protocols."""


def make_format(name: str, origin: Origin, ignore: Sequence[str], fields: Mapping[str, str]) -> AnyFormat:
    """Return the format of that name ("particle", "generic"). Raises ConfigurationError for a field's place."""
    if name == "generic":
        return GenericFormat(origin, ignore, Fields(**fields))
    return ParticleFormat(origin, ignore)
