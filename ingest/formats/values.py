"""Source slices of JSON as an event's data, in whatever bytes, or as text outside data, strictly UTF-8."""

from __future__ import annotations

import json
import re

import msgspec

from ingest.errors import Undecodable
from ingest.event import Reason

_any = msgspec.json.Decoder().decode
_text = msgspec.json.Decoder(str | None).decode
_string = msgspec.json.Decoder(str).decode

_BACKSLASH = ord("\\")
_NUMBER_STARTS = frozenset(b"%c" % start for start in b"-0123456789")
_ESCAPES = re.compile(rb"(?:\\(?:u[0-9A-Fa-f]{4}|.))+", re.DOTALL)

Slice = bytes | msgspec.Raw


def data_of(slice_: Slice) -> bytes | None:
    """Return a value as an event's data: a string's text in UTF-8, None for null, else the source slice.

    Bytes of a string that are no UTF-8 stay as they are, and an escaped lone surrogate becomes its three bytes.
    """
    value = bytes(slice_)
    if value[:1] != b'"':
        return None if value == b"null" else value
    if _BACKSLASH not in value:
        return value[1:-1]
    try:
        return _string(value).encode()
    except ValueError:
        return _ESCAPES.sub(_unescape, value[1:-1])


def text_of(value: Slice | None, reason: Reason) -> str | None:
    """Return what a JSON string says, None for null and nothing.

    Raises Undecodable: `reason` for others, INVALID_UTF8.
    """
    if value is None:
        return None
    try:
        text: str | None = _text(value)
    except ValueError:
        raise Undecodable(Reason.INVALID_UTF8 if is_string(value) else reason) from None
    return text


def text_or_number_of(value: Slice | None, reason: Reason) -> str | None:
    """Return the same as `text_of`; of a number the literal."""
    try:
        return text_of(value, reason)
    except Undecodable:
        if value is not None and (literal := bytes(value))[:1] in _NUMBER_STARTS:
            return literal.decode()
        raise


def literal_of(value: Slice) -> str | None:
    """Return what a JSON string says, None for null, else the source slice. Raises Undecodable(INVALID_UTF8)."""
    try:
        text = _any(value)
    except (ValueError, RecursionError):
        if is_string(value):
            raise Undecodable(Reason.INVALID_UTF8) from None
    else:
        if text is None or type(text) is str:
            return text
    return utf8(bytes(value))


def unicode_text(key: str) -> str:
    """Return a key of a JSON object, unless a lone surrogate is in it: the tolerant reading lets those through.

    Raises Undecodable(INVALID_UTF8).
    """
    try:
        key.encode()
    except UnicodeEncodeError:
        raise Undecodable(Reason.INVALID_UTF8) from None
    return key


def utf8(text: bytes) -> str:
    """Decode text that stands outside data. Raises Undecodable(INVALID_UTF8)."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise Undecodable(Reason.INVALID_UTF8) from None


def is_string(value: Slice) -> bool:
    """Return whether a slice is a JSON string."""
    return bytes(value)[:1] == b'"'


def _unescape(escapes: re.Match[bytes]) -> bytes:
    text: str = json.loads(b'"%b"' % escapes[0])
    return text.encode("utf-8", "surrogatepass")
