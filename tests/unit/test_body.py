"""How a body becomes elements: what it is told by, and that one broken element never costs its neighbours."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import TooLarge
from ingest.event import MAX_ELEMENTS, Reason
from ingest.formats.body import Broken, Document, Element, Form, document, split

FORM = "application/x-www-form-urlencoded"
BOM = b"\xef\xbb\xbf"
MULTIPART = b'--x\r\nContent-Disposition: form-data; name="event"\r\n\r\ntemp&event=a\r\n--x--\r\n'


def shape(body: bytes, content_type: str = "") -> list[bytes | Reason]:
    """The source of each element, or the reason why it is none."""
    return [
        element.reason if isinstance(element, Broken) else element.text
        for element in split(body, content_type, document)
    ]


def only(body: bytes, content_type: str = "") -> Element:
    """The single element of a body."""
    (element,) = split(body, content_type, document)
    return element


def members_of(body: bytes) -> dict[str, bytes]:
    """The members' source slices of a body that is one JSON object."""
    element = only(body)
    assert isinstance(element, Document)
    return {key: bytes(value) for key, value in element.members.items()}


@pytest.mark.parametrize("before", [b"", b" \r\n", BOM, b" " + BOM + b"\n"])
@pytest.mark.parametrize("content_type", ["", "application/x-www-form-urlencoded", "text/plain; charset=utf-8"])
def test_a_brace_makes_it_json_whatever_the_content_type_says(before: bytes, content_type: str) -> None:
    """The first byte decides, behind white space and a byte order mark."""
    assert shape(before + b'{"a":"x=1&b=2"}', content_type) == [b'{"a":"x=1&b=2"}']
    assert shape(before + b'[{"a":1}, {"b":2}]', content_type) == [b'{"a":1}', b'{"b":2}']


@pytest.mark.parametrize("end", [b"\0", b"\0\0\0", b"\r\n\0", b"\0\n"])
def test_a_nul_behind_a_body_is_white_space(end: bytes) -> None:
    """A sender in C sends one too many: of a document, an array, lines, a form."""
    assert shape(b'{"a":1}' + end) == [b'{"a":1}']
    assert shape(b'[{"a":1}]' + end) == [b'{"a":1}']
    assert shape(b'{"a":1}' + end + b"\n" + b'{"b":2}' + end) == [b'{"a":1}', b'{"b":2}']
    assert shape(b"a=1" + end, FORM) == [b"a=1"]
    assert shape(end) == [Reason.EMPTY]
    assert shape(b'{"a":\0 1}') == [Reason.MALFORMED_JSON]


def test_values_are_source_slices() -> None:
    """Nothing inside a value is changed, not even its white space."""
    source = rb'{ "a" : [1,  2.50] , "b\u0021":"\u00e9", "c":1e999, "d":' + b"9" * 5000 + b"}"
    assert members_of(source) == {"a": b"[1,  2.50]", "b!": rb'"\u00e9"', "c": b"1e999", "d": b"9" * 5000}


@pytest.mark.parametrize(
    "value",
    [
        b"NaN",
        b"[Infinity, -Infinity]",
        rb'"\ud800"',
        rb'{"a": "\udc00 x", "a": 2}',
        b'"\xff"',
        b'{"\xff": "\xed\xa0\x80"}',
        rb'{"\ud800": [1,"]}",{}]}',
        b"[1e999]",
        b"9" * 100_000,
    ],
)
def test_what_msgspec_refuses_is_still_sliced(value: bytes) -> None:
    """NaN, lone surrogates, bytes that are no UTF-8, duplicate keys and huge numbers keep their bytes."""
    assert members_of(b'{"x":"y", "data" :\n%b , "k":"\\u006b"}' % value) == {
        "x": b'"y"',
        "data": value,
        "k": rb'"\u006b"',
    }
    assert members_of(b'{"nan":NaN,"data":%b}' % value)["data"] == value


