"""store.url as libpq reads it: what is connected to, and what is refused by its option with what to write instead."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigurationError
from storage.postgres_url import read_postgres_url

HOSTS = {
    "postgresql://u@h/d": [("h", None)],
    "postgres://u@h:6543/d": [("h", 6543)],
    "postgresql://": [(None, None)],
    "postgresql:///d": [(None, None)],
    "postgresql://u@h1:5432,h2:5433/d": [("h1", 5432), ("h2", 5433)],
    "postgresql://h1,h2:6000/d": [("h1", None), ("h2", 6000)],
    "postgresql://h1,h2/d?port=6000": [("h1", 6000), ("h2", 6000)],
    "postgresql://u@/d?host=h1,h2&port=1,2": [("h1", 1), ("h2", 2)],
    "postgresql://u@%2Frun%2Fpostgresql/d": [("/run/postgresql", None)],
    "postgresql://u@%2Frun%2Fpostgresql:6000,h/d": [("/run/postgresql", 6000), ("h", None)],
    "postgresql://u@/d?host=/run/postgresql": [("/run/postgresql", None)],
    "postgresql://u:p@[2001:db8::1]:5433,[::1]/d": [("2001:db8::1", 5433), ("::1", None)],
}


@pytest.mark.parametrize("url", HOSTS)
def test_the_servers(url: str) -> None:
    """One or several, names, addresses and folders of sockets, in the authority or behind it."""
    assert list(read_postgres_url(url).hosts) == HOSTS[url]


ARGUMENTS: dict[str, dict[str, Any]] = {
    "postgresql://u:p%40ss@h/d%20b": {"user": "u", "password": "p@ss", "database": "d b"},
    "postgresql://h/?user=u&password=p%26q&dbname=d": {"user": "u", "password": "p&q", "database": "d"},
    "postgresql://h?application_name=fleet": {"server_settings": {"application_name": "fleet"}},
    "postgresql://h?fallback_application_name=a": {"server_settings": {"application_name": "a"}},
    "postgresql://h?options=-csearch_path%3Dfleet": {"server_settings": {"options": "-csearch_path=fleet"}},
    "postgresql://h?sslmode=require&channel_binding=prefer": {"dsn": "postgresql:///?sslmode=require"},
    "postgresql://h?ssl=require": {"dsn": "postgresql:///?sslmode=require"},
    "postgresql://h?ssl=true": {"dsn": "postgresql:///?sslmode=require"},
    "postgresql://h?target_session_attrs=primary": {"target_session_attrs": "primary"},
    "postgresql://h?target_session_attrs=any": {},
    "postgresql://a,b": {"target_session_attrs": "read-write"},
    "postgresql://h?gssencmode=disable&client_encoding=utf8": {},
}


@pytest.mark.parametrize("url", ARGUMENTS)
def test_what_the_driver_is_given(url: str) -> None:
    """Everything that the driver can do reaches it, decoded; of several servers the one that takes writes is meant."""
    assert read_postgres_url(url).arguments == ARGUMENTS[url]


@pytest.mark.parametrize(("text", "seconds"), [("", 5.0), ("?connect_timeout=0", 5.0), ("?connect_timeout=-1", 5.0),
                                               ("?connect_timeout=1", 2.0), ("?connect_timeout=30", 30.0)])  # fmt: skip
def test_how_long_a_connection_may_take(text: str, seconds: float) -> None:
    """In seconds for each server, two at least as in libpq; without a number of ours."""
    assert read_postgres_url(f"postgresql://h/d{text}").seconds == seconds


def test_files_and_authorities(tmp_path: Path) -> None:
    """A certificate file that is there, or the machine's authorities by the name that libpq gave them."""
    root = tmp_path / "root.crt"
    root.touch()
    url = f"postgresql://h/d?sslmode=verify-full&sslrootcert={quote(str(root), safe='')}"
    assert str(root) in read_postgres_url(url).arguments["dsn"].replace("%2F", "/")
    for text in ("sslrootcert=system", "sslmode=verify-full&sslrootcert=system"):
        arguments = read_postgres_url(f"postgresql://h/d?{text}").arguments
        assert arguments["ssl"].verify_mode is ssl.CERT_REQUIRED
        assert "dsn" not in arguments


