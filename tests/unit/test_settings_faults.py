"""What a faulty configuration is answered with: the key's full name, what was expected, the nearest known key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from app.settings import load
from ingest.errors import ConfigurationError
from tests.support.tls import make_certificate


def faults(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None, host: str | None = None) -> list[str]:
    """The lines of the refusal of `text`."""
    file = tmp_path / "headrace.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as refusal:
        load(file, environ or {}, host=host)
    return str(refusal.value).splitlines()


def auth(table: str) -> str:
    """A file whose only source has this auth table."""
    return f"[sources.fleet.webhook]\nauth = {{ {table} }}\n"


AUTH = "sources.fleet.webhook.auth"

WRONG_VALUES = {
    "[server]\nport = 'x'": "server.port: expected a whole number",
    "[server]\nport = true": "server.port: expected a whole number",
    "[server]\nport = 65536": "server.port: expected at most 65535",
    "[server]\nhost = ''": "server.host: expected a text that is not empty",
    "[server]\ntls_cert = '/absent'": "server.tls_cert: expected a file that is there",
    "[server]\ntrusted_proxies = ['10.0.0.0/33']": "server.trusted_proxies[0]: expected a network such as",
    "[server]\ndrain_delay = 5": 'server.drain_delay: expected a duration such as "200ms"',
    "[access]\nopen = 'perhaps'": "access.open: expected true or false",
    "[access]\nread_tokens = [5]": "access.read_tokens[0]: expected a text in quotes",
    "[access]\nadmin_tokens = ['']": "access.admin_tokens[0]: expected a secret that is not empty",
    "[store]\nurl = 'mysql://h/d'": "store.url: expected a URL that begins with sqlite:///",
    "[store]\nretention = '0s'": "store.retention: expected a duration above zero",
    "[store]\nretention = '99999d'": 'store.retention: expected a duration of at most "36500d"',
    "[store]\ninbox_bytes = '64KB'": "store.inbox_bytes: expected a size above zero such as",
    "[store]\nspool = 'spool.db'": "store.spool: goes with PostgreSQL only",
    "[store]\nspool = ''\nurl = 'postgresql://h/d'": "store.spool: expected a path, or leave it out",
    "[store]\ninbox_events = 0": "store.inbox_events: expected at least 1",
    "store = 5": "store: expected a table",
    "sources = 5": "sources: expected a table",
    "[sources]\nfleet = 5": "sources.fleet: expected a table",
    "[sources.Fleet]": "sources.Fleet: expected a label of lower-case letters",
    "[handlers.9]\ntype = 'log'": "handlers.9: expected a label of lower-case letters",
    "[sources.fleet]\nproduct = ''": "sources.fleet.product: expected a text that is not empty",
    "[sources.fleet]\nproduct = 7": "sources.fleet.product: expected a text in quotes, or a table with from, map and",
    "[sources.fleet.product]\nfrom = 'id'\nmap = {}": "sources.fleet.product.from: expected a JSON pointer such as",
    "[sources.fleet.product]\nfrom = ''": "sources.fleet.product.from: expected a text that is not empty",
    "[sources.fleet.product]\nfrom = 'header:X'": "sources.fleet.product.from: expected a JSON pointer such as",
    "[sources.fleet.product]\nfrom = 'sse:id'": "sources.fleet.product.from: expected a JSON pointer such as",
    "[sources.fleet.product]\nfrom = 5": "sources.fleet.product.from: expected a text in quotes",
    "[sources.fleet.product]\nfrom = '/id'": "sources.fleet.product.map: required with product.from",
    "[sources.fleet.product]\nmap = { a = 'b' }": "sources.fleet.product.from: required with product.map",
    "[sources.fleet.product]\nmap = 'b'": "sources.fleet.product.map: expected a table",
    "[sources.fleet.product.map]\n13961 = 5": "sources.fleet.product.map.13961: expected a text in quotes",
    "[sources.fleet.product.map]\n13961 = ''": "sources.fleet.product.map.13961: expected a text that is not empty",
    "[sources.fleet.product]\ndefault = ''": "sources.fleet.product.default: expected a text that is not empty",
    "[sources.fleet.product]\nform = '/id'": "sources.fleet.product.form: unknown key; the nearest known one is "
    "sources.fleet.product.from",
    "[sources.fleet]\nformat = 'generic'\nproduct = { from = 'attribute:p', map = { a = 'b' } }": (
        "sources.fleet.product.from: expected a JSON pointer with mode webhook: only messages have attributes"
    ),
    "[sources.fleet]\nformat = 'generic'\nfields = { id = 'attribute:p' }": (
        "sources.fleet.fields.id: expected a JSON pointer with mode webhook: only messages have attributes"
    ),
    "[sources.fleet]\nmode = 'webhok'": "sources.fleet.mode: expected webhook, sse, pubsub, or a list",
    "[sources.fleet]\nmode = []": "sources.fleet.mode: expected webhook, sse, pubsub, or a list",
    "[sources.fleet]\nmode = ['webhook', 'webhook']": "sources.fleet.mode: expected webhook, sse, pubsub, or a",
    "[sources.fleet]\nformat = 'xml'": "sources.fleet.format: expected 'particle' or 'generic'",
    "[sources.fleet]\nignore = ['']": "sources.fleet.ignore[0]: expected a text that is not empty",
    "[sources.fleet]\nignore = '[1'": "sources.fleet.ignore: expected a JSON list, or texts with commas",
    "[sources.fleet.fields]\nid = '/id'": 'sources.fleet.fields: does not go with format = "particle"',
    "[sources.fleet]\nformat = 'generic'\nfields = { id = 'id' }": "sources.fleet.fields.id: expected a JSON pointer",
    "[sources.fleet.webhook]\npath = 'in'": 'sources.fleet.webhook.path: expected a path such as "/ingest/fleet"',
    "[sources.fleet.webhook]\npath = '/'": 'sources.fleet.webhook.path: expected a path such as "/ingest/fleet"',
    "[sources.fleet.webhook]\npath = '/api/v1/x'": "sources.fleet.webhook.path: expected a path outside /api",
    "[sources.fleet.webhook]\npath = '/metrics/'": "sources.fleet.webhook.path: expected a path outside /api",
    "[sources.fleet.webhook]\non_reject = 'drop'": "sources.fleet.webhook.on_reject: expected 'accept' or 'refuse'",
    "[sources.fleet.sse]\nurl = 'ftp://h'": "sources.fleet.sse.url: expected a URL that begins with https://",
    "[sources.fleet.sse]\nurl = 'https://h/e?access_token=x'": "sources.fleet.sse.url: expected a URL without access_t",
    "[sources.fleet]\nmode = 'sse'": "sources.fleet.sse.token: required for api.particle.io",
    "[sources.fleet]\nmode = ['webhook', 'sse']": "sources.fleet.sse.token: required for api.particle.io",
    "[sources.fleet]\nmode = 'sse'\nsse.token = '${UNSET}'": "sources.fleet.sse.token: the environment variable UNSET",
    "[sources.fleet]\nmode = 'sse'\nformat = 'generic'\nfields.id = 'header:X-Id'\nsse.url = 'http://h/'": (
        "sources.fleet.fields.id: expected a JSON pointer with mode sse: the events of a stream have no headers"
    ),
    "[sources.fleet]\nformat = 'generic'\nfields.id = 'sse:id'": (
        'sources.fleet.fields.id: expected "sse:id" with mode sse alone'
    ),
    "[sources.fleet]\nmode = ['sse', 'webhook']\nformat = 'generic'\nfields.id = 'sse:id'\nsse.url = 'http://h/'": (
        'sources.fleet.fields.id: expected "sse:id" with mode sse alone'
    ),
    "[sources.fleet.sse]\nidle_timeout = '0s'": "sources.fleet.sse.idle_timeout: expected a duration above zero",
    "[sources.fleet]\nmode = ['webhook', 'pubsub']": "sources.fleet.pubsub.subscription: required with mode pubsub",
    "[sources.a]\nmode = 'pubsub'\npubsub.subscription = 'projects/p/subscriptions/s'\n"
    "[sources.b]\nmode = ['webhook', 'pubsub']\npubsub.subscription = 'projects/p/subscriptions/s'": (
        "sources.b.pubsub.subscription: expected a subscription that sources.a does not have: each message would come"
    ),
    "[sources.fleet.pubsub]\nlease = '9s'": 'sources.fleet.pubsub.lease: expected a duration from "10s" to "10m"',
    "[sources.fleet.pubsub]\nlease = '11m'": 'sources.fleet.pubsub.lease: expected a duration from "10s" to "10m"',
    "[sources.fleet.pubsub]\nsubscription = 'x'": 'sources.fleet.pubsub.subscription: expected "projects/',
    "[handlers.h]\ncall = 'm:f'": "handlers.h.type: required",
    "[handlers.h]\ntype = 'loog'": "handlers.h.type: expected 'http', 'log', 'python'",
    "[handlers.h]\ntype = 'python'": 'handlers.h.call: required with type = "python"',
    "handlers.h = 5": "handlers.h: expected a table",
    "[handlers.h]\ntype = 'python'\ncall = 'module.function'": 'handlers.h.call: expected "module:function"',
    "[handlers.h]\ntype = 'log'\ncall = 'm:f'": 'handlers.h.call: does not go with type = "log"',
    "[handlers.h]\ntype = 'log'\nretry = { base = '1h' , cap = '1m' }": "handlers.h.retry.cap: expected at least",
    "[handlers.h]\ntype = 'log'\nconcurrency = 0": "handlers.h.concurrency: expected at least 1",
    "[handlers.h]\ntype = 'log'\nconcurrency = 1001": "handlers.h.concurrency: expected at most 1000",
    "[handlers.h]\ntype = 'log'\nretry = { base = '1h' }": "handlers.h.retry.cap: expected at least retry.base",
    "[sources.s.sse]\nstreams = 33": "sources.s.sse.streams: expected at most 32",
    "[sources.s.pubsub]\nstreams = 33": "sources.s.pubsub.streams: expected at most 32",
    "[handlers.h]\ntype = 'log'\nfrom = 'then'": "handlers.h.from: expected 'now' or 'beginning'",
    auth("secrets = 'x'"): f"{AUTH}.type: required",
    auth("type = 'digest'"): f"{AUTH}.type: expected 'none', 'header', 'query'",
    auth("type = 'bearer'"): f'{AUTH}.secrets: required with type = "bearer"',
    auth("type = 'bearer', secrets = []"): f'{AUTH}.secrets: required with type = "bearer"',
    auth("type = 'bearer', secrets = ['a', '']"): f"{AUTH}.secrets[1]: expected a secret that is not empty",
    auth("type = 'none', secrets = 'x'"): f'{AUTH}.secrets: does not go with type = "none"',
    auth("type = 'github', secrets = 'x', name = 'X-Y'"): f'{AUTH}.name: does not go with type = "github"',
    auth("type = 'header', secrets = 'x'"): f'{AUTH}.name: required with type = "header"',
    auth("type = 'header', secrets = 'x', name = 'X Y'"): f"{AUTH}.name: expected the name of a header",
    auth("type = 'hmac', secrets = 'x'"): f'{AUTH}.header: required with type = "hmac"',
    auth("type = 'hmac', secrets = 'x', header = 'X', encoding = 'b'"): f"{AUTH}.encoding: expected 'hex' or 'base64'",
    auth("type = 'basic', secrets = 'user'"): f'{AUTH}.secrets: expected "user:password"',
    auth("type = 'standard-webhooks', secrets = 'whsec_?'"): f"{AUTH}.secrets: expected a key in base64",
    auth("type = 'google-oidc', email = 'e'"): f'{AUTH}.audience: required with type = "google-oidc"',
    auth("type = 'google-oidc', audience = 'a'"): f'{AUTH}.email: required with type = "google-oidc"',
    auth("type = 'google-oidc', audience = 'a', email = 5"): f"{AUTH}.email: expected a text in quotes",
    auth("type = 'google-oidc', audience = 'a', email = 'e', secrets = 'x'"): f"{AUTH}.secrets: does not go with type",
    auth("type = 'bearer', secrets = 'x', audience = 'a'"): f'{AUTH}.audience: does not go with type = "bearer"',
    auth("type = 'none', email = 'e'"): f'{AUTH}.email: does not go with type = "none"',
}

SEQUENCE = "[sources.fleet]\nsequence = '/seq'\n"
TWO = "product = 't'\n[sources.other]\nproduct = 't'\n"
SEQUENCES = {
    "[sources.fleet]\nsequence = 'seq'": 'sources.fleet.sequence: expected a JSON pointer such as "/seq" (RFC 6901)',
    "[sources.fleet]\nsequence = 'header:Seq'": "sources.fleet.sequence: expected a JSON pointer",
    "[sources.fleet]\nmessage_id = 'msg'": "sources.fleet.message_id: expected a JSON pointer",
    "[sources.fleet]\nmessage_id = ''": "sources.fleet.message_id: expected a JSON pointer",
    "[sources.fleet]\nmessage_id = 'sse:id'": "sources.fleet.message_id: expected a JSON pointer",
    f"{SEQUENCE}sequence_epoch = 'boot'": "sources.fleet.sequence_epoch: expected a JSON pointer",
    f"{SEQUENCE}sequence_first = -1": "sources.fleet.sequence_first: ",
    f"{SEQUENCE}sequence_first = true": "sources.fleet.sequence_first: expected a whole number",
    f"{SEQUENCE}sequence_modulus = 2": "sources.fleet.sequence_modulus: ",
    f"{SEQUENCE}sequence_modulus = 256\nsequence_first = 256": (
        "sources.fleet.sequence_modulus: expected more than sequence_first"
    ),
    "[sources.fleet]\nsilent_after = '0s'": "sources.fleet.silent_after: expected a duration above zero",
    f"{SEQUENCE}loss_grace = '0s'": "sources.fleet.loss_grace: expected a duration above zero",
    "[sources.fleet]\nsequence_epoch = '/boot'": "sources.fleet.sequence_epoch: needs sequence",
    "[sources.fleet]\nsequence_first = 1": "sources.fleet.sequence_first: needs sequence",
    "[sources.fleet]\nsequence_modulus = 256": "sources.fleet.sequence_modulus: needs sequence",
    "[sources.fleet]\nsequence_names = ['loc']": "sources.fleet.sequence_names: needs sequence",
    f"{SEQUENCE}{TWO}": "sources.other.sequence: expected in sources.fleet too or in neither",
    f"{SEQUENCE}[sources.all]\nproduct = {{ from = '/p', map = {{ 1 = 'fleet' }}, default = 'rest' }}\n": (
        "sources.all.sequence: expected in sources.fleet too or in neither"
    ),
    f"{SEQUENCE}{TWO}sequence = '/n'\nsequence_first = 1": (
        "sources.other.sequence_first: expected the same as sources.fleet.sequence_first"
    ),
    f"{SEQUENCE}{TWO}sequence = '/n'\nsequence_epoch = '/b'": (
        "sources.other.sequence_epoch: expected in sources.fleet too or in neither"
    ),
}

UNKNOWN_KEYS = {
    "[server]\nprot = 1": "server.prot: unknown key; the nearest known one is server.port",
    "[source.fleet]": "source: unknown key; the nearest known one is sources",
    "retention = '1d'": "retention: unknown key; the nearest known one is store.retention",
    "[sources.fleet]\nwehbook = {}": "sources.fleet.wehbook: unknown key; the nearest known one is sources.fleet.webh",
    "[handlers.h]\ntype = 'log'\nform = 'now'": "handlers.h.form: unknown key; the nearest known one is handlers.h.fr",
    "[handlers.h]\ntype = 'http'\nurl = 'http://h'\nfromat = 'plain'": (
        "handlers.h.fromat: unknown key; the nearest known one is handlers.h.format"
    ),
    "[handlers.h]\ntype = 'http'\nurl = 'http://h'\nauth = { type = 'bearer', token = 't', tokn = 't' }": (
        "handlers.h.auth.tokn: unknown key; the nearest known one is handlers.h.auth.token"
    ),
    "[handlers.h]\ntype = 'log'\nstart = 'now'": "handlers.h.start: unknown key; the nearest known one is handlers.h",
    auth("type = 'none', nmae = 'x'"): f"{AUTH}.nmae: unknown key; the nearest known one is {AUTH}.name",
    '[sources.fleet]\n"a b" = 1': 'sources.fleet."a b": unknown key; the nearest known one is sources.fleet',
}

NOT_YET = {
    "[handlers.h]\ntype = 'pubsub'": 'handlers.h.type: this version does not run "pubsub" yet',
    "[handlers.h]\ntype = 'nats'": 'handlers.h.type: this version does not run "nats" yet',
}


@pytest.mark.parametrize(("text", "line"), (WRONG_VALUES | SEQUENCES | UNKNOWN_KEYS | NOT_YET).items())
def test_a_fault_names_its_key(tmp_path: Path, text: str, line: str) -> None:
    """One fault is one line that begins with the key's full name and says what was expected there."""
    lines = faults(tmp_path, text)
    assert len(lines) == 1
    assert lines[0].startswith(line)


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    """The operator mends the file once: wrong, unknown and unset keys are reported together."""
    text = "[server]\nport = 'x'\nhots = 1\n[access]\nread_tokens = ['${UNSET_TOKEN}']\n"
    assert faults(tmp_path, text) == [
        "access.read_tokens[0]: the environment variable UNSET_TOKEN is not set",
        "server.hots: unknown key; the nearest known one is server.host",
        "server.port: expected a whole number",
    ]