def test_of_equal_keys_the_last_counts_on_both_paths() -> None:
    """The tolerant path agrees with the quick one."""
    assert members_of(b'{"a":1,"a":2}') == {"a": b"2"}
    assert members_of(b'{"a":NaN,"a":2}') == {"a": b"2"}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[",
        b'{"a"',
        b'{"a":1',
        b'{"a":"x',
        b'{"a":"x\\',
        b'{"a":1,}',
        b'{"a":1]',
        b"{]",
        b'{"a" 1}',
        b"{a:1}",
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":nan}',
        b'{"a":1}}',
        b'{"a":1}x',
        b'{"a":1}{"b":2}',
        b'{"a":"\x01"}',
        b'{"a":"\n"}',
        b'{"a\x00":1}',
        rb'{"a":"\x41"}',
        rb'{"a":"\u12zz"}',
        b'{"a":[1,}]}',
        b'[{"a":1},]',
        b'[{"a":1}',
        b'[{"a":1},{"b":',
        b'[{"a":1}]]',
        b'[{"a":1}}',
        b"[,]",
        b'{"a":[\n{"b":1},\n{"b":2}\n]',
        b'{\n  "a": 1,\n  "b": tru\n}',
        b'{"a":1,\n"b":',
        b'{\n{\n{\n{"a',
        b"{" * 100_000,
        b"[" * 100_000,
        b'{"' * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_a_malformed_body_is_one_reject_with_all_of_it(body: bytes) -> None:
    """What cannot be split is kept whole, and a document written over several lines is never taken for NDJSON."""
    assert only(body) == Broken(body, Reason.MALFORMED_JSON)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n \r\n"])
def test_lines_of_objects_are_ndjson(end: bytes) -> None:
    """LF or CRLF, blank lines skipped, with or without an end on the last line."""
    lines = [b'{"a":1}', b'{"b":"{}"}', b'{"c":NaN}']
    assert shape(end.join(lines)) == shape(BOM + end.join(lines) + end) == lines


@pytest.mark.parametrize("body", [b'{"a":1}\n', b'{\n"a": [\n{"b":1}\n,{"b":2}]\n}\n', b'{\n"a":NaN,\n"b":\n{}\n}'])
def test_a_pretty_printed_document_is_one_element(body: bytes) -> None:
    """Also where its lines look like objects, and where msgspec refuses it."""
    assert shape(body) == [body.strip()]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b'{"a":1}', b'{"b":', b'{"c":3}'], [b'{"a":1}', Reason.TRUNCATED, b'{"c":3}']),
        ([b'{"a":"1', b'{"b":2}', b'{"c":3}'], [Reason.TRUNCATED, b'{"b":2}', b'{"c":3}']),
        ([b'{"a":1}', b'":2}', b'{"c":3}'], [b'{"a":1}', Reason.MALFORMED_JSON, b'{"c":3}']),
        ([b'{"a":1}', b'{"b":tru}'], [b'{"a":1}', Reason.MALFORMED_JSON]),
        ([b'{"a":tru}', b'{"b":1}'], [Reason.MALFORMED_JSON, b'{"b":1}']),
        ([b'{"a":1}', b"[1]", b"5", b"null"], [b'{"a":1}', *[Reason.NOT_AN_OBJECT] * 3]),
        ([b'{"a":1}', b'{"b":2}{"c":3}'], [b'{"a":1}', Reason.MALFORMED_JSON]),
        ([b'{"a":' + b"[" * 65 + b"]" * 65 + b"}", b'{"b":1}'], [Reason.TOO_DEEP, b'{"b":1}']),
        ([b'{"a":' + b"[" * 65 + b"]" * 65 + b"}", b'":1}'], [Reason.TOO_DEEP, Reason.MALFORMED_JSON]),
    ],
)
def test_half_a_line_costs_no_other_line(lines: list[bytes], expected: list[bytes | Reason]) -> None:
    """Each line stands for itself, and a broken one is kept with its own bytes."""
    assert shape(b"\n".join(lines)) == expected
    assert [element.text for element in split(b"\n".join(lines), "", document)] == lines


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], []),
        ([b"1", b'"a"', b"null", b"[]", b"NaN"], [Reason.NOT_AN_OBJECT] * 5),
        ([b'{"a":NaN}', b'{"b":"],["}', b"{}"], [b'{"a":NaN}', b'{"b":"],["}', b"{}"]),
        ([b'{"a":1}', b'{"b":tru}', b"tru", b'{"c":3}'], [b'{"a":1}', *[Reason.MALFORMED_JSON] * 2, b'{"c":3}']),
        ([b'{"a":%b%b}' % (b"[" * 5000, b"]" * 5000), b'{"b":1}'], [Reason.TOO_DEEP, b'{"b":1}']),
        ([b"[" * 5000 + b"]" * 5000, b'{"b":1}'], [Reason.NOT_AN_OBJECT, b'{"b":1}']),
    ],
)
def test_each_item_of_an_array_stands_for_itself(items: list[bytes], expected: list[bytes | Reason]) -> None:
    """What is no object, malformed or too deep costs its neighbours nothing."""
    body = b" [ " + b" ,\n".join(items) + b" ] "
    assert shape(body) == expected
    assert [element.text for element in split(body, "", document)] == items


