"""What a configuration file and the environment become when they are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from app.settings import Settings, describe, is_loopback, load
from ingest.errors import ConfigurationError

Load = Callable[..., Settings]

SMALLEST = """
[sources.fleet]
product = "tracker"
mode = "webhook"

[sources.fleet.webhook]
auth = { type = "header", name = "X-Particle-Key", secrets = ["${HOOK_SECRET}"] }
[sources.fleet.sse]
token = "${PARTICLE_TOKEN}"
[sources.fleet.pubsub]
subscription = "projects/my-project/subscriptions/headrace"
"""

DOCUMENTED_DEFAULTS = """
[server]
host = "127.0.0.1"
port = 8000
drain_delay = "0s"

[access]
read_tokens  = ["${READ_TOKEN}"]
admin_tokens = ["${ADMIN_TOKEN}"]

[store]
url = "sqlite:///headrace.db"
retention = "30d"
inbox_events = 20000
inbox_bytes = "64MiB"

[sources.fleet]
product  = "fleet"
mode     = "webhook"
format   = "particle"
ignore   = ["hook-sent/", "hook-response/", "hook-error/"]

[sources.fleet.webhook]
path = "/ingest/fleet"
auth = { type = "none" }
max_body = "1MiB"
on_reject = "accept"
receipt = []

[sources.fleet.sse]
url = "https://api.particle.io/v1/products/fleet/events"
token = "${PARTICLE_TOKEN}"
idle_timeout = "20s"
streams = 1

[sources.fleet.pubsub]
subscription = "projects/my-project/subscriptions/headrace"
streams = 1
max_messages = 1000
lease = "10s"

[handlers.rules]
type = "python"
call = "fleet_rules:on_event"
order  = "device"
concurrency = 16
timeout = "20s"
retry  = { base = "1s", cap = "10m", max_age = "3d" }
from = "now"
"""

BARE = """
[access]
read_tokens  = ["${READ_TOKEN}"]
admin_tokens = ["${ADMIN_TOKEN}"]
[sources.fleet.sse]
token = "${PARTICLE_TOKEN}"
[sources.fleet.pubsub]
subscription = "projects/my-project/subscriptions/headrace"
[handlers.rules]
type = "python"
call = "fleet_rules:on_event"
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Loads a text as headrace.toml in a folder of its own."""

    def load_text(text: str, environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
        file = tmp_path / "headrace.toml"
        file.write_text(text)
        return load(file, environ or {}, **overrides)  # type: ignore[arg-type]

    return load_text


def test_without_a_file_one_source_takes_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing configured is a webhook at /ingest/default into SQLite in the working directory."""
    monkeypatch.chdir(tmp_path)
    settings = load(None, {})
    source = settings.sources["default"]
    assert list(settings.sources) == ["default"]
    assert (source.product, source.modes, source.webhook.path) == ("default", ("webhook",), "/ingest/default")
    assert source.webhook.auth.type == "none"
    assert settings.store.url.value() == "sqlite:///headrace.db"
    assert settings.folder == tmp_path


def test_other_tables_alone_keep_the_default_source(loaded: Load) -> None:
    """A file without sources still has the default one."""
    assert list(loaded("[server]\nport = 9000\n").sources) == ["default"]


def test_the_smallest_file(loaded: Load) -> None:
    """The contract's smallest file loads, although the tokens of modes that are not chosen are unset."""
    source = loaded(SMALLEST, {"HOOK_SECRET": "s3cret"}).sources["fleet"]
    assert source.product == "tracker"
    assert source.webhook.path == "/ingest/fleet"
    assert (source.webhook.auth.type, source.webhook.auth.name) == ("header", "X-Particle-Key")
    assert [secret.value() for secret in source.webhook.auth.secrets] == ["s3cret"]
    assert source.sse is not None
    assert source.sse.url == "https://api.particle.io/v1/products/tracker/events"


def test_a_table_of_products(loaded: Load) -> None:
    """Its default is the label, its stream that of all our devices, and `check` shows it."""
    text = '[sources.all.product]\nfrom = "/product_id"\nmap = { 13961 = "tracker" }\n'
    settings = loaded(text)
    assert settings.sources["all"].product == "all"
    assert settings.sources["all"].sse.url == "https://api.particle.io/v1/devices/events"
    assert {row for row in describe(settings) if ".product" in row[0]} == {
        ("sources.all.product.from", "/product_id"),
        ("sources.all.product.map.13961", "tracker"),
        ("sources.all.product.default", "all"),
    }
    word = loaded(text, {"HEADRACE_SOURCES__ALL__PRODUCT": "fleet"}).sources["all"]
    assert (word.product, word.products.sent()) == ("fleet", None)


