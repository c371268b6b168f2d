"""JSON by its source slices: what a sender wrote is taken apart without being changed.

msgspec does it for almost every body. It refuses NaN, lone surrogates and the like, which are welcome inside data: then
a slower, tolerant path finds the same slices.
"""

from __future__ import annotations

import json
import re

import msgspec

from ingest.errors import Undecodable
from ingest.event import MAX_NESTING, Reason
from ingest.identity import nesting

SPACE = b" \t\n\r"  # RFC 8259 §2
AROUND = SPACE + b"\x0b\x0c\0"  # NUL ends a text in C, and comes with it by mistake

_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
# Numbers stay text: an integer of 5,000 digits is legal, and int() refuses it.
_tolerant = json.JSONDecoder(parse_int=str, parse_float=str).decode

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[",]|[\[{]+|[\]}]+', re.DOTALL)
_MEMBER = re.compile(rb'[ \t\n\r]*("(?:[^"\\]++|\\.)*+")[ \t\n\r]*:(.*)', re.DOTALL)


def members(text: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object, each value as its source slice; of equal keys the last counts.

    Raises Undecodable: MALFORMED_JSON, TRUNCATED where the object never closes, TOO_DEEP where a value nests over 64
    levels.
    """
    try:
        found = _object(text)
    except (ValueError, RecursionError):
        found = _members_carefully(text)
    else:
        check_depth(text)
    return found


def items(text: bytes) -> list[msgspec.Raw]:
    """Return the items of a JSON array, as source slices.

    Where the array holds something that is not JSON, it is still split at its commas: an item may then be malformed, or
    too deep. Raises Undecodable(MALFORMED_JSON | TRUNCATED) where that is impossible.
    """
    try:
        return _array(text)
    except (ValueError, RecursionError):
        pieces = [piece.strip(SPACE) for piece in _pieces(text)]
    if not all(pieces):
        raise Undecodable(Reason.MALFORMED_JSON)
    return [msgspec.Raw(piece) for piece in pieces]


def is_scalar(text: bytes) -> bool:
    """Return whether this is a JSON string, number, true, false or null (NaN and Infinity among the numbers)."""
    if text[:1] in b"[{":  # also where it is empty
        return False
    try:
        _parse(text)
    except Undecodable:
        return False
    return True


def check_depth(text: bytes) -> None:
    """Raise Undecodable(TOO_DEEP) where a value nests over 64 levels; the element's own braces are one level above."""
    if text.count(b"{") + text.count(b"[") > MAX_NESTING + 1 and nesting(text) > MAX_NESTING + 1:
        raise Undecodable(Reason.TOO_DEEP)


def _members_carefully(text: bytes) -> dict[str, msgspec.Raw]:
    pieces = _pieces(text)
    check_depth(text)
    found = {}
    for piece in pieces:
        member = _MEMBER.fullmatch(piece)
        if member is None:
            raise Undecodable(Reason.MALFORMED_JSON)
        value = member[2].strip(SPACE)
        _parse(value)
        found[str(_parse(member[1]))] = msgspec.Raw(value)
    return found


def _pieces(text: bytes) -> list[bytes]:
    """Return what stands between the commas of an object or array that ends where the text ends.

    Needs no recursion, so no depth can hurt it. Only strings and brackets are looked at.
    """
    pieces: list[bytes] = []
    depth, start = 0, 1
    for token in _TOKEN.finditer(text):
        marks = token[0]
        if marks[0] in b"[{":
            depth += len(marks)
        elif marks[0] in b"]}":
            depth -= len(marks)
            if depth <= 0:
                _check_end(text, token.end(), depth)
                return [*pieces, text[start : token.end() - 1]]
        elif marks == b"," and depth == 1:
            pieces.append(text[start : token.start()])
            start = token.end()
        elif marks == b'"':
            break  # a string that never ends
    raise Undecodable(Reason.TRUNCATED)


def _check_end(text: bytes, end: int, depth: int) -> None:
    """Check the outermost bracket, which closes at `end`: it must be of the kind that opened, and the last thing."""
    if depth < 0 or text[0] != text[end - 1] - 2 or text[end:].strip(SPACE):  # "[" and "]", "{" and "}" are 2 apart
        raise Undecodable(Reason.MALFORMED_JSON)


def _parse(text: bytes) -> object:
    try:
        return _tolerant(text.decode("utf-8", "surrogateescape"))
    except ValueError:
        raise Undecodable(Reason.MALFORMED_JSON) from None
