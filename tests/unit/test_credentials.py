"""Who is let in by each auth type, and that nothing sent without the secret is ever let in or makes it raise."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from ingest.sources.webhook.credentials import (
    MAX_CREDENTIAL_CHARACTERS,
    Anyone,
    Basic,
    Bearer,
    Credentials,
    Header,
    Query,
    Secrets,
)
from ingest.sources.webhook.signatures import Hmac, StandardWebhooks, Stripe, github, webhook_key

OLD, NEW, WRONG = "old-s3cret/with+signs=", "neuer schlüssel", "guess"
NOW = 1_731_705_121.0
BODY = b'{"event":"temperature","data":"21.5"}'


class Vector(NamedTuple):
    secret: str
    message_id: str
    timestamp: int
    body: bytes
    signature: str


PUBLISHED = [
    Vector(
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1_614_265_330,
        body=b'{"test": 2432232314}',
        signature="v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
    Vector(
        secret="whsec_plJ3nmyCDGBKInavdOK15jsl",
        message_id="msg_loFOjxBNrRLzqYUf",
        timestamp=1_731_705_121,
        body=b'{"event_type":"ping","data":{"success":true}}',
        signature="v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
    ),
]


def held(*secrets: str) -> Secrets:
    return lambda: secrets


def clock() -> float:
    return NOW


def sign(secret: str | bytes, message: bytes) -> bytes:
    return hmac.new(secret.encode() if isinstance(secret, str) else secret, message, hashlib.sha256).digest()


def wire(text: str) -> str:
    """A header value as it arrives: UTF-8 on the wire, decoded as latin-1."""
    return text.encode().decode("latin-1")


def basic(user_and_password: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(user_and_password.encode()).decode()}


def stripe(secret: str, body: bytes = BODY, at: float = NOW) -> str:
    return f"t={at:.0f},v1={sign(secret, b'%d.%b' % (int(at), body)).hex()}"


def standard(secret: str, body: bytes = BODY, at: float = NOW, brand: str = "webhook") -> dict[str, str]:
    """Headers as the specification's own library signs them."""
    signature = Webhook(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode())
    return {f"{brand}-id": "msg_1", f"{brand}-timestamp": f"{at:.0f}", f"{brand}-signature": signature}


def test_none_lets_everybody_in() -> None:
    """Without credentials configured a bare request is admitted."""
    assert Anyone().admits({}, b"", b"")


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_every_secret_of_a_rotation_is_good_for_every_token_type(secret: str) -> None:
    """While two secrets are configured, senders of either are admitted, whatever characters it has."""
    both, text = held(OLD, NEW), wire(secret)
    assert Header("X-Particle-Key", both).admits({"x-particle-key": text}, b"", BODY)
    assert Bearer(both).admits({"authorization": f"Bearer {text}"}, b"", BODY)
    assert Query("key", both).admits({}, b"a=1&key=" + quote(secret, safe="").encode(), BODY)
    assert Basic(held(f"u:{OLD}", f"u:{NEW}")).admits(basic(f"u:{secret}"), b"", BODY)


@pytest.mark.parametrize("value", ["", WRONG, OLD[:-1], OLD + "x", OLD.upper(), f"{OLD}, {OLD}", wire(NEW) * 2])
def test_a_wrong_token_is_refused_by_every_token_type(value: str) -> None:
    """Empty, wrong, shortened, lengthened or repeated tokens are not admitted."""
    both = held(OLD, NEW)
    assert not Header("X-Particle-Key", both).admits({"x-particle-key": value}, b"", BODY)
    assert not Bearer(both).admits({"authorization": f"Bearer {value}"}, b"", BODY)
    assert not Query("key", both).admits({}, urlencode({"key": value}, encoding="latin-1").encode(), BODY)
    assert not Basic(held(f"u:{OLD}")).admits(basic(f"u:{value}"), b"", BODY)


def test_a_request_without_the_token_is_refused_even_where_a_secret_is_empty() -> None:
    """A secret that was left empty lets nobody in, neither with an empty token nor without one."""
    for secrets in (held(""), held()):
        for headers in ({}, {"x-key": "", "authorization": "Bearer "}, {"authorization": "Basic "}):
            assert not Header("x-key", secrets).admits(headers, b"", b"")
            assert not Bearer(secrets).admits(headers, b"", b"")
            assert not Basic(secrets).admits(headers, b"", b"")
        assert not Query("key", secrets).admits({}, b"key=", b"")
        assert not Query("key", secrets).admits({}, b"", b"")