def test_documented_defaults_are_the_defaults(loaded: Load) -> None:
    """Writing every documented default changes nothing against leaving it out."""
    environ = {"READ_TOKEN": "r", "ADMIN_TOKEN": "a", "PARTICLE_TOKEN": "p"}
    assert describe(loaded(DOCUMENTED_DEFAULTS, environ)) == describe(loaded(BARE, environ))


def test_values_have_their_types(loaded: Load) -> None:
    """Durations, sizes, networks and lists come as values, not as texts."""
    settings = loaded(
        """
        [server]
        trusted_proxies = ["10.0.0.0/8", "::1"]
        [store]
        retention = "forever"
        inbox_bytes = 4096
        [sources.fleet]
        mode = ["webhook"]
        format = "generic"
        fields = { id = "header:X-Id", data = "" }
        [handlers.tail]
        type = "log"
        names = ["alarm/", "spark/status"]
        retry = { base = "200ms", attempts = 3 }
        from = "beginning"
        """
    )
    assert settings.server.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert (settings.store.retention, settings.store.inbox_bytes) == (None, 4096)
    source, handler = settings.sources["fleet"], settings.handlers["tail"]
    assert source.modes == ("webhook",)
    assert source.fields is not None
    assert (source.fields.id, source.fields.data, source.fields.name) == ("header:X-Id", "", None)
    assert (handler.names, handler.start) == (("alarm/", "spark/status"), "beginning")
    assert (handler.retry.base, handler.retry.attempts) == (timedelta(milliseconds=200), 3)


def test_the_environment_overrides_key_by_key(loaded: Load) -> None:
    """A variable replaces one key, by label, and leaves its neighbours as the file has them."""
    environ = {
        "HEADRACE_SERVER__PORT": "9000",
        "HEADRACE_STORE__URL": "postgresql:///headrace?host=/run/pg&sslmode=disable",
        "HEADRACE_ACCESS__OPEN": "true",
        "HEADRACE_SOURCES__FLEET__PRODUCT": "1e5",
        "HEADRACE_SOURCES__FLEET__WEBHOOK__AUTH__SECRETS": "1e5,${OTHER}",
        "HEADRACE_SOURCES__FLEET__IGNORE": '["a,b/", "c/"]',
        "HEADRACE_SOURCES__YARD__WEBHOOK__AUTH__TYPE": "none",
        "HEADRACE_HANDLERS__TAIL__TYPE": "log",
        "HEADRACE_HANDLERS__TAIL__NAMES": "alarm/, status",
        "HOOK_SECRET": "unused",
        "OTHER": "with,comma",
    }
    settings = loaded(SMALLEST, environ)
    fleet = settings.sources["fleet"]
    assert settings.server.port == 9000
    assert settings.store.url.value().startswith("postgresql:///headrace?host=/run/pg")
    assert settings.access.open is True
    assert (fleet.product, fleet.ignore) == ("1e5", ("a,b/", "c/"))
    assert fleet.webhook.auth.name == "X-Particle-Key"
    assert [secret.value() for secret in fleet.webhook.auth.secrets] == ["1e5", "with,comma"]
    assert settings.sources["yard"].webhook.path == "/ingest/yard"
    assert settings.handlers["tail"].names == ("alarm/", "status")


def test_variables_that_are_no_settings_are_left_alone(loaded: Load) -> None:
    """HEADRACE_CONFIG, HEADRACE_DEBUG, and what Kubernetes sets beside a Service named headrace, are no keys."""
    loaded(
        "",
        {
            "HEADRACE_CONFIG": "elsewhere.toml",
            "HEADRACE_DEBUG": "1",
            "HEADRACE_PORT": "tcp://10.0.0.1:8000",
            "HEADRACE_PORT_8000_TCP_ADDR": "10.0.0.1",
            "HEADRACE_SERVICE_HOST": "10.0.0.1",
            "HEADRACE_DB_SERVICE_PORT_SQL": "5432",
        },
    )


