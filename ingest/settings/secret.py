"""Texts that are never shown: tokens, signing keys, and URLs that hold a password."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic_core import CoreSchema, core_schema

MASK = "********"

# Passwords may hold any character, so everything from the user's colon to the last @ is taken to be one.
_USER_PASSWORD = re.compile(r"^([^:/?#]+://[^:@]*):.*@", re.DOTALL)
# Without an @ the host was forgotten: what follows the colon is a port, or else the password and whatever is in it.
_NO_PORT = re.compile(r"^([^:/?#]+://(?:\[[^\]]*\]|(?!\[)[^:@/?#]*)):(?!\d{1,5}(?:[/?#]|\Z))[^@]*\Z", re.DOTALL)
_QUERY_PASSWORD = re.compile(r"([?&][^=&]*(?:password|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)
_QUERY_VALUE = re.compile(r"([?&](?!(?:host|port|ssl|sslmode)=)(?:[^=&]*=)?)[^&]+")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)


class Secret:
    """A text that only `value` tells; repr, str and every dump of the settings show `shown` in its place.

    `source` is the text, or a function that returns the current one where it may change while we run.
    """

    __slots__ = ("_shown", "_source")

    def __init__(self, source: str | Callable[[], str], shown: str = MASK) -> None:
        self._source = source
        self._shown = shown

    def value(self) -> str:
        """Return the text as it is now; never raises."""
        return self._source if isinstance(self._source, str) else self._source()

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"Secret({self._shown!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        return core_schema.is_instance_schema(cls, serialization=core_schema.to_string_ser_schema(when_used="always"))


def masked_url(url: str) -> str:
    """Return `url` without the passwords in its authority and its query; rather too little of it than too much."""
    named = _NO_PORT.sub(rf"\1:{MASK}", _USER_PASSWORD.sub(rf"\1:{MASK}@", url))
    return _QUERY_PASSWORD.sub(rf"\1{MASK}", named)


def masked_text(text: str) -> str:
    """Return a text, such as an exception's, whose URLs show neither passwords nor what their queries hold."""
    if "://" not in text:
        return text
    return _URL.sub(lambda url: _QUERY_VALUE.sub(rf"\1{MASK}", masked_url(url[0])), text)