REFUSED = {
    "channel_binding=require": "channel_binding: the driver cannot bind .* write sslmode=verify-full",
    "gssencmode=require": "gssencmode: .* write sslmode=require",
    "sslmode=required": "sslmode: expected disable, allow, prefer, require, verify-ca, verify-full",
    "sslmode=": "sslmode: expected a value, or leave it out",
    "sslrootcert=/none/root.crt": "sslrootcert: expected a file that is there",
    "sslmode=require&sslrootcert=system": "sslmode: expected verify-full with sslrootcert=system",
    "sslnegotiation=maybe": "sslnegotiation: expected postgres, direct",
    "target_session_attrs=standby": "target_session_attrs: expected read-write, primary or any",
    "target_session_attrs=prefer-standby": "target_session_attrs: expected read-write, primary or any",
    "load_balance_hosts=random": "load_balance_hosts: hosts are tried in order",
    "client_encoding=LATIN1": "client_encoding: texts are UTF-8",
    "connect_timeout=soon": "connect_timeout: expected a whole number of seconds",
    "hostaddr=10.0.0.1": "the option hostaddr is not supported here; write the address as the host",
    "service=main": "the option service is not supported here; write its host",
    "schema=fleet": "the option schema is not supported here; write options=-csearch_path%3DNAME",
    "pgbouncer=true": "the option pgbouncer is not supported here; leave it out: a pooler",
    "keepalives=1": "the option keepalives is not supported here; leave it out",
    "colour=blue": "the option colour is not supported here; leave it out",
    "sslmode": "expected NAME=VALUE behind the ?",
    "port=0": "with a number from 1 to 65535 as its port",
    "port=1,2": "with a number from 1 to 65535 as its port",
    "host=a,,b": "host: expected a name or an address between commas",
}


@pytest.mark.parametrize("option", REFUSED)
def test_what_the_driver_cannot_do_is_refused(option: str) -> None:
    """By its name, with what to write instead."""
    with pytest.raises(ConfigurationError, match=f"^store.url: .*{REFUSED[option]}"):
        read_postgres_url(f"postgresql://u:hush@h/d?{option}")


def test_verifying_needs_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file of authorities a server's certificate could not be verified: libpq's usual one counts too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    with pytest.raises(ConfigurationError, match="sslrootcert: required with sslmode=verify"):
        read_postgres_url("postgresql://h/d?sslmode=verify-full")
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    read_postgres_url("postgresql://h/d?sslmode=verify-full")


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@given(NAMES, NAMES, NAMES, st.lists(st.tuples(st.from_regex(r"[a-z][a-z0-9.-]{0,9}", fullmatch=True),
                                               st.none() | st.integers(1, 65535)), min_size=1, max_size=3))  # fmt: skip
def test_whatever_is_encoded_comes_back(
    user: str, password: str, name: str, hosts: list[tuple[str, int | None]]
) -> None:
    """User, password, database and servers are what was percent-encoded, whatever characters they have."""
    place = ",".join(host if port is None else f"{host}:{port}" for host, port in hosts)
    parts = [quote(part, safe="") for part in (user, password, name)]
    target = read_postgres_url("postgresql://{}:{}@{}/{}".format(*parts[:2], place, parts[2]))
    assert list(target.hosts) == hosts
    given = {key: target.arguments[key] for key in ("user", "password", "database")}
    assert given == {"user": user, "password": password, "database": name}


@given(st.text(st.sampled_from("ab:@/?,=&%[]1\0é"), max_size=30))
def test_no_error_shows_what_may_be_the_password(text: str) -> None:
    """Any text behind the scheme is read or refused as a configuration is, and never shown."""
    said = ""
    try:
        read_postgres_url(f"postgresql://bob:HUSH{text}")
    except ConfigurationError as error:
        said = str(error)
    assert "HUSH" not in said
