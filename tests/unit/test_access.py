"""Who may read and who may act, every rule both ways (contract §7)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from app.access import Refusal, ingest_forbids, refusal
from ingest.settings.secret import Secret


@dataclass(frozen=True, slots=True)
class Rules:
    """An `[access]` table."""

    read_tokens: tuple[Secret, ...] = ()
    admin_tokens: tuple[Secret, ...] = ()
    open: bool = False
    open_metrics: bool = False
    action_token: Secret | None = None


OPEN_LOOPBACK = Rules(action_token=Secret("made"))
GUARDED = Rules(read_tokens=(Secret("reader"), Secret("reader2")), admin_tokens=(Secret("admin"),))
READ_ONLY = Rules(read_tokens=(Secret("reader"),))
ADMIN_ONLY = Rules(admin_tokens=(Secret("admin"),))
OWN = {"host": "127.0.0.1:8000"}
API = "/api/v1/events"
REDRIVE = "/api/v1/handlers/h/redrive"
MADE = {"authorization": "Bearer made"}


@dataclass(frozen=True, slots=True)
class Case:
    """A request under some rules, and the status it is refused with (0: it passes)."""

    rules: Rules
    path: str
    expected: int
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    loopback: bool = True
    http_version: str = "1.1"


def bearer(token: str) -> dict[str, str]:
    """A request's headers with a token."""
    return OWN | {"authorization": f"Bearer {token}"}


TOKENS = [
    Case(GUARDED, API, 401),
    Case(GUARDED, API, 401, headers=bearer("wrong")),
    Case(GUARDED, API, 401, headers=bearer("")),
    Case(GUARDED, API, 401, headers=bearer("reader ex")),
    Case(GUARDED, API, 401, headers={"authorization": "Basic cmVhZGVy"}),
    Case(GUARDED, API, 401, headers={"authorization": "reader"}),
    Case(GUARDED, API, 0, headers=bearer("reader")),
    Case(GUARDED, API, 0, headers=bearer("reader2")),
    Case(GUARDED, API, 0, headers=bearer("admin")),
    Case(GUARDED, API, 0, headers={"authorization": "bearer  reader"}),
    Case(GUARDED, API, 0, method="HEAD", headers=bearer("reader")),
    Case(GUARDED, API, 0, headers=bearer("reader") | {"x-forwarded-for": "1.2.3.4", "host": "example.org"}),
    Case(GUARDED, "/api/v1/handlers/h/redrive", 401, method="POST"),
    Case(GUARDED, "/api/v1/handlers/h/redrive", 403, method="POST", headers=bearer("reader")),
    Case(GUARDED, "/api/v1/handlers/h/redrive", 0, method="POST", headers=bearer("admin")),
    Case(READ_ONLY, "/api/v1/handlers/h/redrive", 403, method="POST", headers=bearer("reader")),
    Case(ADMIN_ONLY, API, 401),
    Case(ADMIN_ONLY, API, 0, headers=bearer("admin")),
    Case(GUARDED, "/openapi.json", 401),
    Case(GUARDED, "/openapi.json", 0, headers=bearer("reader")),
    Case(GUARDED, "/metrics", 401),
    Case(GUARDED, "/metrics", 0, headers=bearer("reader")),
    Case(Rules(read_tokens=(Secret("reader"),), open_metrics=True), "/metrics", 0),
    Case(Rules(read_tokens=(Secret("reader"),), open_metrics=True), API, 401),
    Case(GUARDED, "/livez", 0),
    Case(GUARDED, "/readyz", 0),
    Case(GUARDED, "/", 0),
    Case(GUARDED, "/assets/app.js", 0),
    Case(GUARDED, "/docs", 0),
    Case(GUARDED, "/nothing/here", 0),
    Case(Rules(read_tokens=(Secret("reader"),), open=True), API, 401),
    Case(Rules(read_tokens=(Secret(""),)), API, 401, headers=bearer("")),
]

