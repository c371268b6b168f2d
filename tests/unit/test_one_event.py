"""One event is one id and one product, whichever way it comes, and however its time and its product are spelled."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.event import Event, Origin, Record
from ingest.formats import AnyFormat, make_format
from ingest.formats.message import Message
from ingest.formats.product import SentProduct, parse_product_place
from ingest.formats.sse import Frame

RECEIVED = datetime(2026, 7, 28, 16, 53, 5, 702000, UTC)
FORM = {"content-type": "application/x-www-form-urlencoded"}
MAP = {"13961": "tracker", "7": "monitor"}
DEVICE = "e00fce682e79a004f1e69a2b"

Way = Callable[[AnyFormat, str, Any, Any, Any], Record]  # of a name, a time, a product and data


def sent(place: str, default: str = "fleet") -> AnyFormat:
    """The format of a source whose sender says the product."""
    return make_format("particle", Origin(default, "all", "any"), (), {}, SentProduct(parse_product_place(place), MAP))


def fixed(product: str) -> AnyFormat:
    """The format of a source whose product is a word."""
    return make_format("particle", Origin(product, "one", "any"), (), {})


def members(time: Any, product: Any, data: Any) -> dict[str, Any]:
    """What a sender's JSON says of the event, less its name."""
    return {"coreid": DEVICE, "published_at": time, "product_id": product, "data": data}


def by_hook(format_: AnyFormat, name: str, time: Any, product: Any, data: Any, **more: Any) -> Record:
    """By a webhook in JSON, whose template may say more than usual."""
    body = json.dumps({"event": name, **members(time, product, data), **more}).encode()
    return one(format_.decode(body, {"content-type": "application/json"}, RECEIVED))


def by_form(format_: AnyFormat, name: str, time: Any, product: Any, data: Any) -> Record:
    """By a webhook that is a form."""
    fields = {"event": name, **members(time, product, data)}
    body = urlencode({key: value if isinstance(value, str) else json.dumps(value) for key, value in fields.items()})
    return one(format_.decode(body.encode(), FORM, RECEIVED))


def by_stream(format_: AnyFormat, name: str, time: Any, product: Any, data: Any) -> Record:
    """By a frame of an organisation's stream, which has its own word for the member."""
    said = members(time, product, data)
    said["productID"] = said.pop("product_id")
    text = json.dumps(said).encode()
    return one(format_.decode_frames([Frame(name.encode(), text, text)], 1, RECEIVED))


def by_pull(format_: AnyFormat, name: str, time: Any, product: Any, data: Any) -> Record:
    """By a message."""
    return one(format_.decode_message(Message(*in_message(name, time, product, data), RECEIVED, "9"), RECEIVED))


def by_push(format_: AnyFormat, name: str, time: Any, product: Any, data: Any) -> Record:
    """By a message that Google posts."""
    value, attributes = in_message(name, time, product, data)
    message = {"data": base64.b64encode(value).decode(), "attributes": attributes, "messageId": "9"}
    body = json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}).encode()
    return one(format_.decode(body, {}, RECEIVED))


def in_message(name: str, time: Any, product: Any, data: Any) -> tuple[bytes, dict[str, str]]:
    """The value and the attributes of a message; these are texts."""
    value = data if isinstance(data, str) else json.dumps(data)
    attributes = {"event": name, "device_id": DEVICE, "published_at": time, "product_id": product}
    return value.encode(), {key: str(text) for key, text in attributes.items()}


def one(records: Any) -> Record:
    """The only record."""
    (found,) = records
    return found  # type: ignore[no-any-return]


WAYS: list[Way] = [by_hook, partial(by_hook, fw_version=91, mac="x"), by_form, by_stream, by_pull, by_push]


def spellings(millis: int, minutes: int) -> list[Any]:
    """Ways in which templates write one instant, of whole milliseconds, as texts and numbers."""
    at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=millis)
    text = f"{at:%Y-%m-%d %H:%M:%S}.{millis % 1000:03}"
    return [
        *(text.replace(" ", "T") + "Z", at.astimezone(timezone(timedelta(minutes=minutes))).isoformat()),
        *(f"{text} UTC", f"{text} GMT", f"{text} +0000 UTC", f"{text}000000Z"),
        *(millis, millis * 1000, millis * 1_000_000, f"{millis}", f"{millis // 1000}.{millis % 1000:03}"),
        *(f"{str(millis)[0]}.{str(millis)[1:]}e{len(str(millis)) - 4}", f"{millis * 1000}"),
    ]


