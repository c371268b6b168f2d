"""PostgreSQL's URLs as libpq reads them and providers issue them; what the driver cannot do is refused by its option.

See <https://www.postgresql.org/docs/current/libpq-connect.html>. No error shows a value: it may be the password.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode

from ingest.errors import ConfigurationError

CONNECT_SECONDS = 5.0  # for each host, where the URL names no other time
_SHORTEST_CONNECT_SECONDS = 2.0  # as in libpq
_LARGEST_PORT = 65_535
_URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<dbname>[^?]*))?(?:\?(?P<options>.*))?",
    re.DOTALL,
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]@]*)(?::(?P<port>\d{1,5}))?")
_NAME = re.compile("[A-Za-z_]{1,40}")
NO_PORT = (
    "store.url: expected postgresql://user:password@host:port/database, with a number from 1 to 65535 as its port; "
    "is the host missing, or a character of the password not percent-encoded?"
)

_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_TLS = (*_FILES, "sslmode", "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version", "sslnegotiation")
_KERBEROS = ("krbsrvname", "gsslib")
_SETTINGS = ("application_name", "options")
_PARTS = ("host", "port", "user", "password", "dbname")
_ONE_OF = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "gsslib": ("gssapi", "sspi"),
}
# What the driver does anyway with these values; of others, what to write instead.
_AS_IT_IS = {
    "channel_binding": (
        ("disable", "prefer"),
        "the driver cannot bind a login to its TLS connection; leave it out, and write sslmode=verify-full, "
        "which proves the server's name",
    ),
    "gssencmode": (("disable", "prefer"), "the driver encrypts by TLS alone; leave it out, and write sslmode=require"),
    "client_encoding": (("utf8", "UTF8", "auto"), "texts are UTF-8; leave it out"),
    "load_balance_hosts": (("disable",), "hosts are tried in order; leave it out, and give each server its own order"),
    "sslcompression": (("0",), "TLS is not compressed; leave it out"),
    "sslsni": (("1",), "the server's name is sent; leave it out"),
    "sslcertmode": (("allow", "disable"), "the driver cannot insist on it; leave it out, and write sslcert and sslkey"),
    "target_session_attrs": (
        ("any", "read-write", "primary"),
        "expected read-write, primary or any: events are written",
    ),
}
_INSTEAD = {
    "hostaddr": "write the address as the host",
    "service": "write its host, port and dbname here",
    "servicefile": "write the service's host, port and dbname here",
    "require_auth": "leave it out, and let the server's pg_hba.conf allow one method alone",
    "requirepeer": "leave it out; the folder of the socket says who may listen there",
    "sslcrldir": "write sslcrl with one file",
    "schema": "write options=-csearch_path%3DNAME",
    "currentSchema": "write options=-csearch_path%3DNAME",
    "search_path": "write options=-csearch_path%3DNAME",
    "user_name": "write user",
    "database": "write dbname, or the name behind the host",
    **dict.fromkeys(("min_protocol_version", "max_protocol_version"), "leave it out: protocol 3.0 is spoken"),
    **dict.fromkeys(
        ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
        "leave it out: no answer is awaited for more than 10 s",
    ),
    **dict.fromkeys(
        ("pgbouncer", "statement_cache_size", "prepared_statement_cache_size", "prepareThreshold", "pool_mode"),
        "leave it out: a pooler that forgets prepared statements is noticed",
    ),
}


class PostgresTarget(NamedTuple):
    """The servers, in order, and how to connect to each: for `asyncpg.connect`. `seconds`: for one of them."""

    hosts: Sequence[tuple[str | None, int | None]]
    arguments: Mapping[str, Any]
    seconds: float

    async def connect(self, **more: Any) -> Any:
        """Return a connection to the first server that takes it, as libpq does; raise what the last one raised."""
        import asyncpg  # SQLite does without

        for number, (host, port) in enumerate(self.hosts, 1):
            try:
                return await asyncpg.connect(host=host, port=port, timeout=self.seconds, **self.arguments, **more)
            except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError):
                if number == len(self.hosts):
                    raise
            except asyncpg.TargetServerAttributeNotMatched:
                if number == len(self.hosts):
                    raise ConnectionError("no server of store.url takes writes") from None
        raise AssertionError("a target has a host")


def read_postgres_url(url: str) -> PostgresTarget:
    """Return how to connect. Raises ConfigurationError, which names the option that is at fault."""
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ConfigurationError("store.url: expected postgresql://user@host/database")
    options = _options(parts["options"])
    hosts = _hosts(parts["hosts"], options)
    arguments = _arguments(options)
    for name, part in (("user", "user"), ("password", "password"), ("database", "dbname")):
        if value := options.get(part) or unquote(parts[part] or ""):
            arguments[name] = value
    if len(hosts) > 1:  # one may be a standby
        arguments.setdefault("target_session_attrs", "read-write")
    return PostgresTarget(hosts, arguments, _connect_seconds(options))


def _options(text: str | None) -> dict[str, str]:
    """Return the options behind the question mark. Raises ConfigurationError for one that is not known, or empty."""
    options: dict[str, str] = {}
    for part in (text or "").split("&") if text else ():
        name, equals, _ = part.partition("=")
        if not equals:
            raise ConfigurationError("store.url: expected NAME=VALUE behind the ?")
        options.update(parse_qsl(part, keep_blank_values=True))
    if "ssl" in options:  # SQLAlchemy's and others' name for it
        mode = options.pop("ssl")
        options.setdefault("sslmode", {"true": "require", "1": "require"}.get(mode, mode))
    known = {*_PARTS, *_TLS, *_KERBEROS, *_SETTINGS, *_AS_IT_IS, "connect_timeout", "fallback_application_name"}
    for name, value in options.items():
        if name not in known:
            shown = name if _NAME.fullmatch(name) else "behind the ?"
            instead = _INSTEAD.get(name, "leave it out")
            raise ConfigurationError(f"store.url: the option {shown} is not supported here; {instead}")
        if not value and name not in _PARTS:
            raise ConfigurationError(f"store.url: {name}: expected a value, or leave it out")
        _require_possible(name, value)
    return options


def _require_possible(name: str, value: str) -> None:
    """Raise ConfigurationError for a value that the driver cannot do, with what to write instead."""
    if name in _ONE_OF and value not in _ONE_OF[name]:
        raise ConfigurationError(f"store.url: {name}: expected {', '.join(_ONE_OF[name])}")
    if name in _AS_IT_IS:
        possible, instead = _AS_IT_IS[name]
        if value not in possible:
            raise ConfigurationError(f"store.url: {name}: {instead}")
    if name in _FILES and not (name == "sslrootcert" and value == "system") and not os.path.isfile(value):
        raise ConfigurationError(f"store.url: {name}: expected a file that is there")


def _hosts(text: str, options: Mapping[str, str]) -> list[tuple[str | None, int | None]]:
    """Return (host, port) of each server; an empty host is where the driver looks by itself."""
    named = [_HOST.fullmatch(host) for host in text.split(",")] if text else []
    if not all(named):
        raise ConfigurationError(NO_PORT)
    hosts = [unquote(found["host"]).strip("[]") for found in named if found]
    ports = [found["port"] for found in named if found]
    hosts = options["host"].split(",") if options.get("host") else hosts or [""]
    if options.get("port"):
        ports = [*options["port"].split(",")]
    ports = ports * len(hosts) if len(ports) == 1 else ports or [None] * len(hosts)
    if len(ports) != len(hosts) or not all(port is None or _is_port(port) for port in ports):
        raise ConfigurationError(NO_PORT)
    if len(hosts) > 1 and not all(hosts):
        raise ConfigurationError("store.url: host: expected a name or an address between commas")
    return [(host or None, int(port) if port else None) for host, port in zip(hosts, ports, strict=True)]


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 1 <= int(text) <= _LARGEST_PORT


def _arguments(options: Mapping[str, str]) -> dict[str, Any]:
    """Return what `asyncpg.connect` takes beside the server; TLS by an address of its own, which it reads as libpq."""
    passed = {name: options[name] for name in (*_TLS, *_KERBEROS) if name in options}
    arguments: dict[str, Any] = {}
    verified = options.get("sslmode", "") in {"verify-ca", "verify-full"}
    if passed.get("sslrootcert") == "system":
        if options.get("sslmode", "verify-full") != "verify-full":
            raise ConfigurationError("store.url: sslmode: expected verify-full with sslrootcert=system")
        del passed["sslrootcert"]
        passed.pop("sslmode", None)
        arguments["ssl"] = ssl.create_default_context()
    elif verified and not ("sslrootcert" in passed or os.environ.get("PGSSLROOTCERT") or _usual_root().is_file()):
        raise ConfigurationError(
            "store.url: sslrootcert: required with sslmode=verify-…: a file, or system for the machine's authorities"
        )
    if passed:
        arguments["dsn"] = f"postgresql:///?{urlencode(passed)}"
    settings = {name: options[name] for name in _SETTINGS if name in options}
    if name := options.get("fallback_application_name"):
        settings.setdefault("application_name", name)
    if settings:
        arguments["server_settings"] = settings
    if options.get("target_session_attrs", "any") != "any":
        arguments["target_session_attrs"] = options["target_session_attrs"]
    return arguments


def _usual_root() -> Path:
    return Path("~/.postgresql/root.crt").expanduser()


def _connect_seconds(options: Mapping[str, str]) -> float:
    text = options.get("connect_timeout", "0")
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise ConfigurationError("store.url: connect_timeout: expected a whole number of seconds")
    seconds = float(text)
    return CONNECT_SECONDS if seconds <= 0 else max(_SHORTEST_CONNECT_SECONDS, seconds)