LOOPBACK = [
    Case(OPEN_LOOPBACK, API, 0, headers=OWN),
    Case(OPEN_LOOPBACK, API, 403, headers=OWN, http_version="1.0"),
    Case(OPEN_LOOPBACK, "/", 403, headers=OWN, http_version="1.0"),
    Case(OPEN_LOOPBACK, "/livez", 0, headers=OWN, http_version="1.0"),
    *(Case(OPEN_LOOPBACK, API, 0, headers={"host": host}) for host in ("localhost", "LOCALHOST:1", "[::1]:8000")),
    *(
        Case(OPEN_LOOPBACK, API, 403, headers={"host": host})
        for host in (
            *("example.org", "localhost.example.org", "127.0.0.1.example.org", "127.0.0.2", "0.0.0.0", ""),
            *("localhost:8000:1", "evil@localhost", "localhost\n", "[::2]", "::1"),
        )
    ),
    Case(OPEN_LOOPBACK, API, 403),
    *(
        Case(OPEN_LOOPBACK, API, 403, headers=OWN | {name: "1.2.3.4"})
        for name in (
            *("forwarded", "via", "x-real-ip", "x-forwarded", "x-forwarded-for", "x-forwarded-anything"),
            *("cf-ray", "cf-connecting-ip", "cdn-loop", "cloudfront-viewer-address", "x-amz-cf-id", "x-amzn-trace-id"),
            *("x-cloud-trace-context", "x-appengine-country", "x-azure-clientip", "x-arr-ssl", "x-original-host"),
            *("x-envoy-external-address", "fly-client-ip", "fastly-client-ip", "true-client-ip", "akamai-origin-hop"),
            *("x-vercel-id", "x-nf-client-connection-ip", "incap-client-ip", "tailscale-user-login", "ngrok-agent-ips"),
            *("wl-proxy-client-ip", "x-proxyuser-ip", "x-remote-addr", "x-originating-ip", "x-bluecoat-via"),
        )
    ),
    *(
        Case(OPEN_LOOPBACK, API, 0, headers=OWN | {name: "1"})
        for name in ("traceparent", "x-request-id", "accept", "user-agent", "sec-fetch-site", "priority", "cookie")
    ),
    *(
        Case(OPEN_LOOPBACK, API, 0, headers=OWN | {"origin": origin})
        for origin in ("http://127.0.0.1:8000", "http://localhost:8000", "https://[::1]:8000")
    ),
    *(
        Case(OPEN_LOOPBACK, API, 403, headers=OWN | {"origin": origin})
        for origin in (
            "http://example.org",
            "null",
            "",
            "http://localhost:3000",
            "http://localhost",
            "file://",
            "http://[",
        )
    ),
    Case(OPEN_LOOPBACK, API, 0, headers={"host": "localhost", "origin": "http://localhost"}),
    *(
        Case(OPEN_LOOPBACK, path, 403, headers={"host": "rebound.example"})
        for path in ("/", "/docs", "/openapi.json", "/assets/app.js", "/metrics", "/api/v1/sources")
    ),
    *(Case(OPEN_LOOPBACK, path, 0, headers={"host": "10.0.0.7"}) for path in ("/livez", "/readyz")),
    Case(Rules(open_metrics=True), "/metrics", 0, headers={"host": "10.0.0.7"}),
    Case(Rules(open=True), API, 0, headers={"host": "10.0.0.7"}, loopback=False),
    Case(OPEN_LOOPBACK, API, 403, headers=OWN, loopback=False),
]

ACTIONS = [
    Case(OPEN_LOOPBACK, REDRIVE, 401, method="POST", headers=OWN),
    Case(OPEN_LOOPBACK, REDRIVE, 401, method="POST", headers=bearer("wrong")),
    Case(OPEN_LOOPBACK, REDRIVE, 0, method="POST", headers=OWN | MADE),
    Case(OPEN_LOOPBACK, REDRIVE, 403, method="POST", headers=OWN | MADE, http_version="1.0"),
    Case(OPEN_LOOPBACK, REDRIVE, 403, method="POST", headers=OWN | MADE | {"x-forwarded-for": "1.2.3.4"}),
    Case(OPEN_LOOPBACK, REDRIVE, 403, method="POST", headers=OWN | MADE | {"origin": "https://example.org"}),
    *(Case(OPEN_LOOPBACK, API, 401, method=method, headers=OWN) for method in ("PUT", "DELETE", "PATCH", "OPTIONS")),
    Case(OPEN_LOOPBACK, API, 0, headers=bearer("stale")),
    Case(Rules(), REDRIVE, 401, method="POST", headers=OWN),
    Case(Rules(), REDRIVE, 401, method="POST", headers=OWN | MADE),
    Case(Rules(open=True), REDRIVE, 401, method="POST", headers={"host": "10.0.0.7"}, loopback=False),
    Case(Rules(open=True, action_token=Secret("made")), REDRIVE, 0, method="POST", headers=MADE, loopback=False),
    Case(
        Rules(read_tokens=(Secret("reader"),), action_token=Secret("made")),
        REDRIVE,
        0,
        method="POST",
        headers=OWN | MADE,
    ),
]