@given(st.data(), st.integers(10**12, 4 * 10**12), st.integers(-1439, 1439), st.sampled_from(["13961", "7", "8", ""]))
def test_one_event_by_all_modes_and_spellings(data: st.DataObject, millis: int, minutes: int, number: str) -> None:
    """An organisation's stream, an owner's hook and a product's hook bring one event, whatever each calls the parts."""
    values: list[Any] = ['{"t":21.50}', '{ "t" : 21.50}']
    product = MAP.get(number, "fleet")
    seen: set[tuple[object, ...]] = set()
    for way in WAYS:
        said = int(number) if number and data.draw(st.booleans()) else number
        time = data.draw(st.sampled_from(spellings(millis, minutes)))
        format_ = data.draw(st.sampled_from([sent("/product_id"), sent("/productID"), sent("attribute:product_id")]))
        event = way(data.draw(st.sampled_from([format_, fixed(product)])), "temp", time, said, values[len(seen) % 2])
        assert isinstance(event, Event), (way, time, event)
        seen.add((event.id, event.product, event.published_at))
    assert len(seen) == 1
    assert {product for _, product, _ in seen} == {product}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("time", ["soon", "2026-07-28", "16:53:05", "1e400", "-", "2026-07-28 16:53:05 CEST"])
def test_what_is_no_time_is_a_reject_by_every_mode(way: Way, time: str) -> None:
    """No spelling is guessed at."""
    assert getattr(way(sent("/product_id"), "temp", time, "7", "1"), "reason", None) == "bad_time"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("place", "value"), [("/data/p/0", '{"p":[13961]}'), ("/p", '{"p":"13961"}'), ("/coreid", "x"), ("/a~1b", "x")]
)
def test_a_pointer_leads_to_the_same_word_by_every_mode(way: Way, place: str, value: str) -> None:
    """Into the data, be it text or JSON in the sender's; and nowhere, which is the default."""
    events = [way(sent(place), "temp", 1785257585616, None, data) for data in (value, _parsed(value))]
    expected = "tracker" if "p" in value else "fleet"
    assert [getattr(event, "product", event) for event in events] == [expected] * 2


def _parsed(value: str) -> Any:
    return json.loads(value) if value.startswith("{") else value


@pytest.mark.parametrize("said", [True, None, 13961.5, [13961], {"id": 13961}, "", "fleet", "13961x", "x" * 9000])
def test_any_other_word_is_the_default(said: object) -> None:
    """What the map does not have is no fault of the event."""
    event = by_hook(sent("/product_id"), "temp", 1785257585616, said, "1")
    assert getattr(event, "product", event) == "fleet"


def test_a_template_that_nests_is_followed() -> None:
    """The pointer leads into members that only this sender has."""
    event = by_hook(sent("/about/product"), "temp", 1785257585616, "7", "1", about={"product": 13961})
    assert getattr(event, "product", event) == "tracker"


GENERIC_WAYS: Mapping[str, Callable[[AnyFormat, bytes], Any]] = {
    "body": lambda format_, body: format_.decode(body, {}, RECEIVED),
    "frame": lambda format_, body: format_.decode_frames([Frame(b"", body, body)], 1, RECEIVED),
    "message": lambda format_, body: format_.decode_message(Message(body, {}, RECEIVED, "9"), RECEIVED),
}


@pytest.mark.parametrize("way", GENERIC_WAYS)
@pytest.mark.parametrize("said", ["13961", '"13961"', "[]", "null", '"7 "'])
def test_the_generic_format_has_products_too(way: str, said: str) -> None:
    """Number and text are one, by body, frame and message."""
    products = SentProduct(parse_product_place("/a/product"), MAP)
    format_ = make_format("generic", Origin("fleet", "all", "any"), (), {}, products)
    body = f'{{"name":"t","device":"d","time":1785257585,"a":{{"product":{said}}}}}'.encode()
    event = one(GENERIC_WAYS[way](format_, body))
    assert getattr(event, "product", None) == {"13961": "tracker", '"13961"': "tracker", '"7 "': "monitor"}.get(
        said, "fleet"
    )


def test_forms_and_attributes_of_the_generic_format_have_products() -> None:
    """A field of a form by its pointer, and a message's attribute by its exact name."""
    by_field = SentProduct(parse_product_place("/p"), MAP)
    form = make_format("generic", Origin("fleet", "all", "any"), (), {}, by_field)
    assert getattr(one(form.decode(b"name=t&p=13961", FORM, RECEIVED)), "product", None) == "tracker"

    by_attribute = SentProduct(parse_product_place("attribute:Product"), MAP)
    queue = make_format("generic", Origin("fleet", "all", "any"), (), {"name": "attribute:Name"}, by_attribute)
    found: list[Any] = [
        one(queue.decode_message(Message(b'{"v":1}', {"Name": "t", name: "7"}, RECEIVED, "9"), RECEIVED))
        for name in ("Product", "product")
    ]
    assert [(event.name, event.product) for event in found] == [("t", "monitor"), ("t", "fleet")]