def test_an_empty_secret_signs_nothing() -> None:
    """A signature made with the empty key is refused where a secret was left empty, or decodes to nothing."""
    forged = sign(b"", BODY)
    assert not github(held("")).admits({"x-hub-signature-256": f"sha256={forged.hex()}"}, b"", BODY)
    assert not Stripe(held(""), clock).admits({"stripe-signature": stripe("")}, b"", BODY)
    signature = b64encode(sign(b"", b"m.%d.%b" % (NOW, BODY))).decode()
    headers = {"webhook-id": "m", "webhook-timestamp": f"{NOW:.0f}", "webhook-signature": f"v1,{signature}"}
    for secret in ("", "whsec_", "whsec_not base64!", "whsec_ü"):
        assert not StandardWebhooks(held(secret), clock).admits(headers, b"", BODY)


def test_the_scheme_may_be_in_any_case_but_must_be_the_right_one() -> None:
    """`bearer` equals `Bearer` (RFC 9110), and a token under another scheme is no bearer token."""
    assert Bearer(held(OLD)).admits({"authorization": f"bearer  {OLD}"}, b"", b"")
    assert not Bearer(held(OLD)).admits({"authorization": f"Token {OLD}"}, b"", b"")
    assert not Bearer(held(OLD)).admits({"authorization": OLD}, b"", b"")
    assert not Basic(held("u:p")).admits({"authorization": "Bearer " + b64encode(b"u:p").decode()}, b"", b"")
    assert not Basic(held("u:p")).admits({"authorization": "Basic u:p"}, b"", b"")


@pytest.mark.parametrize("query", [b"key=a+b/c=", b"key=a%2Bb%2Fc%3D", b"x=&k%65y=a%2bb/c=&y"])
def test_a_base64_secret_is_found_however_the_query_escapes_it(query: bytes) -> None:
    """A plus pasted into a URL and one that a form escaped are both the secret's plus."""
    assert Query("key", held("a+b/c=")).admits({}, query, b"")


def test_a_query_secret_with_a_space_may_come_as_plus() -> None:
    """Form encoding writes a space as plus."""
    assert Query("key", held("two words")).admits({}, b"key=two+words", b"")


@pytest.mark.parametrize("query", [b"key=s&key=s", b"key=x&key=s", b"Key=s", b"xkey=s", b"s", b"key", b"other=s"])
def test_an_ambiguous_or_misnamed_parameter_is_refused(query: bytes) -> None:
    """The parameter must be there once, by its exact name."""
    assert not Query("key", held("s")).admits({}, query, b"")


def test_github_example_is_admitted() -> None:
    """The values that GitHub publishes under "Validating webhook deliveries" are authentic."""
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    credentials = github(held("It's a Secret to Everybody"))
    assert credentials.admits({"x-hub-signature-256": f"sha256={digest}"}, b"", b"Hello, World!")
    assert not credentials.admits({"x-hub-signature-256": f"sha256={digest}"}, b"", b"Hello, World?")
    assert not credentials.admits({"x-hub-signature-256": digest}, b"", b"Hello, World!")
    assert not credentials.admits({"x-hub-signature-256": f"sha512={digest}"}, b"", b"Hello, World!")
    assert not credentials.admits({"x-hub-signature": f"sha256={digest}"}, b"", b"Hello, World!")


@pytest.mark.parametrize("brand", ["webhook", "svix"])
@pytest.mark.parametrize("vector", PUBLISHED, ids=["libraries", "manual"])
def test_published_standard_webhooks_vectors_are_admitted(vector: Vector, brand: str) -> None:
    """The vectors of the Standard Webhooks libraries and of Svix's manual are authentic under both header names."""
    credentials = StandardWebhooks(held(vector.secret), lambda: vector.timestamp + 1.5)
    headers = {
        f"{brand}-id": vector.message_id,
        f"{brand}-timestamp": str(vector.timestamp),
        f"{brand}-signature": vector.signature,
    }
    assert credentials.admits(headers, b"", vector.body)
    assert not credentials.admits(headers, b"", vector.body + b" ")
    assert not credentials.admits({**headers, f"{brand}-id": vector.message_id + "x"}, b"", vector.body)
    assert not credentials.admits({**headers, f"{brand}-timestamp": str(vector.timestamp + 1)}, b"", vector.body)
    for name in headers:
        assert not credentials.admits({key: value for key, value in headers.items() if key != name}, b"", vector.body)


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_hmac_takes_every_secret_prefix_and_encoding(secret: str) -> None:
    """Hex in either case or base64, with or without a prefix, made with any current secret, is admitted."""
    both, signature = held(OLD, NEW), sign(secret, BODY)
    plain, prefixed = Hmac("X-Signature", "", "hex", both), Hmac("X-Signature", "sig ", "base64", both)
    assert plain.admits({"x-signature": signature.hex()}, b"", BODY)
    assert plain.admits({"x-signature": signature.hex().upper()}, b"", BODY)
    assert prefixed.admits({"x-signature": "sig " + b64encode(signature).decode()}, b"", BODY)
    assert not prefixed.admits({"x-signature": "sig " + signature.hex()}, b"", BODY)
    assert not plain.admits({"x-signature": sign(WRONG, BODY).hex()}, b"", BODY)
    assert not plain.admits({"x-signature": signature.hex()[:-2]}, b"", BODY)
    assert not plain.admits({}, b"", BODY)


