"""`headrace health`: asks a running server by the configuration's address, with as few imports as that takes.

Containers run it every few seconds, and the settings alone take half a second of a core to import.
"""

from __future__ import annotations

import http.client
import json
import ssl
import tomllib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from string import Template
from typing import Any

from app.cli.faults import Fault
from app.cli.output import show
from ingest.errors import ConfigurationError

_FILE = Path("headrace.toml")
_TIMEOUT_SECONDS = 5.0


def show_health(path: Path | None, environ: Mapping[str, str], *, ready: bool) -> None:
    """Ask /livez, or /readyz where `ready`. Raises Fault for any answer but 200, or none; ConfigurationError."""
    server = _server_table(path or (_FILE if _FILE.exists() else None))
    host = reachable(_setting(server, "host", "127.0.0.1", environ))
    port = _setting(server, "port", "8000", environ)
    has_certificate = _setting(server, "tls_cert", "", environ) != ""
    if not port.isdecimal():
        raise ConfigurationError(f"server.port: expected a number, not {port}")
    answer = _ask(host, int(port), "/readyz" if ready else "/livez", https=has_certificate)
    show(answer)


def reachable(host: str) -> str:
    """Return the address by which this machine reaches a server bound to `host`, an IPv6 one without brackets."""
    bare = host.strip("[]")
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bare, bare)  # noqa: S104 - compared, not bound


def _server_table(file: Path | None) -> Mapping[str, Any]:
    if file is None:
        return {}
    try:
        server = tomllib.loads(file.read_text(encoding="utf-8-sig")).get("server", {})
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file}: the file cannot be read ({error})") from None
    return server if isinstance(server, dict) else {}


def _setting(server: Mapping[str, Any], name: str, default: str, environ: Mapping[str, str]) -> str:
    """Return `server.<name>` as `serve` takes it: the environment goes before the file."""
    text = environ.get(f"HEADRACE_SERVER__{name.upper()}", str(server.get(name, default)))
    try:
        return Template(text).substitute(environ)
    except (KeyError, ValueError):
        raise ConfigurationError(f"server.{name}: what it refers to is not set") from None


def _ask(host: str, port: int, path: str, *, https: bool) -> str:
    """Return a sentence for the answer 200. No certificate is verified: it is made for the name that senders use."""
    connection: http.client.HTTPConnection
    if https:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    with closing(connection):
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Fault(
                f"nothing answers {path} at {host}:{port} ({error or type(error).__name__}); check server.host and "
                "server.port, and that `headrace serve` runs"
            ) from error
    if status != http.HTTPStatus.OK:
        raise Fault(f"{path} at {host}:{port} answered {status}: {_detail(body)}")
    return f"{path} at {host}:{port} answered {status}."


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return "it is no Headrace"
