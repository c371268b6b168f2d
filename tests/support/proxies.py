"""Real nginx and HAProxy in front of a port: processes of their own in a folder, gone when their block ends."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.required import missing
from tests.support.server import free_port, wait_until

_STOP_SECONDS = 10.0
# Both share a few connections to the upstream among all clients, pass a long head and a large body on, and give up
# on an upstream that does not answer before the client does.
_NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 4m;
    large_client_header_buffers 4 96k;
    proxy_read_timeout {patience}s;
    upstream headrace {{
        server 127.0.0.1:{upstream};
        keepalive 8;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://headrace;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Request-ID $request_id;
        }}
    }}
}}
"""
_PLAIN = (
    _NGINX[: _NGINX.index("    upstream headrace")]
    + """
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
        }}
    }}
}}
"""
)
_VERIFYING = (
    _NGINX[: _NGINX.index("    upstream headrace")]
    + """
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
        ssl_client_certificate {folder}/clients.pem;
        ssl_verify_client on;
        location / {{
            return 503 $ssl_client_fingerprint;
        }}
    }}
}}
"""
)
_HAPROXY = """
global
    maxconn 1024
    tune.bufsize 98304
    tune.maxrewrite 1024
defaults
    mode http
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server {patience}s
frontend clients
    bind 127.0.0.1:{port}
    unique-id-format %[uuid()]
    unique-id-header X-Request-ID
    default_backend headrace
backend headrace
    server only 127.0.0.1:{upstream}
"""


@contextmanager
def nginx(folder: Path, upstream: int, *, patience_seconds: int = 10) -> Iterator[int]:
    """The port of an nginx with keep-alive connections to the upstream port."""
    config = _configured(folder / "nginx.conf", _NGINX, upstream, patience_seconds)
    yield from serving([program("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(config[0])], *config)


@contextmanager
def plain_nginx(folder: Path, upstream: int) -> Iterator[int]:
    """The port of an nginx that was told nothing but where the upstream is."""
    config = _configured(folder / "nginx.conf", _PLAIN, upstream, 10)
    yield from serving([program("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(config[0])], *config)


@contextmanager
def verifying_nginx(folder: Path) -> Iterator[int]:
    """The port of an nginx that answers 503 with the fingerprint (SHA-1, hex) of its client's certificate.

    `folder` has certificate.pem and key.pem of its own, and clients.pem, which are those that it believes.
    """
    config = _configured(folder / "nginx.conf", _VERIFYING, 0, 10)
    yield from serving([program("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(config[0])], *config)


@contextmanager
def haproxy(folder: Path, upstream: int, *, patience_seconds: int = 10) -> Iterator[int]:
    """The port of a HAProxy that lets all clients use any connection to the upstream port."""
    config = _configured(folder / "haproxy.cfg", _HAPROXY, upstream, patience_seconds)
    yield from serving([program("haproxy"), "-db", "-f", str(config[0])], *config)


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def program(name: str) -> str:
    """Return where a program is; Debian keeps these where only root looks. Skips the test where it is missing."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin") or missing(f"{name} is missing")


def _configured(path: Path, text: str, upstream: int, patience_seconds: int) -> tuple[Path, int]:
    port = free_port()
    path.write_text(text.format(folder=path.parent, port=port, upstream=upstream, patience=patience_seconds))
    return path, port


def serving(command: Sequence[str], config: Path, port: int) -> Iterator[int]:
    """Run a proxy, whose log is beside `config`; yield its port when it listens, and end it."""
    log = config.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)

    def ready() -> bool:
        assert process.poll() is None, f"{command[0]} ended\n{log.read_text(errors='replace')}"
        return listens(port)

    try:
        wait_until(ready, 20, f"{command[0]} does not listen")
        yield port
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