@pytest.mark.parametrize("prefix", ["", "sha256="])
@pytest.mark.parametrize(
    "written",
    ["{p} {good}", "{p}{good} ", "{p}{bad}, {p}{good}", "{p}{good},{p}{bad}", "{p}{bad} {p} {good}", "x;{p}{good}"],
)
def test_signatures_come_with_spaces_and_in_lists(prefix: str, written: str) -> None:
    """White space behind the prefix, and others beside the valid one, do no harm; without it nobody is let in."""
    hmac_, good, bad = Hmac("X-S", prefix, "hex", held(NEW)), sign(NEW, BODY).hex(), sign(WRONG, BODY).hex()
    assert hmac_.admits({"x-s": written.format(p=prefix, good=good, bad=bad)}, b"", BODY)
    assert not hmac_.admits({"x-s": written.format(p=prefix, good=bad, bad=bad)}, b"", BODY)
    assert not hmac_.admits({"x-s": written.format(p=prefix, good=good[:-2], bad=bad)}, b"", BODY)


def test_a_prefix_that_is_configured_must_be_there() -> None:
    """Another algorithm's name is not ours."""
    for written in (sign(OLD, BODY).hex(), "sha1=" + sign(OLD, BODY).hex(), "xsha256=" + sign(OLD, BODY).hex()):
        assert not github(held(OLD)).admits({"x-hub-signature-256": written}, b"", BODY)


def test_repeated_headers_of_signatures_are_a_list() -> None:
    """The server joins them by commas; white space in their parts is none of them."""
    secret = "whsec_c2VjcmV0"
    headers = standard(secret)
    headers["webhook-signature"] = f"v1,{'A' * 43}=, {headers['webhook-signature'].replace(',', ', ')}"
    assert StandardWebhooks(held(secret), clock).admits(headers, b"", BODY)
    assert Stripe(held(OLD), clock).admits({"stripe-signature": stripe(OLD).replace("=", " = ")}, b"", BODY)


def test_white_space_around_a_header_is_none_of_it() -> None:
    """A secret is let in with it, and without."""
    for secret in (OLD, f"{OLD} "):
        assert Header("X-Key", held(secret)).admits({"x-key": secret + " "}, b"", b"") is (secret == OLD)
        assert Header("X-Key", held(secret)).admits({"x-key": secret}, b"", b"")
    assert Bearer(held(OLD)).admits({"authorization": f" Bearer  {OLD} \t"}, b"", b"")


def test_signed_bodies_may_be_any_bytes() -> None:
    """A compressed or binary body is signed like any other."""
    body = b"\x1f\x8b\x00\xff\xfe"
    assert Hmac("x", "", "hex", held(OLD)).admits({"x": sign(OLD, body).hex()}, b"", body)
    signature = b64encode(sign(webhook_key("whsec_c2VjcmV0"), b"m.%d.%b" % (NOW, body))).decode()
    headers = {"webhook-id": "m", "webhook-timestamp": f"{NOW:.0f}", "webhook-signature": f"v1,{signature}"}
    assert StandardWebhooks(held("whsec_c2VjcmV0"), clock).admits(headers, b"", body)


