"""Which product an event is of, where one sender speaks for several: its own word for it, looked up in a map."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ingest.errors import Undecodable
from ingest.event import Reason
from ingest.formats.pointer import Header, Place, attribute_name, parse_place, resolve
from ingest.formats.slices import AROUND
from ingest.formats.values import Slice, text_or_number_of
from ingest.identity import decode_data_url


class SentProduct(msgspec.Struct, frozen=True):
    """The word at `place` is a key of `map`, be it number or text; what is not in there is of the source's default."""

    place: Place
    map: Mapping[str, str]

    def product(self, word: str | None) -> str | None:
        """Return the product that the sender's word stands for; None is the default."""
        return None if word is None else self.map.get(word.strip())


def parse_product_place(text: str) -> Place:
    """Return the place that `product.from` names. Raises ValueError, which does not repeat it."""
    try:
        place = parse_place(text)
    except ValueError:
        place = None
    if place is None or (isinstance(place, Header) and attribute_name(place) is None) or not text:
        raise ValueError('expected a JSON pointer such as "/product_id" (RFC 6901), or "attribute:NAME" of a message')
    return place


def word_in(value: Slice | None) -> str | None:
    """Return what a JSON string or number says; None for anything else."""
    try:
        return text_or_number_of(value, Reason.BAD_ID)
    except Undecodable:
        return None


def word_at(tokens: tuple[str, ...], data: bytes | None) -> str | None:
    """Return the word that a pointer's tokens lead to in an event's data, where that is JSON; None where to none."""
    text = (data or b"").strip(AROUND)
    if text.startswith(b"data:") and (decoded := decode_data_url(text)) is not None:
        text = decoded[1].strip(AROUND)
    try:
        return word_in(resolve(tokens, text))
    except Undecodable:
        return None
