"""`headrace check --connect` tries what the sources would open: the real emulator, and streams over real sockets."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.support.emulator import Queue, new_queue, session_emulator
from tests.support.server import free_port
from tests.support.sse_upstream import an_answer, sse_upstream
from tests.system.test_cli import headrace

KEY = "sources.fleet.pubsub.subscription"
PROXIES = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), "")


def check(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Check the configuration of this folder."""
    return headrace(folder, "check", *options, **PROXIES, **variables)


def subscribe(folder: Path, subscription: str) -> None:
    """Configure a source that pulls."""
    text = f'[sources.fleet]\nmode = "pubsub"\n[sources.fleet.pubsub]\nsubscription = "{subscription}"\n'
    (folder / "headrace.toml").write_text(text)


def listen(folder: Path, url: str) -> None:
    """Configure a source that listens."""
    text = f'[sources.fleet]\nmode = "sse"\n[sources.fleet.sse]\nurl = "{url}"\ntoken = "t0ken-3f"\n'
    (folder / "headrace.toml").write_text(text)


def assert_faulty(done: subprocess.CompletedProcess[str], key: str, said: str) -> None:
    """Exit 2, and one plain sentence on stderr that begins with the key."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"{key}: {said}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert "t0ken-3f" not in done.stdout + done.stderr


def test_a_subscription_that_can_be_pulled(tmp_path: Path) -> None:
    """A line says so, and the command ends well; without --connect nothing is tried."""
    host = session_emulator().host
    subscribe(tmp_path, new_queue(host).subscription)
    done = check(tmp_path, "--connect", PUBSUB_EMULATOR_HOST=host)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{KEY}: can be pulled\n" in done.stdout
    assert "can be pulled" not in check(tmp_path, PUBSUB_EMULATOR_HOST=host).stdout


def test_subscriptions_that_cannot_be_pulled(tmp_path: Path) -> None:
    """One that is not there, one that pushes, a server that is away: each ends with 2 and names the key."""
    host = session_emulator().host
    missing = Queue(host, "", "projects/tests/subscriptions/missing")
    pushing = new_queue(host, push_config={"push_endpoint": "http://127.0.0.1:1/"})
    for queue, server, said in (
        (missing, host, "the subscription does not exist"),
        (pushing, host, "the subscription pushes its messages"),
        (missing, f"127.0.0.1:{free_port()}", "the server cannot be reached"),
    ):
        subscribe(tmp_path, queue.subscription)
        assert check(tmp_path).returncode == 0
        assert_faulty(check(tmp_path, "--connect", PUBSUB_EMULATOR_HOST=server), KEY, said)


@pytest.mark.parametrize("key_file", ["", "not-there.json", "broken.json"])
def test_without_credentials(key_file: str, tmp_path: Path) -> None:
    """Where there are none, or the file that is named is none, the sentence says which variable to set."""
    subscribe(tmp_path, "projects/tests/subscriptions/headrace")
    (tmp_path / "broken.json").write_text('{"type": "service_account"}')
    nowhere = {"HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path), "NO_GCE_CHECK": "true"}
    done = check(tmp_path, "--connect", PUBSUB_EMULATOR_HOST="", GOOGLE_APPLICATION_CREDENTIALS=key_file, **nowhere)
    assert_faulty(done, KEY, "no credentials: set GOOGLE_APPLICATION_CREDENTIALS")
    assert key_file in done.stderr
    assert "Error" not in done.stderr


def test_googles_keys_that_cannot_be_fetched(tmp_path: Path) -> None:
    """Behind a proxy that is away no pushed message could be let in: the key is named."""
    auth = '{ type = "google-oidc", audience = "headrace", email = "push@project.iam.gserviceaccount.com" }'
    (tmp_path / "headrace.toml").write_text(f"[sources.fleet.webhook]\nauth = {auth}\n")
    proxy = PROXIES | {"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}", "NO_PROXY": "", "no_proxy": ""}
    done = headrace(tmp_path, "check", "--connect", **proxy)
    assert_faulty(done, "sources.fleet.webhook.auth", "cannot fetch the keys that Google signs with")
    assert "signing_keys" not in done.stdout
    assert headrace(tmp_path, "check").returncode == 0


async def test_a_stream_that_answers(tmp_path: Path) -> None:
    """A line says so, and the command ends well."""
    async with sse_upstream() as upstream:
        listen(tmp_path, upstream.url)
        done = await asyncio.to_thread(check, tmp_path, "--connect")
        assert (done.returncode, done.stderr) == (0, "")
        assert "sources.fleet.sse.url: answers with an event stream\n" in done.stdout
        assert [request.headers["authorization"] for request in upstream.requests] == ["Bearer t0ken-3f"]


@pytest.mark.parametrize(
    ("status", "key", "said"),
    [
        ("401 Unauthorized", "sources.fleet.sse.token", "upstream answered 401"),
        ("404 Not Found", "sources.fleet.sse.url", "upstream answered 404"),
    ],
)
async def test_a_stream_that_is_refused(status: str, key: str, said: str, tmp_path: Path) -> None:
    """The key that is at fault is named: the token where upstream does not take it, else the address."""
    async with sse_upstream() as upstream:
        upstream.answers.append(an_answer(status))
        listen(tmp_path, upstream.url)
        assert_faulty(await asyncio.to_thread(check, tmp_path, "--connect"), key, said)


def test_a_stream_that_is_away(tmp_path: Path) -> None:
    """Nobody listens there."""
    listen(tmp_path, f"http://127.0.0.1:{free_port()}/v1/events")
    assert_faulty(check(tmp_path, "--connect"), "sources.fleet.sse.url", "no connection")