def test_a_type_that_is_not_built_hides_no_other_fault(tmp_path: Path) -> None:
    """Beside a handler that does not run yet, a misspelt key elsewhere is still reported."""
    assert faults(tmp_path, "[sources.fleet]\nporduct = 'x'\n[handlers.h]\ntype = 'nats'\n") == [
        'handlers.h.type: this version does not run "nats" yet',
        "sources.fleet.porduct: unknown key; the nearest known one is sources.fleet.product",
    ]


def test_what_cannot_be_looked_up_is_one_fault(tmp_path: Path) -> None:
    """An unset variable is not reported a second time as a key that is missing."""
    text = auth("type = 'bearer', secrets = '${UNSET}'") + "[handlers.h]\ntype = 'python'\ncall = '${UNSET}'\n"
    assert faults(tmp_path, text) == [
        "handlers.h.call: the environment variable UNSET is not set",
        f"{AUTH}.secrets: the environment variable UNSET is not set",
    ]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("HEADRACE_STROE__URL", "stroe: unknown key; the nearest known one is store (from HEADRACE_STROE__URL)"),
        ("HEADRACE_STORE_URL", "store_url: unknown key; the nearest known one is store.url (from HEADRACE_STORE_URL)"),
        ("HEADRACE_STORE__INBOX_EVENTS", "expected a whole number (from HEADRACE_STORE__INBOX_EVENTS)"),
        ("HEADRACE_STORE", "store: expected a table (from HEADRACE_STORE)"),
        ("HEADRACE_SERVER_PORT", "nearest known one is server.port (from HEADRACE_SERVER_PORT)"),
        ("HEADRACE_ACCESS__READ_TOKENS", "expected a JSON list, or texts with commas"),
    ],
)
def test_a_fault_of_the_environment_names_the_variable(tmp_path: Path, name: str, line: str) -> None:
    """A misspelt or wrong variable never passes silently, and is named beside the key."""
    (found,) = faults(tmp_path, "", {name: "[x"})
    assert line in found


