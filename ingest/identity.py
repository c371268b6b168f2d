"""One event, one id, whichever way and however often it comes.

The id is a UUID version 8 (RFC 9562 §5.8): 48 bits of publication time in Unix milliseconds, then a BLAKE2b over
product, device, name, instant and canonical data, each prefixed with its length. Deduplication is therefore the
database's unique key. The rules below can never change after a release: tests/unit/test_identity.py pins vectors.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from itertools import accumulate
from typing import Any
from uuid import UUID

import msgspec

from ingest.event import MAX_NESTING
from ingest.times import Instant

_HASHED_BITS = (1 << 80) - 1 & ~(0xF << 76 | 0b11 << 62)
_VERSION_8_AND_VARIANT = 0x8 << 76 | 0b10 << 62
_MAX_MILLISECONDS = (1 << 48) - 1
_HASH = hashlib.blake2b(digest_size=10, person=b"headrace.id.1")
# UUID's own constructor takes four times as long.
_uuid = msgspec.msgpack.Decoder(UUID).decode
_BIN_16 = b"\xc4\x10"  # MessagePack's head of 16 bytes

_BACKSLASH = ord("\\")  # to look for a number in bytes takes a third of the time
_EMPTY = frozenset({b"", b"null", b"undefined"})
# RFC 2397 §3; the bounds keep what becomes a content type printable and short.
_DATA_URL_HEAD = re.compile(rb"data:([ -+\--~]{0,200});base64")
# A string that never ends reaches to the end of the text, so that no second attempt is made from its inside.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS = bytes(set(range(256)) - _STEPS.keys())
_MAX_INTEGER_CHARACTERS = 4300  # msgspec's bound: a longer integer is no JSON to either parser

# Numbers that are no integers keep their literal: a float would make 1.10 and 1.1000000000000001 one value.
_parse = msgspec.json.Decoder(float_hook=msgspec.Raw).decode
_skim = msgspec.json.Decoder(msgspec.Raw).decode
_write_sorted = msgspec.json.Encoder(order="sorted").encode


def event_id(product: str, device: str | None, name: str, instant: Instant | None, value: bytes) -> UUID:
    """The id of an event. `value` is canonical data, or `sender_value(id)` where the sender gives events an id.

    Where nothing tells two events apart (neither instant nor a sender's id) use `random_id` instead.
    """
    whose, who, what = product.encode(), device.encode() if device else b"", name.encode()
    when = b"" if instant is None else b"%d" % instant.nanoseconds
    hash_ = _HASH.copy()
    hash_.update(
        b"%d:%b%d:%b%d:%b%d:%b%d:%b"
        % (len(whose), whose, len(who), who, len(what), what, len(when), when, len(value), value)
    )
    return _uuid8(0 if instant is None else instant.nanoseconds // 1_000_000, hash_.digest())


def random_id(received: Instant) -> UUID:
    """An id for an event that cannot be told from its like: made once, at arrival, and sorted by that time."""
    return _uuid8(received.nanoseconds // 1_000_000, secrets.token_bytes(10))


def _uuid8(milliseconds: int, random80: bytes) -> UUID:
    prefix = milliseconds if 0 <= milliseconds <= _MAX_MILLISECONDS else 0 if milliseconds < 0 else _MAX_MILLISECONDS
    hashed = int.from_bytes(random80, "big") & _HASHED_BITS
    return _uuid(_BIN_16 + (prefix << 80 | _VERSION_8_AND_VARIANT | hashed).to_bytes(16, "big"))


def sender_value(sender_id: str) -> bytes:
    """What stands in the hash instead of data where the sender's own id is configured (`fields.id`).

    It starts with a space, as no canonical data does: an id never equals another event's data.
    """
    return b" id:" + sender_id.encode("utf-8", "surrogatepass")


def canonicalize(data: bytes | None) -> tuple[bytes, str | None]:
    """Canonical data, and the media type that data shows by itself (None where there is none).

    Canonical data is the form that all ways of sending it share. A base64 data URL stands for its bytes, for another
    mode may bring these. Of the bytes, a JSON object or array is compact, with sorted keys and numbers by their
    literals; null, absent, empty, `null` and `undefined` are empty; anything else is its bytes without surrounding
    white space.
    """
    if data is None:
        return b"", None
    text = data.strip()
    if text.startswith(b"data:") and (decoded := decode_data_url(text)) is not None:
        return _canonical(decoded[1].strip())[0], decoded[0]
    return _canonical(text)


def _canonical(text: bytes) -> tuple[bytes, str]:
    if text[:1] in (b"{", b"[") and (json_text := _canonical_json(text)) is not None:
        return json_text, "application/json"
    return b"" if text in _EMPTY else text, _type_of(text)


def _type_of(text: bytes) -> str:
    try:
        text.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "application/json" if text[:1] in (b"{", b"[") and _is_json(text) else "text/plain"


def decode_data_url(data: bytes) -> tuple[str, bytes] | None:
    """Media type and bytes of a base64 data URL (RFC 2397), white space in it left out; None where it is not one."""
    head, _, encoded = data.strip().partition(b",")
    match = _DATA_URL_HEAD.fullmatch(head)
    if match is None:
        return None
    try:
        content = base64.b64decode(b"".join(encoded.split()), validate=True)
    except binascii.Error:
        return None
    return match[1].decode() or "text/plain", content


def nesting(text: bytes) -> int:
    """How deep brackets nest in JSON text, strings left out."""
    brackets = _STRING.sub(b"", text).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _canonical_json(text: bytes) -> bytes | None:
    """None where the text has to be compared as it is."""
    if not _shallow(text):
        return None
    try:
        if _BACKSLASH in text:  # escapes hide what the count of colons below would show
            return _write_sorted(_parse_carefully(text))
        canonical = _write_sorted(_parse(text))
    except (ValueError, RecursionError):  # not JSON: NaN, a lone surrogate, invalid UTF-8 among others
        return None
    # A duplicate key was dropped: two documents must not become one. Where nothing became shorter, nothing was.
    if len(canonical) != len(text) and canonical.count(b":") != text.count(b":"):
        return None
    return canonical


def _shallow(text: bytes) -> bool:
    return (
        len(text) <= MAX_NESTING  # each level is a character, at least
        or text.count(b"{") + text.count(b"[") <= MAX_NESTING
        or nesting(text) <= MAX_NESTING
    )


def _is_json(text: bytes) -> bool:
    try:
        _skim(text)
    except (ValueError, RecursionError):
        return False
    return _shallow(text)


def _parse_carefully(text: bytes) -> Any:
    """Parse as `_parse` does, and raise ValueError on a duplicate key or NaN."""
    return json.loads(
        text.decode(),
        object_pairs_hook=_unique_members,
        parse_int=_integer,
        parse_float=msgspec.Raw,
        parse_constant=_no_constant,
    )


def _integer(text: str) -> int:
    if len(text) > _MAX_INTEGER_CHARACTERS:
        raise ValueError("more digits than msgspec takes")
    return int(text)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key")
    return members