def test_one_good_signature_among_others_is_enough() -> None:
    """Senders that rotate sign several times; malformed and foreign versions beside the good one do no harm."""
    good = stripe(NEW)
    both = Stripe(held(OLD, NEW), clock)
    assert both.admits({"stripe-signature": good.replace(",v1=", f",v0=ff,v1=zz,v1={'0' * 64}, v1=")}, b"", BODY)
    secret = "whsec_bmV3LXNlY3JldC0xMjM0NTY3OA=="
    headers = standard(secret)
    headers["webhook-signature"] = f"v1a,AAAA v1,%% junk v1 v1,{'A' * 43}= " + headers["webhook-signature"]
    assert StandardWebhooks(held("whsec_b2xk", secret), clock).admits(headers, b"", BODY)
    assert not StandardWebhooks(held("whsec_b2xk"), clock).admits(headers, b"", BODY)


def test_only_the_v1_scheme_counts() -> None:
    """A right digest under another version's name is refused, lest a sender be talked down to a weaker scheme."""
    assert not Stripe(held(OLD), clock).admits({"stripe-signature": stripe(OLD).replace("v1=", "v0=")}, b"", BODY)
    headers = standard("whsec_c2VjcmV0")
    headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v2,")
    assert not StandardWebhooks(held("whsec_c2VjcmV0"), clock).admits(headers, b"", BODY)