def test_a_malformed_file_is_placed(tmp_path: Path) -> None:
    """TOML that cannot be read is reported with its line."""
    (line,) = faults(tmp_path, "[server]\nport = = 1\n")
    assert "headrace.toml: expected TOML: " in line
    assert "line 2" in line


def test_two_sources_cannot_share_a_path(tmp_path: Path) -> None:
    """A path belongs to one source; a trailing slash makes no other path of it."""
    text = "[sources.a]\n[sources.b.webhook]\npath = '/ingest/a/'\n"
    assert faults(tmp_path, text) == ["sources.b.webhook.path: expected a path that sources.a does not have"]


def test_certificate_and_key_come_together(tmp_path: Path) -> None:
    """One of the two alone would silently serve plain HTTP."""
    (tmp_path / "cert.pem").touch()
    text = f"[server]\ntls_cert = '{tmp_path}/cert.pem'\n"
    assert faults(tmp_path, text) == ["server.tls_key: required with server.tls_cert"]


def test_a_certificate_needs_its_own_key(tmp_path: Path) -> None:
    """A pair that no handshake could use is found before anything starts, and so are files that hold none."""
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        make_certificate(tmp_path / folder)
    (tmp_path / "empty").touch()
    for key in (tmp_path / "other" / "key.pem", tmp_path / "empty"):
        text = f"[server]\ntls_cert = '{tmp_path}/one/certificate.pem'\ntls_key = '{key}'\n"
        (fault,) = faults(tmp_path, text)
        assert fault.startswith("server.tls_cert: expected a certificate that server.tls_key belongs to")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "headrace.example.org"])
