"""Text from outside as a terminal may have it: what could move its cursor or turn its lines round is spelled out."""

from __future__ import annotations

import re

# What JSON may hold as it is, and a terminal obeys: DEL, the controls from U+0080, and those of writing direction.
_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xaa-\xae]|\xe2\x81[\xa6-\xa9]")


def visible(text: str) -> str:
    """Spell out all that is not printable: control characters, bidirectional overrides, halves."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def visible_lines(text: str) -> str:
    """Spell out the same, and leave the ends of lines."""
    return "\n".join(map(visible, text.split("\n")))


def visible_json(encoded: bytes) -> bytes:
    """Return the same JSON document with controls written as its own escapes. For those below U+0020 it always is."""
    return _CONTROLS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), encoded)
