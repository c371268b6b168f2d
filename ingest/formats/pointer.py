"""The places where the generic format finds a part of an event: a JSON pointer (RFC 6901), a header, a
message's attribute, a frame's id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from ingest.errors import Undecodable
from ingest.formats.slices import items, members

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_HEADER = re.compile(r"header:([!#$%&'*+.^_`|~0-9A-Za-z-]+)")  # a token of RFC 9110 §5.6.2
_ATTRIBUTE = "attribute:"
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class Header(msgspec.Struct, frozen=True):
    """The header of this name, in lower case; or what else stands beside a body by that name."""

    name: str


FRAME_ID = Header("sse:id")  # a frame's own `id:` line; no header's name has a colon


class Pointer(msgspec.Struct, frozen=True):
    """The reference tokens of a JSON pointer, unescaped; none is the whole element."""

    tokens: tuple[str, ...]


Place = Pointer | Header


def parse_place(text: str) -> Place:
    """Return the place that a configured text names. Raises ValueError, which does not repeat it."""
    if text == FRAME_ID.name:
        return FRAME_ID
    if text.startswith(_ATTRIBUTE) and text != _ATTRIBUTE:
        return Header(text)  # these names have capitals
    if header := _HEADER.fullmatch(text):
        return Header(header[1].lower())
    if not _POINTER.fullmatch(text):
        raise ValueError(
            'expected a JSON pointer such as "/id" (RFC 6901), "header:Name", "attribute:Name" or "sse:id"'
        )
    return parse_pointer(text)


def parse_pointer(text: str) -> Pointer:
    """Return the JSON pointer that a configured text is. Raises ValueError, which does not repeat it."""
    if not _POINTER.fullmatch(text):
        raise ValueError('expected a JSON pointer such as "/seq" (RFC 6901)')
    return Pointer(tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:]))


def attribute_name(place: Place | None) -> str | None:
    """Return the name of the message's attribute that a place is; None where it is another."""
    if isinstance(place, Header) and place.name.startswith(_ATTRIBUTE):
        return place.name.removeprefix(_ATTRIBUTE)
    return None


def resolve(tokens: Sequence[str], value: bytes) -> bytes | None:
    """Return the source slice that a pointer's tokens lead to in JSON text; None where there is nothing."""
    found: bytes | None = value
    for token in tokens:
        if found is None:
            return None
        found = _step(found, token)
    return found


def make_finder(tokens: Sequence[str]) -> Callable[[bytes], bytes | None]:
    """Return what gives the slice of JSON text that a pointer's tokens lead to; None where there is nothing.

    Of an object only the one member is made: half a microsecond against four.
    """
    if len(tokens) != 1:
        return partial(_find, tokens)
    fields = [("member", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET)]
    only = msgspec.defstruct("Only", fields, rename={"member": tokens[0]}, gc=False)
    decode = msgspec.json.Decoder(only).decode

    def find(text: bytes) -> bytes | None:
        try:
            member: msgspec.Raw | msgspec.UnsetType = decode(text).member  # type: ignore[attr-defined]
        except (ValueError, RecursionError):  # no object, or with NaN in it and the like
            return _find(tokens, text)
        return None if isinstance(member, msgspec.UnsetType) else bytes(member)

    return find


def _find(tokens: Sequence[str], text: bytes) -> bytes | None:
    try:
        return resolve(tokens, text)
    except Undecodable:
        return None


def _step(value: bytes, token: str) -> bytes | None:
    if value[:1] == b"{":
        member = members(value).get(token)
        return None if member is None else bytes(member)
    if value[:1] != b"[" or not _INDEX.fullmatch(token):
        return None
    found, index = items(value), int(token)
    return bytes(found[index]) if index < len(found) else None