def test_a_reachable_server_needs_tokens_and_auth(tmp_path: Path, host: str) -> None:
    """Bound beyond loopback without tokens and with auth none, the start is refused; also when --host says so."""
    keys = ["access.admin_tokens", "access.read_tokens", "sources.default.webhook.auth"]
    assert [line.partition(":")[0] for line in faults(tmp_path, f"[server]\nhost = '{host}'\n")] == keys
    assert [line.partition(":")[0] for line in faults(tmp_path, "", host=host)] == keys


TOKENS = "[access]\nread_tokens = ['r']\nadmin_tokens = ['a']\n"


@pytest.mark.parametrize(
    "text",
    [
        "[access]\nopen = true\n",
        TOKENS + auth("type = 'bearer', secrets = 's'"),
        TOKENS + auth("type = 'google-oidc', audience = 'a', email = 'e'"),
    ],
)
def test_a_reachable_server_may_start_when_it_is_closed_or_said_to_be_open(tmp_path: Path, text: str) -> None:
    """Tokens and credentials everywhere, or access.open = true, allow any address."""
    file = tmp_path / "headrace.toml"
    file.write_text(text)
    assert load(file, {}, host="0.0.0.0").server.host == "0.0.0.0"


@pytest.mark.parametrize("missing", ["read_tokens", "admin_tokens"])
def test_each_kind_of_token_is_needed(tmp_path: Path, missing: str) -> None:
    """One kind of token does not stand in for the other."""
    kept = "\n".join(line for line in TOKENS.splitlines() if not line.startswith(missing))
    (line,) = faults(tmp_path, kept + "\n" + auth("type = 'bearer', secrets = 's'"), host="0.0.0.0")
    assert line.startswith(f"access.{missing}: required because server.host is not loopback")
