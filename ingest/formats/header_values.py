"""The text that the value of an HTTP header stands for. It comes decoded as latin-1, a letter for each byte."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

_CLOUDEVENTS = "ce-"
_ESCAPED = re.compile(r"\\(.)")


def header_text(name: str, value: str) -> str:
    """Return the text of a header, `name` in lower case, without the white space around it (RFC 9110 §5.5).

    Bytes that are UTF-8 are read as that, others as they came. CloudEvents' attributes are percent-encoded, perhaps in
    quotation marks (HTTP Protocol Binding 1.0.2 §3.1.3.2); nobody else's are.
    """
    text = value.strip(" \t")
    if name.startswith(_CLOUDEVENTS):
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = _ESCAPED.sub(r"\1", text[1:-1])
        return _utf8(text, unquote_to_bytes(text.encode("latin-1", "replace")) if "%" in text else None)
    return _utf8(text, None)


def _utf8(text: str, encoded: bytes | None) -> str:
    try:
        return (text.encode("latin-1") if encoded is None else encoded).decode()
    except UnicodeError:
        return text