@pytest.mark.parametrize("case", [*TOKENS, *LOOPBACK, *ACTIONS], ids=str)
def test_a_request_gets_what_the_rules_say(case: Case) -> None:
    """Tokens decide where there are any; without them this machine's own requests may read, and none may act."""
    headers = [(name.encode(), value.encode()) for name, value in case.headers.items()]

    refused = refusal(
        case.rules,
        loopback=case.loopback,
        method=case.method,
        path=case.path,
        headers=headers,
        http_version=case.http_version,
    )

    assert (refused.status if refused else 0) == case.expected


@pytest.mark.parametrize("origins", [(b"https://example.org", b"http://localhost"), (b"http://localhost", b"null")])
def test_one_foreign_origin_of_two_is_enough(origins: tuple[bytes, bytes]) -> None:
    """A second Origin line hides none, whichever comes first."""
    headers = [(b"host", b"localhost"), *((b"origin", origin) for origin in origins)]

    refused = refusal(OPEN_LOOPBACK, loopback=True, method="GET", path=API, headers=headers)

    assert refused is not None
    assert refused.status == 403


def test_two_hosts_or_two_tokens_are_no_way_around() -> None:
    """A header sent twice, so that two readers of it could differ, is refused."""
    twice = [(b"host", b"localhost"), (b"host", b"example.org")]
    tokens = [(b"authorization", b"Bearer reader"), (b"authorization", b"Bearer wrong")]

    open_loopback = refusal(OPEN_LOOPBACK, loopback=True, method="GET", path=API, headers=twice)
    guarded = refusal(GUARDED, loopback=True, method="GET", path=API, headers=tokens)

    assert isinstance(open_loopback, Refusal)
    assert open_loopback.status == 403
    assert guarded is not None
    assert guarded.status == 401


def test_a_token_from_a_file_is_read_anew() -> None:
    """A rotated token counts at once; an emptied file shuts the door instead of opening it."""
    current = ["old"]
    rules = Rules(read_tokens=(Secret(lambda: current[0]),))

    def status(token: str) -> int:
        headers = [(b"authorization", f"Bearer {token}".encode())]
        refused = refusal(rules, loopback=True, method="GET", path=API, headers=headers)
        return refused.status if refused else 0

    assert (status("old"), status("new")) == (0, 401)
    current[0] = "new"
    assert (status("old"), status("new")) == (401, 0)
    current[0] = ""
    assert (status("new"), status("")) == (401, 401)


@pytest.mark.parametrize(
    ("headers", "forbidden"),
    [
        (OWN, False),
        ({"host": "tunnel.example.org", "x-forwarded-for": "1.2.3.4"}, False),
        (OWN | {"origin": "http://127.0.0.1:8000"}, False),
        (OWN | {"origin": "https://example.org"}, True),
        (OWN | {"origin": "null"}, True),
        (OWN | {"origin": ""}, True),
        (OWN | {"origin": "https://example.org, http://127.0.0.1:8000"}, True),
        (OWN | {"origin": "http://127.0.0.1:8000, https://example.org"}, True),
        (OWN | {"origin": "http://127.0.0.1:8000, http://localhost:8000"}, False),
        ({"host": "rebound.example:8000", "origin": "http://rebound.example:8000"}, True),
    ],
)
def test_ingest_on_loopback_takes_nothing_from_web_pages(headers: dict[str, str], *, forbidden: bool) -> None:
    """On loopback a web page's POST is refused, whether or not tokens guard the reading; a proxy's webhook is not."""
    for rules in (OPEN_LOOPBACK, GUARDED, READ_ONLY, ADMIN_ONLY, Rules()):
        assert ingest_forbids(rules, loopback=True)(headers) is forbidden
    assert ingest_forbids(GUARDED, loopback=False)(headers) is False
    assert ingest_forbids(Rules(open=True), loopback=False)(headers) is False
    assert ingest_forbids(Rules(open=True), loopback=True)(headers) is False
