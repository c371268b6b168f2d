"""References in strings, and secrets: looked up, re-read when their file changes, shown nowhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.settings import Settings, describe, load, masked_text, masked_url
from ingest.errors import ConfigurationError

BEARER = "[sources.fleet.webhook.auth]\ntype = 'bearer'\nsecrets = "


def loaded(
    tmp_path: Path, text: str, environ: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
) -> Settings:
    """The settings that `text` as headrace.toml gives."""
    file = tmp_path / "headrace.toml"
    file.write_text(text)
    return load(file, environ or {}, clock=clock)


def current(settings: Settings) -> tuple[str, ...]:
    """The secrets of the fleet's webhook in force."""
    return tuple(secret.value() for secret in settings.sources["fleet"].webhook.auth.secrets)


def test_references_in_any_string(tmp_path: Path) -> None:
    """Environment, file (relative to the configuration file) and dollar may stand together in one string."""
    (tmp_path / "part").write_text("tank\n")
    settings = loaded(
        tmp_path,
        '[server]\nport = "${PORT}"\n[sources.fleet]\nproduct = "$$5-${A}-${file:part}"\n',
        {"PORT": "8123", "A": "${B}$$"},
    )
    assert settings.server.port == 8123
    assert settings.sources["fleet"].product == "$5-${B}$$-tank"


def test_references_in_the_environment_s_own_values(tmp_path: Path) -> None:
    """A value that overrides a key may refer to others, like one in the file."""
    settings = loaded(tmp_path, "", {"HEADRACE_STORE__URL": "${DATABASE_URL}", "DATABASE_URL": "postgres://h/d"})
    assert settings.store.url.value() == "postgres://h/d"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("${UNSET}", "the environment variable UNSET is not set"),
        ("${file:absent}", "/absent cannot be read"),
        ("${file:bytes}", "/bytes cannot be read"),
        ("a$b", "where a single $ stands"),
        ("$UNSET", "where a single $ stands"),
        ("${}", "where a single $ stands"),
        ("${open", "where a single $ stands"),
    ],
)
def test_a_reference_that_leads_nowhere_names_the_key(tmp_path: Path, text: str, fault: str) -> None:
    """Unset, unreadable and misspelt references are faults of their key; none is taken as the value itself."""
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError) as refusal:
        loaded(tmp_path, f"{BEARER}['good', '{text}']\n")
    assert str(refusal.value).startswith("sources.fleet.webhook.auth.secrets[1]: ")
    assert fault in str(refusal.value)


def test_references_of_modes_that_are_not_chosen_may_be_unset(tmp_path: Path) -> None:
    """Changing the mode is one line, so the other modes' tables stay in the file, with or without their secrets."""
    settings = loaded(
        tmp_path,
        """
        [sources.fleet]
        mode = "${MODE}"
        [sources.fleet.sse]
        url = "${UNSET_URL}"
        token = "${UNSET_TOKEN}"
        [sources.fleet.pubsub]
        subscription = "projects/${UNSET_PROJECT}/subscriptions/s"
        """,
        {"MODE": "webhook"},
    )
    assert settings.sources["fleet"].sse.url == "https://api.particle.io/v1/products/fleet/events"


def test_a_secret_follows_its_file(tmp_path: Path) -> None:
    """A rotated file counts within a second, whether written in place or replaced."""
    key = tmp_path / "key"
    key.write_text("first\n")
    settings = loaded(tmp_path, f"{BEARER}['${{file:key}}', 'pre-${{file:key}}']\n", clock=count().__next__)
    assert current(settings) == ("first", "pre-first")
    key.write_bytes(b"second-one\n")
    assert current(settings) == ("second-one", "pre-second-one")
    before = key.stat()
    (tmp_path / "new").write_text("third-time!")
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(tmp_path / "new", key)
    assert (key.stat().st_mtime_ns, key.stat().st_size) == (before.st_mtime_ns, before.st_size)
    assert current(settings) == ("third-time!", "pre-third-time!")


def test_a_file_is_not_looked_at_for_every_request(tmp_path: Path) -> None:
    """Within a second the text stays the one that was read: a request costs no system call."""
    (tmp_path / "key").write_text("first")
    settings = loaded(tmp_path, f"{BEARER}'${{file:key}}'\n", clock=lambda: 0.0)
    (tmp_path / "key").write_text("second")
    assert current(settings) == ("first",)


def test_a_secret_outlives_its_file(tmp_path: Path) -> None:
    """A file that is away or unreadable in the middle of a rotation fails no request."""
    key = tmp_path / "key"
    key.write_text("first\n")
    settings = loaded(tmp_path, f"{BEARER}'${{file:key}}'\n", clock=count().__next__)
    key.unlink()
    assert current(settings) == ("first",)
    key.write_bytes(b"\xff\xff")
    assert current(settings) == ("first",)
    key.write_text("second")
    assert current(settings) == ("second",)


