"""Real nginx and HAProxy with the very files of deploy/: only addresses and folders are others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.promtool import DEPLOY
from tests.support.proxies import program, serving
from tests.support.server import free_port

# What a distribution's own nginx.conf brings, as far as ours relies on it.
_NGINX_MAIN = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/headrace.conf;
}}
"""


def nginx_command(folder: Path, port: int, servers: Sequence[int]) -> Sequence[str]:
    """Write nginx's files into `folder`, for a port and the ports of servers; the command that runs it."""
    config = (DEPLOY / "nginx" / "headrace.conf").read_text()
    for ours, here in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "/etc/nginx/headrace-servers.conf": f"{folder}/servers.conf",
        "/var/log/nginx/": f"{folder}/",
    }.items():
        assert ours in config, ours
        config = config.replace(ours, here)
    (folder / "headrace.conf").write_text(config)
    (folder / "servers.conf").write_text(_addressed((DEPLOY / "nginx" / "servers.conf").read_text(), servers))
    (folder / "nginx.conf").write_text(_NGINX_MAIN.format(folder=folder))
    return [program("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def haproxy_command(folder: Path, port: int, servers: Sequence[int]) -> Sequence[str]:
    """Write HAProxy's file into `folder`, for a port and the ports of servers; the command that runs it."""
    config = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
    assert "bind :80\n" in config
    config = _addressed(config.replace("bind :80\n", f"bind 127.0.0.1:{port}\n"), servers)
    (folder / "haproxy.cfg").write_text(config)
    return [program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


BALANCERS = {"nginx": nginx_command, "haproxy": haproxy_command}


@contextmanager
def balancing(name: str, folder: Path, servers: Sequence[int]) -> Iterator[int]:
    """The port of that balancer in front of the servers' ports, while the block lasts. Its log is `balancer.log`."""
    folder.mkdir()
    folder.chmod(0o755)  # nginx's workers are another user
    port = free_port()
    command = BALANCERS[name](folder, port, servers)
    yield from serving(command, folder / "balancer", port)


def _addressed(text: str, servers: Sequence[int]) -> str:
    """Return a file with our ports; what it says of the second server holds for those that it does not know."""
    second = [line for line in text.splitlines() if "headrace-2:8000" in line]
    for line in {*second}:
        more = [line.replace("headrace-2", f"headrace-{number}") for number in range(3, len(servers) + 1)]
        text = text.replace(line, "\n".join([line, *more]))
    for number, port in enumerate(servers, 1):
        assert f"headrace-{number}:8000" in text
        text = text.replace(f"headrace-{number}:8000", f"127.0.0.1:{port}")
    return text
