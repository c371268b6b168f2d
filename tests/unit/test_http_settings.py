"""The table of an `http` handler: what is a fault in it, and what is never shown of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.handlers.http.settings import HttpSettings
from app.settings import Settings, describe, load
from ingest.errors import ConfigurationError
from tests.support.tls import make_certificate

HTTP = '[handlers.h]\ntype = "http"\nurl = "https://example.org/alerts"\n'
KEY = "handlers.h"


def loaded(folder: Path, text: str, **environ: str) -> Settings:
    """The settings that `text` as headrace.toml gives."""
    file = folder / "headrace.toml"
    file.write_text(text)
    return load(file, environ)


def built(folder: Path, text: str) -> None:
    """Build the handler, as `headrace check` does."""
    settings = loaded(folder, text)
    settings.handlers["h"].build("h", settings.folder)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[handlers.h]\ntype = "http"', f'{KEY}.url: required with type = "http"'),
        (HTTP.replace("https:", "ftp:"), f"{KEY}.url: expected a URL that begins with https:// or http://"),
        (HTTP.replace("example", "u:p@example"), f"{KEY}.url: expected a URL that begins with https:// or http://"),
        (HTTP.replace("example.org", "example.org:99999"), f"{KEY}.url: expected a URL that begins"),
        (HTTP.replace("example.org", ""), f"{KEY}.url: expected a URL that begins"),
        (HTTP + 'format = "xml"', f"{KEY}.format: expected 'cloudevents', 'cloudevents-binary' or 'plain'"),
        (
            HTTP + 'format = "cloudevents-binary"\nbatch.events = 2',
            f"{KEY}.format: expected one of cloudevents, plain with batch.events above 1",
        ),
        (HTTP + 'secrets = ["whsec_?"]', f'{KEY}.secrets: expected a key in base64, after "whsec_" or alone'),
        (HTTP + 'secrets = [""]', f"{KEY}.secrets[0]: expected a secret that is not empty"),
        (HTTP + 'headers = { webhook-Id = "x" }', f"{KEY}.headers.webhook-Id: expected another header"),
        (HTTP + 'headers = { User-Agent = "x" }', f"{KEY}.headers.User-Agent: expected another header"),
        (HTTP + 'headers = { Content-Type = "x" }', f"{KEY}.headers.Content-Type: expected another header"),
        (HTTP + 'headers = { Host = "x" }', f"{KEY}.headers.Host: expected another header"),
        (HTTP + 'headers = { ce-id = "x" }', f"{KEY}.headers.ce-id: expected another header"),
        (HTTP + 'headers = { "X Y" = "x" }', f'{KEY}.headers."X Y": expected the name of a header'),
        (HTTP + 'headers = { X = "a\\nb: c" }', f"{KEY}.headers.X: expected a text without control characters"),
        (HTTP + "headers = { X = 5 }", f"{KEY}.headers.X: expected a text in quotes"),
        (HTTP + 'headers = { X = "${UNSET}" }', f"{KEY}.headers.X: the environment variable UNSET is not set"),
        (
            HTTP + 'headers = { authorization = "x" }\nauth = { type = "bearer", token = "t" }',
            f"{KEY}.headers: expected no Authorization beside auth",
        ),
        (HTTP + 'auth = { type = "digest" }', f"{KEY}.auth.type: expected 'none', 'bearer', 'basic'"),
        (HTTP + 'auth = { type = "bearer" }', f'{KEY}.auth.token: required with type = "bearer"'),
        (HTTP + 'auth = { type = "basic", user = "u" }', f'{KEY}.auth.password: required with type = "basic"'),
        (HTTP + 'auth = { type = "basic", user = "u:", password = "p" }', f"{KEY}.auth.user: expected a name"),
        (HTTP + 'auth = { type = "none", token = "t" }', f'{KEY}.auth.token: does not go with type = "none"'),
        (HTTP + 'tls = { cert = "c.pem" }', f"{KEY}.tls: expected cert and key together"),
        (HTTP + 'tls = { ca = "absent.pem" }', f"{KEY}.tls.ca: expected a file that is there"),
        (HTTP + "dead_on = [200]", f"{KEY}.dead_on[0]: expected at least 300"),
        (HTTP + "pause_on = [600]", f"{KEY}.pause_on[0]: expected at most 599"),
        (HTTP + "pause_on = ['x']", f"{KEY}.pause_on[0]: expected a whole number"),
        (HTTP + 'call = "m:f"', f'{KEY}.call: does not go with type = "http"'),
    ],
)
def test_a_fault_names_its_key(tmp_path: Path, text: str, fault: str) -> None:
    """One sentence, from loading or from building."""
    with pytest.raises(ConfigurationError) as refusal:
        built(tmp_path, text)
    (line,) = str(refusal.value).splitlines()
    assert line.startswith(fault)


def test_a_key_that_does_not_belong_to_its_certificate(tmp_path: Path) -> None:
    """Found before anything is delivered."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        make_certificate(tmp_path / name)
    with pytest.raises(ConfigurationError, match=r"^handlers\.h\.tls: expected PEM files that belong together"):
        built(tmp_path, HTTP + 'tls = { cert = "one/certificate.pem", key = "other/key.pem" }')
    built(tmp_path, HTTP + 'tls = { ca = "one/certificate.pem", cert = "one/certificate.pem", key = "one/key.pem" }')


def test_documented_defaults_are_the_defaults(tmp_path: Path) -> None:
    """Writing them changes nothing."""
    documented = """
        format = "cloudevents"
        auth = { type = "none" }
        tls = {}
        dead_on = [400, 413, 414, 415, 422, 431, 501]
        pause_on = [410]
        """
    assert describe(loaded(tmp_path, HTTP + documented)) == describe(loaded(tmp_path, HTTP))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x", "http://[::1]:9", "http://h", "https://h?a=b%2Fc", "https://ä.example/ü"]
)
def test_plain_http_and_private_addresses_are_urls(url: str) -> None:
    """The receiver may be beside us."""
    assert HttpSettings(url=url).url == url


def test_secrets_show_nowhere(tmp_path: Path) -> None:
    """Neither signing keys nor tokens, passwords and values of headers, whatever their names."""
    settings = loaded(
        tmp_path,
        HTTP
        + """
        secrets = ["${KEY}"]
        headers = { X-Tenant = "hush-1", X-Api-Key = "pre ${TOKEN}" }
        auth = { type = "basic", user = "me", password = "hush-3" }
        [handlers.i]
        type = "http"
        url = "https://h"
        auth = { type = "bearer", token = "${TOKEN}" }
        """,
        KEY="whsec_aHVzaC00",
        TOKEN="hush-2",
    )
    handler = settings.handlers["h"].build("h", tmp_path)
    shown = [repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()]
    shown += [repr(describe(settings)), *map(repr, vars(handler).values())]
    assert not [text for text in shown if "hush" in text or "aHVzaC00" in text]
    rows = dict(describe(settings))
    assert rows["handlers.h.headers.X-Api-Key"] == rows["handlers.h.auth.password"] == "********"


def test_the_query_of_a_url_is_not_described(tmp_path: Path) -> None:
    """It may be a secret under any name."""
    rows = dict(describe(loaded(tmp_path, HTTP.replace("alerts", "alerts?key=hush"))))
    assert rows["handlers.h.url"] == "https://example.org/alerts?key=********"
