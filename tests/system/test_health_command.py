"""`headrace health`, which containers run every few seconds. Imports nothing of the product."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.server import Server, wait_until
from tests.support.tls import make_certificate

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = ("app.settings", "storage", "sqlalchemy", "fastapi", "uvicorn", "httpx")


def environment(**more: str) -> dict[str, str]:
    """Ours without HEADRACE_ settings, with the checkout importable, and a proxy that a health check must not use."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return inherited | {"PYTHONPATH": str(CHECKOUT), "http_proxy": "http://127.0.0.1:1"} | more


def health(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "app.cli", "health", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(**variables), capture_output=True, text=True, check=False, timeout=30
    )


def serving(server: Server) -> dict[str, str]:
    """Return the environment that says where the server listens."""
    return {"HEADRACE_SERVER__PORT": str(server.port)}


def test_a_running_server_is_healthy_until_it_is_gone(tmp_path: Path) -> None:
    """Exit 0 while the server answers, without any secret; 1 and a sentence that says what to do when it is gone."""
    config = """
        [sources.fleet.webhook]
        auth = { type = "header", name = "X-Key", secrets = ["${HOOK_SECRET}"] }
        """
    with Server(tmp_path, config, environment={"HOOK_SECRET": "h"}) as server:
        for arguments in ((), ("--ready",)):
            done = health(tmp_path, *arguments, **serving(server))
            assert (done.returncode, done.stderr) == (0, "")
    done = health(tmp_path, **serving(server))
    assert done.returncode == 1
    assert "check server.host and server.port" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_server_with_a_certificate(tmp_path: Path) -> None:
    """Where the configuration has a certificate the server is asked by TLS, whatever name the certificate is for."""
    make_certificate(tmp_path, host="192.0.2.1")
    config = '[server]\ntls_cert = "certificate.pem"\ntls_key = "key.pem"\n'
    with Server(tmp_path, config, https=True) as server:
        assert health(tmp_path, **serving(server)).returncode == 0


def test_a_draining_server_lives_but_is_not_ready(tmp_path: Path) -> None:
    """While it drains /livez is 200 and /readyz is 503: --ready exits with 1 and says why."""
    with Server(tmp_path, '[server]\ndrain_delay = "20s"\n') as server:
        server.signal(signal.SIGTERM)
        wait_until(lambda: health(tmp_path, "--ready", **serving(server)).returncode == 1, 15, "still ready")
        done = health(tmp_path, "--ready", **serving(server))
        assert "draining" in done.stderr
        assert health(tmp_path, **serving(server)).returncode == 0


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port of an HTTP server that is no Headrace."""

    class NotFound(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), NotFound)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_another_answer_is_no_health(tmp_path: Path, stranger: int) -> None:
    """Whoever answers anything but 200 is not healthy."""
    (tmp_path / "headrace.toml").write_text(f"[server]\nport = {stranger}\n")
    done = health(tmp_path)
    assert done.returncode == 1
    assert "answered 404" in done.stderr


@pytest.mark.parametrize(
    ("config", "variables", "code"),
    [
        ("[server]\nport = 1", {}, 1),
        ("[server]\nhost = '0.0.0.0'\nport = '${PORT}'", {"PORT": "{port}"}, 0),
        ("[server]\nhost = '::1'", {"HEADRACE_SERVER__HOST": "127.0.0.1", "HEADRACE_SERVER__PORT": "{port}"}, 0),
        ("[server]\nport = '${PORT}'", {}, 2),
        ("[server]\nport = 'many'", {}, 2),
        ("[server", {}, 2),
    ],
)
def test_the_address_is_that_of_the_configuration(
    tmp_path: Path, config: str, variables: dict[str, str], code: int, served: Server
) -> None:
    """File, environment and references say where to ask; a fault in them ends with 2 and names the key or the file."""
    (tmp_path / "asked.toml").write_text(config)
    filled = {name: value.format(port=served.port) for name, value in variables.items()}
    done = health(tmp_path, "--config", "asked.toml", **filled)
    assert done.returncode == code, done.stderr
    if code == 2:
        assert "server.port" in done.stderr or "asked.toml" in done.stderr


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that all of these may ask."""
    with Server(tmp_path_factory.mktemp("served"), "") as server:
        yield server


def test_it_imports_little(tmp_path: Path, served: Server) -> None:
    """It is run every few seconds: neither the settings nor a framework are imported for it."""
    asked = (
        "import sys; from app.cli import run; run(['health']); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    variables = environment(**serving(served))
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
