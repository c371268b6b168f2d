"""An event as JSON, whatever is in it."""

from __future__ import annotations

import base64
import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ingest.event_json import event_json
from tests.support.api import EVENT

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)


def test_keys_come_in_the_documented_order() -> None:
    """Data or data_base64 stands in the same place."""
    binary = msgspec.structs.replace(EVENT, data=b"\xff")
    keys = (
        *("id", "position", "product", "device", "name", "data", "content_type"),
        *("published_at", "received_at", "source", "mode", "attributes"),
    )

    assert tuple(msgspec.to_builtins(event_json(EVENT))) == keys
    assert tuple(msgspec.to_builtins(event_json(binary))) == tuple(
        "data_base64" if key == "data" else key for key in keys
    )


@given(data=st.binary(max_size=40) | st.text(max_size=20).map(str.encode))
def test_no_byte_of_data_is_lost(data: bytes) -> None:
    """Text that is UTF-8 comes exactly as it is; what is not comes back out of base64."""
    shown = json.loads(msgspec.json.encode(event_json(msgspec.structs.replace(EVENT, data=data))))

    assert (shown["data"].encode() if "data" in shown else base64.b64decode(shown["data_base64"])) == data


@given(attributes=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=4))
def test_attributes_can_always_be_written(attributes: dict[str, str]) -> None:
    """Half of a surrogate pair becomes the replacement character instead of an error; all else is kept."""
    shown = json.loads(msgspec.json.encode(event_json(msgspec.structs.replace(EVENT, attributes=attributes))))

    if all(text.isascii() for item in attributes.items() for text in item):
        assert shown["attributes"] == attributes
    for name in shown["attributes"]:
        name.encode()


def test_half_of_a_surrogate_pair_is_replaced() -> None:
    """The rest of the text stays."""
    shown = event_json(msgspec.structs.replace(EVENT, attributes={"a\ud800": "b\udfffc", "d": "\U0001f30a"}))

    assert shown.attributes == {"a\ufffd": "b\ufffdc", "d": "\U0001f30a"}
