"""A real nginx in front of a server, set up as its users do: connections are kept, each request gets an id."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.subjects import listens
from tests.support.server import free_port, wait_until

_CONFIG = """
worker_processes auto;
daemon off;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream served {
        server %(upstream)s;
        keepalive 64;
    }
    server {
        listen 127.0.0.1:%(port)d;
        location / {
            proxy_pass http://served;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Request-ID $request_id;
        }
    }
}
"""


def installed() -> bool:
    """Return whether there is an nginx."""
    return shutil.which("nginx") is not None


@contextmanager
def behind_nginx(url: str, folder: Path) -> Iterator[str]:
    """The URL of an nginx that passes all to the server at `url`. It is gone when the block ends."""
    port = free_port()
    (folder / "nginx.conf").write_text(_CONFIG % {"upstream": urlsplit(url).netloc, "port": port})
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"])
    try:
        wait_until(lambda: listens(port), 30, "nginx does not listen")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()  # the master ends its workers
        process.wait()
