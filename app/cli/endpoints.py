"""The endpoints that sources would open, tried: with the configured credentials, for seconds, taking nothing."""

from __future__ import annotations

from collections.abc import Iterator

from app.settings import Settings
from ingest.sources import modes


def try_sources(settings: Settings) -> Iterator[str]:
    """Yield a line for each endpoint that was reached. Raises ConfigurationError, which names the key of another."""
    for label, source in settings.sources.items():
        for mode in sorted(source.modes, key=list(modes()).index):
            line = modes()[mode].probe(f"sources.{label}.{mode}", source.table(mode))
            if line is not None:
                yield line
