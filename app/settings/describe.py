"""The configuration in force as rows for people; secrets and passwords are masked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.settings.model import Settings
from ingest.settings.secret import masked_text
from ingest.sources import modes


def describe(settings: Settings) -> list[tuple[str, str]]:
    """A row of key and value for everything that has one; tables of modes that do not run are left out."""
    tree = settings.model_dump(mode="json", by_alias=True)
    for label, source in settings.sources.items():
        for idle in frozenset(modes()) - frozenset(source.modes):
            del tree["sources"][label][idle]
    return list(_rows(tree))


def _rows(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{prefix}{key}.")
        elif value not in (None, "", []):
            yield f"{prefix}{key}", _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return str(value).lower() if isinstance(value, bool) else masked_text(str(value))
