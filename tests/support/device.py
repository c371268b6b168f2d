"""A device that runs the sketch of docs/receipts.md, and the cloud between it and a server, which loses things."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import threading
import time
import urllib.request
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

from tests.support.documents import CHECKOUT, block
from tests.support.required import missing

ID = "e00fce682e79a004f1e69a2b"
PREFIX = f"{ID}/hook-response/"


def build(folder: Path, changed: tuple[str, str] = ("", "")) -> Path:
    """Compile the sketch, with its files below `folder`; the program. `changed`: a text of it, and what replaces it."""
    compiler = shutil.which("g++") or missing("g++ is missing")
    sketch = block("docs/receipts.md", "cpp", "onReceipt")
    assert changed[0] in sketch
    source = folder / "sketch.cpp"
    source.write_text(sketch.replace(*changed).replace('"/usr/', f'"{folder}/'))
    program = folder / "device"
    include = CHECKOUT / "tests/support/device_os"
    subprocess.run([compiler, "-Wall", "-Werror", "-I", str(include), "-o", str(program), str(source)], check=True)
    return program


class Device:
    """The program and its cloud. `kept` is what was in flash when `keep` returned, by number."""

    def __init__(self, program: Path, hook: str, key: str, losses: random.Random) -> None:
        self.kept: dict[str, str] = {}
        self.published = 0
        self._program = program
        self._hook = hook
        self._key = key
        self._losses = losses
        self._late: deque[str] = deque()
        self._keeping: deque[str] = deque()
        self._start()

    @property
    def waiting(self) -> list[str]:
        """The numbers that are in flash."""
        return [path.name for path in (self._program.parent / "out").glob("*")]

    @property
    def keeping(self) -> bool:
        """Whether it has not said yet that all is in flash."""
        return bool(self._keeping)

    def keep(self, data: str) -> None:
        """Have the device keep an event, which it may not live to do."""
        self._keeping.append(data)
        self._say(f"KEEP {data}")

    def power_cut(self) -> None:
        """End the program at whatever it does, and start it again."""
        self.stop()
        self._keeping.clear()
        self._start()

    def stop(self) -> None:
        """End the program."""
        self._process.kill()
        self._thread.join()
        with self._process:
            pass

    def _start(self) -> None:
        self._process = subprocess.Popen([self._program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._thread = threading.Thread(target=self._relay, args=(self._process,))
        self._thread.start()

    def _relay(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            word, _, rest = line.decode().rstrip("\n").partition(" ")
            if word == "KEPT":
                self.kept[rest] = self._keeping.popleft()
            elif word == "PUBLISH":
                self.published += 1
                self._post(*rest.split(" ", 1))

    def _post(self, name: str, data: str) -> None:
        """Do as Particle's cloud: stamp, post, publish what was answered; lose, delay and repeat some of it."""
        if len(self._late) > 2:
            self._say(self._late.popleft())
        if self._losses.random() < 0.3:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        event = {"event": name, "data": data, "coreid": ID, "published_at": at}
        request = urllib.request.Request(self._hook, json.dumps(event).encode(), {"X-Particle-Key": self._key})
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                answer = response.read().decode()
        except OSError:  # 503, or nobody there
            time.sleep(0.005)
            return
        heard = f"HEAR {PREFIX}{name}/0 {answer}"
        if self._losses.random() < 0.3:
            self._late.append(heard)  # when a copy has long been sent
        elif answer:
            self._say(heard)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
        except OSError:  # it was just killed
            return
