"""An HTTP body taken apart into its elements. JSON is told by its first byte, a form by its Content-Type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from ingest.errors import TooLarge, Undecodable
from ingest.event import MAX_ELEMENTS, Reason
from ingest.formats.slices import AROUND, is_scalar, items, members

_T = TypeVar("_T")

_BOM = b"\xef\xbb\xbf"
_FORM = "application/x-www-form-urlencoded"


class Document(msgspec.Struct, frozen=True):
    """A JSON object: its source, and its members' source slices."""

    text: bytes
    members: dict[str, msgspec.Raw]


class Form(msgspec.Struct, frozen=True):
    """A form: the body, and its fields, percent-decoded; of equal names the last counts."""

    text: bytes
    fields: dict[bytes, bytes]


class Broken(msgspec.Struct, frozen=True):
    """Something that is no element, to be kept with the reason."""

    text: bytes
    reason: Reason


Element = Document | Form | Broken

_Object = TypeVar("_Object")


def document(text: bytes) -> Document:
    """Read a JSON object. Raises Undecodable."""
    return Document(text, members(text))


def split(body: bytes, content_type: str, opened: Callable[[bytes], _Object]) -> Sequence[_Object | Form | Broken]:
    """Return the elements of an inflated body, in order: a JSON object, an array's items, lines of NDJSON, or one form.

    What begins with `{` or `[` is JSON whatever `content_type` says, and all else is a form only where that says so.
    What cannot be split is one Broken with the whole body. `opened` is `document`, or makes something else of an
    object's text, and raises Undecodable. Raises TooLarge for more than 10,000 elements.
    """
    text = body.strip(AROUND).removeprefix(_BOM).strip(AROUND)
    first = text[:1]
    try:
        if first == b"{":
            return _objects(text, opened)
        if first == b"[":
            return [element(bytes(item), opened) for item in _counted(items(text))]
        return [_form(text, content_type)]
    except Undecodable as fault:
        reason = Reason.MALFORMED_JSON if fault.reason is Reason.TRUNCATED else fault.reason
        return [Broken(body, reason)]


def is_array(body: bytes) -> bool:
    """Return whether `split` takes a body for an array, though it may have only one item."""
    return body.strip(AROUND).removeprefix(_BOM).lstrip(AROUND).startswith(b"[")


def _objects(text: bytes, opened: Callable[[bytes], _Object]) -> Sequence[_Object | Broken]:
    try:
        return [opened(text)]
    except Undecodable:
        lines = [line for each in text.split(b"\n") if (line := each.strip(AROUND))]
        if (elements := _lines(lines, opened)) is None:
            raise
        return elements


def _lines(lines: list[bytes], opened: Callable[[bytes], _Object]) -> Sequence[_Object | Broken] | None:
    """Read NDJSON; None where the lines are a single document that is written over several lines, and malformed.

    Such a document never ends on its first line, and hardly has a `{` at the start of each. So either tells NDJSON,
    if there is a whole object at all.
    """
    if len(lines) < 2 or not (all(line.startswith(b"{") for line in lines) or _is_whole(element(lines[0], opened))):
        return None
    elements = [element(line, opened) for line in _counted(lines)]
    return elements if any(map(_is_whole, elements)) else None


def _is_whole(element: object) -> bool:
    return not isinstance(element, Broken) or element.reason is Reason.TOO_DEEP


def element(text: bytes, opened: Callable[[bytes], _Object]) -> _Object | Broken:
    """Return the one element that a text is; `opened` as for `split`."""
    if text[:1] != b"{":
        is_other = text[:1] == b"[" or is_scalar(text)
        return Broken(text, Reason.NOT_AN_OBJECT if is_other else Reason.MALFORMED_JSON)
    try:
        return opened(text)
    except Undecodable as fault:
        return Broken(text, fault.reason)


def _counted(elements: list[_T]) -> list[_T]:
    if len(elements) > MAX_ELEMENTS:
        raise TooLarge(f"a body of more than {MAX_ELEMENTS} elements")
    return elements


def _form(text: bytes, content_type: str) -> Form:
    if not text:
        raise Undecodable(Reason.EMPTY)
    is_form = content_type.partition(";")[0].strip().lower() == _FORM
    may_be_scalar = not is_form or b"=" not in text or text[:1] == b'"'
    if may_be_scalar and is_scalar(text):
        raise Undecodable(Reason.NOT_AN_OBJECT)
    if not is_form or b"=" not in text:
        raise Undecodable(Reason.MALFORMED_JSON if "json" in content_type.lower() else Reason.MALFORMED_FORM)
    pairs = (field.partition(b"=") for field in text.replace(b"+", b" ").split(b"&") if field)
    return Form(text, {_unescape(name): _unescape(value) for name, _, value in pairs})


def _unescape(text: bytes) -> bytes:
    return unquote_to_bytes(text) if b"%" in text else text
