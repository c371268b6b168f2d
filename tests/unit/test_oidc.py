"""Whose tokens are let in: those that Google signed for this audience and account, while they are valid."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sources.webhook.credentials import MAX_CREDENTIAL_CHARACTERS
from ingest.sources.webhook.oidc import GoogleOidc
from tests.support.google_keys import AUDIENCE, EMAIL, certificates, jwt, signing_key

OURS, OTHERS = signing_key("ours"), signing_key("others")
FORGER = signing_key("forger")
NOW = int(time.time())


class Known:
    """oidc.Keys that change only when a test changes them."""

    def __init__(self, keys: dict[str, str] | None, looks_again: bool = False) -> None:
        self.keys = keys
        self.looks_again = looks_again
        self.missed = 0

    def current(self) -> Mapping[str, str] | None:
        """See Keys."""
        return self.keys

    def look_for(self, key_id: str) -> bool:
        """See Keys."""
        self.missed += 1
        return self.looks_again


def credentials(keys: Known | None = None) -> GoogleOidc:
    """What a webhook for our audience and account asks for."""
    return GoogleOidc(AUDIENCE, EMAIL, keys or Known(certificates("ours", "others")), time.time)


def admits(token: str, keys: Known | None = None) -> bool | None:
    """Whether a request with this token is let in."""
    return credentials(keys).admits({"authorization": f"Bearer {token}"}, b"", b"{}")


@pytest.mark.parametrize("issuer", ["https://accounts.google.com", "accounts.google.com"])
def test_googles_token_is_let_in(issuer: str) -> None:
    """Signed by any of the present keys, with either writing of the issuer, in any case of the scheme."""
    for key in (OURS, OTHERS):
        assert admits(key.token(iss=issuer)) is True
    assert credentials().admits({"authorization": f"bearer  {OURS.token()} "}, b"", b"") is True


WRONG_CLAIMS = [
    {"aud": None},
    {"aud": AUDIENCE + "/"},
    {"aud": AUDIENCE.upper()},
    {"aud": [AUDIENCE]},
    {"aud": ""},
    {"email": None},
    {"email": "somebody@project.iam.gserviceaccount.com"},
    {"email": [EMAIL]},
    {"email": EMAIL + "\n"},
    {"email_verified": None},
    {"email_verified": False},
    {"email_verified": "true"},
    {"email_verified": 1},
    {"iss": None},
    {"iss": "https://accounts.example.com"},
    {"iss": "https://accounts.google.com/"},
    {"iss": ["accounts.google.com"]},
    {"exp": NOW - 60},
    {"exp": None},
    {"exp": "never"},
    {"exp": {}},
    {"iat": NOW + 3600},
    {"iat": None},
    {"iat": "now"},
]


@pytest.mark.parametrize("claims", WRONG_CLAIMS, ids=lambda claims: next(iter(claims)))
def test_a_token_with_another_claim_is_refused(claims: Mapping[str, object]) -> None:
    """Google signs tokens for everybody: audience, account, its being verified, issuer and times must all be right."""
    assert admits(OURS.token(**claims)) is False


def test_clocks_may_differ_a_little() -> None:
    """Five seconds early or late are let in."""
    assert admits(OURS.token(iat=int(time.time()) + 5)) is True
    assert admits(OURS.token(exp=int(time.time()) - 5)) is True


def test_a_token_of_another_key_is_refused() -> None:
    """Its owner may call the key as Google does, or not at all."""
    assert admits(FORGER.token({"kid": "ours"})) is False
    assert admits(FORGER.token({"kid": "others"})) is False
    assert admits(OURS.token({"kid": "others"})) is False
    for key_id in (None, "", 5, ["ours"], {"ours": 1}):
        assert admits(FORGER.token({"kid": key_id})) is False


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, "RS512", "ES256", "PS256", ["RS256"], {}])
def test_other_algorithms_are_refused(alg: object) -> None:
    """RS256 and nothing else, least of all no signature (RFC 8725 §3.1)."""
    header, claims = {"alg": alg, "kid": "ours"}, {"aud": AUDIENCE, "email": EMAIL, "exp": NOW + 3600, "iat": NOW}
    said = {**claims, "email_verified": True, "iss": "accounts.google.com"}
    assert admits(jwt(header, said, lambda message: b"")) is False
    assert admits(jwt(header, said, OURS.sign)) is False
    assert admits(jwt(header, said, OURS.sign), Known(None)) is False
    assert admits(jwt({**header, "alg": "RS256"}, said, lambda message: b"")) is False
    assert admits(jwt({**header, "alg": "RS256"}, said, OURS.sign)) is True


@pytest.mark.parametrize("alg", ["HS256", "RS256"])
def test_the_public_certificate_is_no_secret(alg: str) -> None:
    """An HMAC with the certificate, which everybody has, as its key is no signature (RFC 8725 §2.1)."""
    said = {"aud": AUDIENCE, "email": EMAIL, "exp": NOW + 3600, "iat": NOW, "email_verified": True}
    said["iss"] = "accounts.google.com"
    key = OURS.certificate.encode()
    assert admits(jwt({"alg": alg, "kid": "ours"}, said, lambda message: hmac.digest(key, message, "sha256"))) is False


@pytest.mark.parametrize("known", [Known(None), Known(certificates("ours"))], ids=["no keys yet", "keys"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {OURS.token()}"},
        {"authorization": OURS.token()},
        {"authorization": "Bearer a.b.c"},
        {"authorization": "Bearer ..", "x-goog-iap-jwt-assertion": OURS.token()},
        {"authorization": "Bearer " + OURS.token().rpartition(".")[0]},
        {"authorization": "Bearer " + OURS.token() + ".x"},
        {"authorization": "Bearer " + "e30." * 2000},
        {"authorization": "Bearer ü.ÿ.\x80"},
        {"authorization": f"Bearer {OURS.token(x='y' * MAX_CREDENTIAL_CHARACTERS)}"},
    ],
    ids=range(13),
)
def test_no_token_is_refused(headers: dict[str, str], known: Known) -> None:
    """What is no token at all is the sender's fault, whether keys are there or not."""
    assert credentials(known).admits(headers, f"access_token={OURS.token()}".encode(), b"") is False


