"""Who may act where no token is configured: whoever can read what `serve` wrote, and nobody behind a proxy."""

from __future__ import annotations

import http.client
import re
import stat
from pathlib import Path

from tests.support.proxies import plain_nginx
from tests.support.server import Server

ACTION = "/api/v1/handlers/rules/redrive"


def asked(port: int, method: str, path: str, **headers: str) -> int:
    """The status of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, '{"all": true}' if method == "POST" else None, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_serve_makes_a_token_for_actions_and_keeps_it_for_its_user(tmp_path: Path) -> None:
    """It is in headrace.token, 0600 whatever was there, and in the printed link; another start makes another one."""
    kept = tmp_path / "headrace.token"
    kept.write_text("of an earlier run")
    kept.chmod(0o644)
    with Server(tmp_path, "") as server:
        token = kept.read_text().strip()

        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert f"Pages: {server.url}/#token={token}\n" in server.log.read_text()
        assert len(token) >= 32
        assert asked(server.port, "GET", "/api/v1/events") == 200
        assert asked(server.port, "POST", ACTION) == 401
        assert asked(server.port, "POST", ACTION, Authorization="Bearer of an earlier run") == 401
        assert (
            asked(server.port, "POST", ACTION, Authorization=f"Bearer {token}") == 404
        )  # let in: there is no such handler

        server.terminate()
        server.start()
        assert asked(server.port, "POST", ACTION, Authorization=f"Bearer {token}") == 401
    assert [path.name for path in tmp_path.glob("*headrace.token*")] == ["headrace.token"]


def test_a_configured_token_is_the_only_one(tmp_path: Path) -> None:
    """Where an admin token is configured none is made, written or printed."""
    with Server(tmp_path, '[access]\nadmin_tokens = ["a-token-of-the-test"]\n') as server:
        assert not (tmp_path / "headrace.token").exists()
        assert not re.search("token=", server.log.read_text())
        assert asked(server.port, "POST", ACTION, Authorization="Bearer a-token-of-the-test") == 404


def test_a_token_that_cannot_be_kept_does_not_stop_the_service(tmp_path: Path) -> None:
    """In a place where nothing can be written the token is in the printed link only, and the log says so."""
    (tmp_path / "headrace.token").mkdir()
    with Server(tmp_path, "") as server:
        assert "token_not_written" in server.log.read_text()
        found = re.search(r"#token=(\S+)", server.log.read_text())
        assert found
        assert asked(server.port, "POST", ACTION, Authorization=f"Bearer {found[1]}") == 404


def test_nothing_is_open_behind_an_nginx_that_says_nothing(tmp_path: Path) -> None:
    """`proxy_pass http://127.0.0.1:8000` alone sends our own Host and no forwarding header: it opens no data."""
    with Server(tmp_path, "") as server, plain_nginx(tmp_path, server.port) as port:
        assert asked(server.port, "GET", "/livez") == asked(port, "GET", "/livez") == 200
        for path in ("/", "/api/v1/events", "/metrics"):
            assert (asked(server.port, "GET", path), asked(port, "GET", path)) == (200, 403)
        assert asked(port, "POST", ACTION) == 403