def test_a_secret_whose_file_is_gone_is_named(tmp_path: Path) -> None:
    """Its key and the reason are told as long as that lasts, and each change is logged once."""
    (tmp_path / "key").write_text("first\n")
    settings = loaded(tmp_path, f"{BEARER}['plain', '${{file:key}}']\n", clock=count().__next__)
    (file,) = settings.secret_files
    assert (file.key, file.fault()) == ("sources.fleet.webhook.auth.secrets[1]", None)
    with capture_logs() as logs:
        (tmp_path / "key").unlink()
        assert [file.fault(), file.fault()] == ["its file is gone"] * 2
        assert current(settings) == ("plain", "first")
        (tmp_path / "key").write_bytes(b"\xff")
        assert file.fault() == "its file cannot be read (expected UTF-8)"
        (tmp_path / "key").write_text("second")
        assert file.fault() is None
    assert [(line["event"], line["key"]) for line in logs] == [
        ("secret_not_read", file.key),
        ("secret_not_read", file.key),
        ("secret_read_again", file.key),
    ]


def test_several_secrets_or_one(tmp_path: Path) -> None:
    """`secrets` takes a text or a list; a comma in the file is part of the secret."""
    assert current(loaded(tmp_path, f"{BEARER}'a,b'\n")) == ("a,b",)
    assert current(loaded(tmp_path, f"{BEARER}['a', 'b']\n")) == ("a", "b")


def test_secrets_show_nowhere(tmp_path: Path) -> None:
    """No repr, text, dump or description of the settings holds a secret or a password."""
    (tmp_path / "key").write_text("hush-8")
    settings = loaded(
        tmp_path,
        """
        [access]
        read_tokens = ["hush-1"]
        admin_tokens = ["${TOKEN}"]
        [store]
        url = "postgres://user:hush-3@h/d?sslpassword=hush-4"
        [sources.fleet.webhook]
        auth = { type = "basic", secrets = ["user:hush-5", "${file:key}:hush-6"] }
        [sources.fleet.sse]
        token = "hush-7"
        """,
        {"TOKEN": "hush-2"},
    )
    shown = [repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()]
    shown += [repr(describe(settings)), repr(settings.store.url), str(settings.access.read_tokens[0])]
    assert not [text for text in shown if "hush" in text]
    assert settings.access.admin_tokens[0].value() == "hush-2"
    assert current(settings) == ("user:hush-5", "hush-8:hush-6")
    assert dict(describe(settings))["store.url"] == "postgres://user:********@h/d?sslpassword=********"


def test_faults_show_no_value(tmp_path: Path) -> None:
    """A refusal never repeats what stands in the file or the environment, and has no cause that does."""
    text = """
    [server]
    port = "${TOKEN}"
    token = "hush"
    [access]
    open = "hush"
    read_tokens = { a = "hush" }
    admin_tokens = ["hush$"]
    [store]
    url = "mysql://u:hush@h"
    retention = "hush"
    [sources.fleet]
    mode = "hush"
    secrets = "hush"
    [sources.fleet.webhook]
    path = "hush"
    auth = { type = "basic", secrets = "hush", name = "hush" }
    """
    with pytest.raises(ConfigurationError) as refusal:
        loaded(tmp_path, text, {"TOKEN": "hush", "HEADRACE_STORE__INBOX_EVENTS": "hush"})
    assert len(str(refusal.value).splitlines()) == 13
    assert "hush" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("sqlite:////var/lib/headrace.db", "sqlite:////var/lib/headrace.db"),
        ("postgres://h:5432/d?sslmode=require", "postgres://h:5432/d?sslmode=require"),
        ("postgres://u:p@h:5432/d", "postgres://u:********@h:5432/d"),
        ("postgres://u:p@ss/w:rd#?@h/d", "postgres://u:********@h/d"),
        ("postgres://:p@h/d", "postgres://:********@h/d"),
        ("postgresql://u:p/d", "postgresql://u:********"),
        ("postgresql://u:p", "postgresql://u:********"),
        ("postgresql://u:p/w?x=y", "postgresql://u:********"),
        ("postgresql://u:123456/d", "postgresql://u:********"),
        ("postgresql://u:p@h:x/d", "postgresql://u:********@h:x/d"),
        ("postgresql://[::1]:5432/d", "postgresql://[::1]:5432/d"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("postgres:///d?host=/run&user=u&password=p&x=1", "postgres:///d?host=/run&user=u&password=********&x=1"),
    ],
)
def test_masked_url(url: str, masked: str) -> None:
    """A URL shows where it leads, and no password, even one with characters that should have been escaped."""
    assert masked_url(url) == masked


@pytest.mark.parametrize("query", ["token=hush-hush", "key=hush-hush", "x=1&sig=hush-hush", "a=b;hush-hush"])
def test_a_stream_is_described_without_its_query(tmp_path: Path, query: str) -> None:
    """What is in the query of an SSE URL may be a secret under any name: none of it is shown."""
    text = f"[sources.fleet]\nmode = 'sse'\nsse.url = 'https://events.example/v1?{query}'\n"

    shown = dict(describe(loaded(tmp_path, text)))["sources.fleet.sse.url"]

    assert shown.startswith("https://events.example/v1?")
    assert "hush" not in shown


def test_text_around_urls_stays() -> None:
    """Of an error's text only the secrets in its URLs are masked."""
    text = "cannot reach https://u:p@h/e?token=t nor 'postgres://h/d?sslmode=require' (Errno 5): see http://h:80/x"
    assert masked_text(text) == (
        "cannot reach https://u:********@h/e?token=******** nor 'postgres://h/d?sslmode=require' (Errno 5): see http://h:80/x"
    )