def test_before_the_first_keys_nobody_is_at_fault() -> None:
    """A token cannot be told from a forged one: neither is let in, neither is refused; then they are there."""
    known = Known(None)
    subject = credentials(known)
    for token in (OURS.token(), FORGER.token()):
        assert subject.admits({"authorization": f"Bearer {token}"}, b"", b"") is None
    known.keys = certificates("ours")
    assert subject.admits({"authorization": f"Bearer {OURS.token()}"}, b"", b"") is True


@pytest.mark.parametrize(("looks_again", "verdict"), [(True, None), (False, False)])
def test_a_key_that_is_not_known_is_looked_for(looks_again: bool, verdict: bool | None) -> None:
    """While it may be a new one the sender is not at fault; once the keys are fresh it is."""
    known = Known(certificates("ours"), looks_again)
    assert admits(OTHERS.token(), known) is verdict
    assert known.missed == 1
    assert admits(OURS.token(), known) is True
    assert known.missed == 1


def test_a_token_is_remembered_as_long_as_it_is_valid() -> None:
    """Google sends one token with many messages: it is verified once, and again when its time is over."""
    known, now = Known(certificates("ours")), [float(NOW)]
    subject = GoogleOidc(AUDIENCE, EMAIL, known, lambda: now[0])
    headers = {"authorization": f"Bearer {OURS.token(exp=NOW + 3600)}"}
    assert subject.admits(headers, b"", b"") is True
    assert known.keys is not None
    del known.keys["ours"]  # in place: nobody fetched
    assert subject.admits(headers, b"", b"") is True
    now[0] = NOW + 3611.0
    assert subject.admits(headers, b"", b"") is False


def test_a_key_that_is_withdrawn_ends_its_tokens() -> None:
    """What was remembered under the keys of before counts no more under new ones."""
    known = Known(certificates("ours", "others"))
    subject = credentials(known)
    headers = {"authorization": f"Bearer {OURS.token()}"}
    assert subject.admits(headers, b"", b"") is True
    known.keys = certificates("others")
    assert subject.admits(headers, b"", b"") is False
    known.keys = None
    assert subject.admits(headers, b"", b"") is None


def test_many_tokens_are_let_in() -> None:
    """More than are remembered, each as often as it comes."""
    subject = credentials()
    tokens = [OURS.token(sub=str(number)) for number in range(100)]
    assert all(subject.admits({"authorization": f"Bearer {token}"}, b"", b"") is True for token in tokens * 2)


TOKEN = OURS.token()


@given(st.lists(st.tuples(st.integers(0, TOKEN.rindex(".")), st.integers(0, 3), st.text(max_size=3)), min_size=1))
def test_a_changed_token_is_never_let_in(edits: list[tuple[int, int, str]]) -> None:
    """Whatever is cut out of what was signed, or put in: it is refused, and nothing raises."""
    token = TOKEN
    for at, cut, put in edits:
        token = token[:at] + put + token[at + cut :]
    if token != TOKEN:
        assert not admits(token)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(["aud", "email", "email_verified", "iss", "exp", "iat"]), JSON)
def test_no_claim_makes_it_raise(name: str, value: object) -> None:
    """A signed token may say anything: there is a verdict."""
    assert admits(OURS.token(**{name: value})) is not None


@given(JSON, JSON, JSON)
def test_no_header_makes_it_raise(alg: object, key_id: object, claims: object) -> None:
    """A token that nobody signed may say anything: it is refused."""
    assert not admits(jwt({"alg": alg, "kid": key_id}, {"aud": claims}, lambda message: b"x"))


def test_nothing_shows_a_token() -> None:
    """The repr of what remembers tokens holds none of them."""
    subject = credentials()
    assert subject.admits({"authorization": f"Bearer {TOKEN}"}, b"", b"") is True
    assert TOKEN not in repr(subject)