def test_config_variable_names_the_file(tmp_path: Path) -> None:
    """HEADRACE_CONFIG is used where no path is given, and its folder is the settings' folder."""
    file = tmp_path / "other.toml"
    file.write_text("[server]\nport = 9001\n")
    settings = load(None, {"HEADRACE_CONFIG": str(file)})
    assert (settings.server.port, settings.folder) == (9001, tmp_path)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    """A file that was asked for by name and is missing is a fault, never the defaults."""
    with pytest.raises(ConfigurationError, match="there is no such configuration file"):
        load(tmp_path / "absent.toml", {})


def test_command_line_goes_before_everything(loaded: Load) -> None:
    """--host and --port override the environment, which overrides the file."""
    settings = loaded("[server]\nport = 1\n", {"HEADRACE_SERVER__PORT": "2"}, host="localhost", port=3)
    assert (settings.server.host, settings.server.port) == ("localhost", 3)


@pytest.mark.parametrize(("host", "drain"), [("127.0.0.1", 0), ("::1", 0), ("0.0.0.0", 5)])
def test_drain_delay_is_zero_on_loopback(loaded: Load, host: str, drain: int) -> None:
    """Only a server that a load balancer can see waits before it drains, unless it is told to."""
    text = f'[server]\nhost = "{host}"\n[access]\nopen = true\n'
    assert loaded(text).server.drain_delay == timedelta(seconds=drain)
    assert loaded(text, {"HEADRACE_SERVER__DRAIN_DELAY": "7s"}).server.drain_delay == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *(("127.8.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("10.0.0.1", False)),
        *(("::", False), ("0.0.0.0", False), ("headrace.example.org", False), ("localhost.example.org", False)),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    """Only addresses of this very machine count as loopback; a name is not trusted to be one."""
    assert is_loopback(host) is loopback


def test_settings_cannot_be_changed(loaded: Load) -> None:
    """Settings are values: nobody changes them after they were validated."""
    with pytest.raises(ValueError, match="frozen"):
        loaded("").server.port = 1


def test_description_shows_what_would_run(loaded: Load) -> None:
    """`headrace check` shows keys as they are written, without the tables of modes that do not run."""
    rows = dict(describe(loaded(SMALLEST, {"HOOK_SECRET": "s3cret"})))
    assert rows["sources.fleet.mode"] == "webhook"
    assert rows["sources.fleet.webhook.max_body"] == "1MiB"
    assert rows["store.retention"] == "30d"
    assert not [key for key in rows if ".sse." in key or ".pubsub." in key]


def test_description_shows_whose_tokens_are_let_in(loaded: Load) -> None:
    """Audience and account are no secrets."""
    text = '[sources.fleet.webhook]\nauth = { type = "google-oidc", audience = "https://h/", email = "a@b" }\n'
    rows = dict(describe(loaded(text)))
    auth = {key.rpartition(".")[2]: value for key, value in rows.items() if ".auth." in key}
    assert auth == {"type": "google-oidc", "audience": "https://h/", "email": "a@b"}


def test_changing_the_mode_is_one_line(loaded: Load) -> None:
    """The smallest file with another mode, or with both: the product's stream, with the documented defaults."""
    environ = {"HOOK_SECRET": "s3cret", "PARTICLE_TOKEN": "t0ken"}
    for mode, modes in (('"sse"', ["sse"]), ('["webhook", "sse"]', ["webhook", "sse"])):
        source = loaded(SMALLEST.replace('"webhook"', mode), environ).sources["fleet"]
        assert list(source.modes) == modes
        assert source.sse.url == "https://api.particle.io/v1/products/tracker/events"
        assert source.sse.token is not None
        assert (source.sse.token.value(), source.sse.streams) == ("t0ken", 1)
        assert source.sse.idle_timeout == timedelta(seconds=20)


def test_a_stream_of_another_host_needs_no_token(loaded: Load) -> None:
    """Only Particle is known to want one; `check` shows what would be listened to."""
    settings = loaded("[sources.fleet]\nmode = 'sse'\n[sources.fleet.sse]\nurl = 'http://bridge:8080/events/temp'\n")
    rows = dict(describe(settings))
    assert settings.sources["fleet"].sse.token is None
    assert rows["sources.fleet.sse.url"] == "http://bridge:8080/events/temp"
    assert rows["sources.fleet.sse.idle_timeout"] == "20s"
    assert not [key for key in rows if ".webhook." in key]