@pytest.mark.parametrize(("offset", "admitted"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_a_timestamp_is_good_for_five_minutes(offset: int, admitted: bool) -> None:
    """Well signed but stale, or from the future, is refused: a recorded request cannot be replayed for long."""
    at = NOW + offset
    assert Stripe(held(OLD), clock).admits({"stripe-signature": stripe(OLD, at=at)}, b"", BODY) is admitted
    credentials = StandardWebhooks(held("whsec_c2VjcmV0"), clock)
    assert credentials.admits(standard("whsec_c2VjcmV0", at=at), b"", BODY) is admitted


@pytest.mark.parametrize("timestamp", ["", "now", "1731705121.0", "-1", " 1731705121", "١٧٣١٧٠٥١٢١", "1" * 5000, "1e9"])
def test_a_timestamp_that_is_no_number_of_seconds_is_refused(timestamp: str) -> None:
    """Whatever the signature says, the time must be plain digits."""
    digest = sign(OLD, timestamp.encode() + b"." + BODY).hex()
    assert not Stripe(held(OLD), clock).admits({"stripe-signature": f"t={timestamp},v1={digest}"}, b"", BODY)
    signature = "v1," + b64encode(sign(b"secret", f"m.{timestamp}.".encode() + BODY)).decode()
    headers = {"webhook-id": "m", "webhook-timestamp": timestamp, "webhook-signature": signature}
    assert not StandardWebhooks(held("whsec_c2VjcmV0"), clock).admits(headers, b"", BODY)


def test_a_signed_message_cannot_be_cut_anew() -> None:
    """Moving bytes between id, time and body leaves the digest right, but is refused."""
    signature = "v1," + b64encode(sign(b"secret", b"m.1.%d.x" % NOW)).decode()
    headers = {"webhook-id": "m.1", "webhook-timestamp": f"{NOW:.0f}", "webhook-signature": signature}
    assert not StandardWebhooks(held("whsec_c2VjcmV0"), clock).admits(headers, b"", b"x")


@pytest.mark.parametrize("message_id", ["", "ä", "☃", "\ud800"])
def test_an_id_that_is_empty_or_not_ascii_is_refused(message_id: str) -> None:
    """The id is required, and what bytes another one was on the sender's side is a guess: refused, quietly."""
    signature = "v1," + b64encode(sign(b"secret", message_id.encode("utf-8", "replace") + b".%d.x" % NOW)).decode()
    headers = {"webhook-id": message_id, "webhook-timestamp": f"{NOW:.0f}", "webhook-signature": signature}
    assert not StandardWebhooks(held("whsec_c2VjcmV0"), clock).admits(headers, b"", b"x")


def test_two_times_in_one_stripe_header_are_refused() -> None:
    """Which of the two was signed would be a guess."""
    doubled = f"t={NOW:.0f}," + stripe(OLD)
    assert not Stripe(held(OLD), clock).admits({"stripe-signature": doubled}, b"", BODY)


def test_webhook_headers_are_not_mixed_with_svix_ones() -> None:
    """The three headers count only as one set."""
    headers = standard("whsec_c2VjcmV0") | {"webhook-id": ""} | {"svix-id": "msg_1"}
    assert not StandardWebhooks(held("whsec_c2VjcmV0"), clock).admits(headers, b"", BODY)


def test_a_webhook_key_is_base64_with_or_without_prefix_and_padding() -> None:
    """The forms in which providers show their secrets give one key; what is not base64 gives none."""
    for secret in ("whsec_c2VjcmV0MQ==", "whsec_c2VjcmV0MQ", "c2VjcmV0MQ==", "whsec_c2VjcmV0MQ==\n"):
        assert webhook_key(secret) == b"secret1"
    assert webhook_key("whsec_") == webhook_key("whsec_pass word") == webhook_key("whsec_é") == b""


SECRET = "whsec_dGhlLXNlY3JldC1vZi10aGUtZnV6ei10ZXN0"


def every_type(secrets: Secrets) -> list[Credentials]:
    return [
        Header("X-Key", secrets),
        Query("key", secrets),
        Bearer(secrets),
        Basic(secrets),
        Hmac("X-Signature", "", "hex", secrets),
        Hmac("X-Signature", "sha256=", "base64", secrets),
        github(secrets),
        Stripe(secrets, clock),
        StandardWebhooks(secrets, clock),
    ]


NAMES = ["x-key", "authorization", "x-signature", "x-hub-signature-256", "stripe-signature"] + [
    f"{brand}-{part}" for brand in ("webhook", "svix") for part in ("id", "timestamp", "signature")
]
STARTS = ["", "Bearer ", "Basic ", "sha256=", f"t={NOW:.0f},v1=", "v1,", f"{NOW:.0f}", "t=", "v1, v1,\u00e4 "]
DIGESTS = st.binary(min_size=32, max_size=32).flatmap(
    lambda digest: st.sampled_from([digest.hex(), b64encode(digest).decode()])
)
ON_THE_WIRE = st.binary(max_size=40).map(lambda value: value.decode("latin-1"))
TEXTS = ON_THE_WIRE | DIGESTS | st.sampled_from(["", "\ud800", "☃", "\x00", "9" * 5000])
VALUES = st.builds(lambda start, rest: start + rest, st.sampled_from(STARTS), TEXTS)
QUERIES = st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"key=" + rest)


@given(headers=st.dictionaries(st.sampled_from(NAMES), VALUES), query=QUERIES, body=st.binary(max_size=60))
def test_nothing_sent_without_the_secret_is_admitted_or_raises(
    headers: dict[str, str], query: bytes, body: bytes
) -> None:
    """Any headers, query and body are refused quietly, also where further secrets are malformed."""
    for credentials in every_type(held(SECRET, "", "whsec_%", "\udcff")):
        assert not credentials.admits(headers, query, body)


@given(body=st.binary(max_size=60), other=st.binary(max_size=60))
def test_a_signature_is_good_for_its_own_body_only(body: bytes, other: bytes) -> None:
    """Every signing type admits what was signed and refuses the same signature over any other body."""
    seconds = b"%d" % NOW
    signature = b64encode(sign(webhook_key(SECRET), b"m." + seconds + b"." + body)).decode()
    headers = {
        "x-hub-signature-256": "sha256=" + sign(SECRET, body).hex(),
        "stripe-signature": stripe(SECRET, body),
        "webhook-id": "m",
        "webhook-timestamp": seconds.decode(),
        "webhook-signature": "v1," + signature,
    }
    for credentials in (github(held(SECRET)), Stripe(held(SECRET), clock), StandardWebhooks(held(SECRET), clock)):
        assert credentials.admits(headers, b"", body)
        assert credentials.admits(headers, b"", other) is (other == body)


def test_absurdly_long_credentials_are_refused() -> None:
    """Past the bound nothing is looked at, so that a stranger cannot buy work with a long header."""
    long = "s" * (MAX_CREDENTIAL_CHARACTERS + 1)
    headers = dict.fromkeys(NAMES, "Bearer " + long) | {"x-key": long}
    for credentials in every_type(held(long)):
        assert not credentials.admits(headers, b"key=" + long.encode(), b"")


def test_secrets_are_asked_for_at_every_request() -> None:
    """A secret that is replaced while the server runs counts from the next request on, the old one no more."""
    current = [OLD]
    credentials = Header("X-Key", lambda: current)
    assert credentials.admits({"x-key": OLD}, b"", b"")
    current[:] = ["next"]
    assert credentials.admits({"x-key": "next"}, b"", b"")
    assert not credentials.admits({"x-key": OLD}, b"", b"")


def test_no_repr_shows_a_secret() -> None:
    """What is printed of credentials names the type and the header, never a secret or where it is kept."""

    class Shown:
        def __call__(self) -> list[str]:
            return [SECRET]

        def __repr__(self) -> str:
            return SECRET

    for credentials in every_type(Shown()):
        assert SECRET not in repr(credentials)
    assert "X-Key" in repr(Header("X-Key", Shown()))
