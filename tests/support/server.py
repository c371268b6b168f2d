"""A Headrace server as its users start it: a process of its own with a configuration file in a folder.

Leaving the block ends the process, whatever the test did. One that is stopped in order must have lost nothing.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.losses import RESTARTED, losses_in

PATIENCE_SECONDS = 120.0  # with what has no deadline of its own: far more than the busiest machine needs
EXIT_SECONDS = 25.0
_OPEN_METRICS = {"HEADRACE_ACCESS__OPEN_METRICS": "true"}


class Server:
    """`headrace serve` on a free port of 127.0.0.1, restartable on the same one. Its log is `server.log`.

    `environment` is added to ours; `https` says that the configuration has a certificate.
    While it is ready, SIGTERM, SIGINT and the end of the block without an error first ask for its metrics: each that
    speaks of losses must be 0, but for the `losses` that the test declares, as parts of their samples. Where the test
    started it again or suspended it, the gaps that follow from that are no fault.
    """

    def __init__(
        self,
        folder: Path,
        config: str,
        *,
        environment: Mapping[str, str] | None = None,
        https: bool = False,
        losses: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "server.log"
        self.config = folder / "headrace.toml"
        self.config.write_text(config)
        self.https = https
        opened = _OPEN_METRICS if "_tokens" in config else {}
        self.environment = clean_environment() | opened | dict(environment or {})
        self._losses = {*losses}
        self._ready = False  # and nobody told it to stop since
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None:
                self._lost_nothing()
            else:
                error.add_note(f"--- end of {self.log}\n{self.log_tail()}")
        finally:
            self.kill()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self.https else 'http'}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The id of the running process."""
        return self._running().pid

    def migrate(self) -> None:
        """Bring the database to the newest schema: what an operator does before the first start on PostgreSQL."""
        done = subprocess.run(
            self._command("migrate"),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"headrace migrate: {done.stderr.decode(errors='replace')}"

    def start(self) -> None:
        """Start, and return when /readyz says so."""
        self.launch()
        self.wait_ready()

    def launch(self) -> subprocess.Popen[bytes]:
        """Start, and return at once."""
        if self.log.exists():
            self._losses.update(RESTARTED)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("serve", "--host", "127.0.0.1", "--port", str(self.port)),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,
            )
        return self._process

    def wait_ready(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Return when /readyz answers 200. Raises AssertionError after `seconds`, or if the process ended."""
        wait_until(self._answers_ready, seconds, lambda: f"the server is not ready\n{self.log_tail()}")
        self._ready = True

    def terminate(self, seconds: float = EXIT_SECONDS) -> int:
        """SIGTERM; the exit code. Raises AssertionError if it is still running after `seconds`."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = EXIT_SECONDS) -> int:
        """The exit code of a server that was told to stop."""
        try:
            return self._running().wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running {seconds} s after the signal\n{self.log_tail()}") from None

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes, as where a machine stops."""
        os.killpg(self._running().pid, number)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal and return at once."""
        if number in (signal.SIGTERM, signal.SIGINT):
            self._lost_nothing()
        elif number == signal.SIGSTOP:
            self._losses.update(RESTARTED)
        self._running().send_signal(number)

    def kill(self) -> None:
        """SIGKILL the whole process group, if any of it runs; reaped when this returns."""
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process, self._ready = None, False

    def log_tail(self, size: int = 4000) -> str:
        """The last `size` characters the server wrote."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else "(nothing written)"

    def _lost_nothing(self) -> None:
        """Raise AssertionError where a server that is ready shows a loss that was not declared."""
        if not self._ready or self._running().poll() is not None:
            return
        self._ready = False
        status, metrics = self._get("/metrics", PATIENCE_SECONDS)
        assert status == 200, f"/metrics answers {status}: {metrics}"
        found = losses_in(metrics, self._losses)
        assert not found, "\n".join(["losses in a healthy run:", *found, f"--- end of {self.log}", self.log_tail()])

    def _command(self, *words: str) -> list[str]:
        command, *arguments = words
        return [sys.executable, "-m", "app.cli", command, "--config", str(self.config), *arguments]

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was not started"
        return self._process

    def _answers_ready(self) -> bool:
        assert self._running().poll() is None, f"the server ended: {self._running().returncode}\n{self.log_tail()}"
        try:
            return self._get("/readyz", 2.0)[0] == 200
        except OSError:
            return False

    def _get(self, path: str, seconds: float) -> tuple[int, str]:
        """The status and text of an answer, whatever the certificate."""
        with closing(self._connection(seconds)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        if not self.https:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=seconds, context=anyone)


def wait_until(
    condition: Callable[[], bool], seconds: float, failure: Callable[[], str] | str, every: float = 0.01
) -> None:
    """Return when the condition holds, looked at `every` so many seconds. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(failure if isinstance(failure, str) else failure())
        time.sleep(every)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """Ours without HEADRACE_ settings, with the checkout importable: the server runs in the test's folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    checkout = Path(__file__).resolve().parents[2]
    return inherited | {"PYTHONPATH": str(checkout)}