@pytest.mark.parametrize("brackets", [b"[]", b"{}"])
def test_nesting_over_64_is_too_deep(brackets: bytes) -> None:
    """A value of 64 levels is welcome, one of 65 is not, whichever parser reads it."""
    opening = b"[" if brackets == b"[]" else b'{"a":'
    for extra in (b"1", b"NaN"):
        for levels, fits in ((64, True), (65, False), (100_000, False)):
            value = opening * (levels - 1) + brackets + brackets[1:] * (levels - 1)
            element = only(b'{"e":%b,"x":%b}' % (extra, value))
            assert isinstance(element, Document) is fits
            assert fits or element == Broken(element.text, Reason.TOO_DEEP)


def test_brackets_in_strings_do_not_nest() -> None:
    """A string may hold JSON of any depth: it is text."""
    text = json.dumps({"data": "[" * 100_000 + '"'}).encode()
    assert shape(text) == [text]


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", "", Reason.EMPTY),
        (b" \r\n", "application/json", Reason.EMPTY),
        (BOM, "", Reason.EMPTY),
        (b"21.5", "", Reason.NOT_AN_OBJECT),
        (b'"a=b"', "application/json", Reason.NOT_AN_OBJECT),
        (b"null", "application/json", Reason.NOT_AN_OBJECT),
        (b"hello", "", Reason.MALFORMED_FORM),
        (b"hello", "application/x-www-form-urlencoded", Reason.MALFORMED_FORM),
        (b"hello", "application/cloudevents+json", Reason.MALFORMED_JSON),
        (b"\xff\xfe{\0", "", Reason.MALFORMED_FORM),
        (b"a=1&b=2", "", Reason.MALFORMED_FORM),
        (b"a=1&b=2", "text/plain", Reason.MALFORMED_FORM),
        (b"a=1&b=2", "x-application/x-www-form-urlencoded", Reason.MALFORMED_FORM),
        (b'data={"a":1}', "application/json", Reason.MALFORMED_JSON),
        (MULTIPART, "multipart/form-data; boundary=x", Reason.MALFORMED_FORM),
        (MULTIPART, "", Reason.MALFORMED_FORM),
    ],
)
def test_what_is_neither_json_nor_form_is_one_reject(body: bytes, content_type: str, reason: Reason) -> None:
    """The body is kept as it came, with the reason that fits what it was meant to be."""
    assert only(body, content_type) == Broken(body, reason)


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", " Application/X-WWW-Form-URLencoded ; charset=utf-8"]
)
def test_a_form_is_known_by_its_content_type(content_type: str) -> None:
    """Percent escapes and plus signs are undone, in whichever bytes; of equal names the last counts."""
    element = only(b"a=1%2B1+%ff&b%20=&&c&a=x=y&d=100%\n", content_type)
    assert isinstance(element, Form)
    assert element.fields == {b"a": b"x=y", b"b ": b"", b"c": b"", b"d": b"100%"}
    assert isinstance(form := only(b"a=1%2B1+%ff", content_type), Form)
    assert form.fields == {b"a": b"1+1 \xff"}


@pytest.mark.parametrize(
    ("start", "item", "between", "end"),
    [(b"[", b'{"a":1}', b",", b"]"), (b"", b'{"a":1}', b"\n", b""), (b"[", b"NaN", b",", b"]")],
)
def test_more_elements_than_allowed_are_too_large(start: bytes, item: bytes, between: bytes, end: bytes) -> None:
    """10,000 elements are taken, one more is 413."""
    assert len(split(start + between.join([item] * MAX_ELEMENTS) + end, "", document)) == MAX_ELEMENTS
    with pytest.raises(TooLarge):
        split(start + between.join([item] * (MAX_ELEMENTS + 1)) + end, "", document)


@given(st.binary() | st.text('{}[]",:\\ \n1=&%a', max_size=40).map(str.encode), st.sampled_from(["", FORM]))
def test_no_body_makes_it_raise(body: bytes, content_type: str) -> None:
    """Whatever comes is elements or rejects: at least one, but for an empty array."""
    elements = split(body, content_type, document)
    assert elements or body.strip().removeprefix(BOM).strip()[:1] == b"["
