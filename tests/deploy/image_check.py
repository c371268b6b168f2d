"""`make image-check`: builds the image without a container engine and runs it as its configuration says.

Needs root, buildah and debootstrap. The image is run as its own user with a read-only root and a volume, on 0.0.0.0
with tokens; it takes an event, its health check passes, it stops, and the event is there after a second start.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.deploy import pip_settings
from tests.support.server import free_port, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
IMAGE = "localhost/headrace:check"
BASE = "localhost/headrace-base:check"
TOOLS = ("buildah", "debootstrap", "unshare", "nsenter")
BUILDAH = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}
READ, ADMIN, HOOK = "read-token-of-the-check", "admin-token-of-the-check", "hook-secret-of-the-check"
CONFIG = """
[access]
read_tokens = ["${READ_TOKEN}"]
admin_tokens = ["${ADMIN_TOKEN}"]
[sources.fleet.webhook]
auth = { type = "header", name = "X-Key", secrets = ["${file:/run/secrets/hook}"] }
"""
EVENT = b'{"event":"temperature","data":"21.5","published_at":"2026-07-28T16:53:05.616Z","coreid":"e00fce68"}'
STOP_SECONDS = 25.0
# In a mount namespace of its own: the root read-only, then the volume, the configuration and the kernel's folders.
ENTER = """
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount --bind "$2/data" "$1/data"
mount --bind "$2/configuration" "$1/mnt"
mount --bind "$2/run" "$1/run"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
root=$1 user=$3; shift 3
exec chroot --userspec="$user" "$root" env -i "$@"
"""


def buildah(*arguments: str) -> str:
    """Run buildah; what it printed. Exits with its words where it fails."""
    done = subprocess.run(
        ["buildah", *arguments], env=os.environ | BUILDAH, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"buildah {arguments[0]}: {done.stderr[-4000:]}")
    return done.stdout.strip()


def build_base(folder: Path) -> None:
    """Make an image like the official slim Python from Debian's packages, unless an earlier check left one here."""
    if buildah("images", "-q", "--filter", f"reference={BASE}"):
        return
    packages = "--include=python3,python3-venv,ca-certificates"
    subprocess.run(
        ["debootstrap", "--variant=minbase", packages, "bookworm", str(folder)], stdout=subprocess.DEVNULL, check=True
    )
    container = buildah("from", "scratch")
    buildah("add", "-q", container, str(folder), "/")
    buildah("commit", "-q", container, BASE)
    buildah("rm", container)
    shutil.rmtree(folder)


def build_image(folder: Path) -> None:
    """Build the Dockerfile; this machine's pip settings are lent to the steps that run, and are in no layer."""
    lent = [f"--volume={source}:{target}:ro" for source, target in pip_settings.lend(folder).items()]
    # Docker's own format: OCI's has no HEALTHCHECK.
    options = ("--format", "docker", f"--build-arg=BASE_IMAGE={BASE}", "--layers=false", *lent)
    buildah("bud", "-q", *options, "-t", IMAGE, str(CHECKOUT))


class Image:
    """The built image, mounted: what it says of itself, and how it is run."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        described = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]
        self.config: Mapping[str, Any] = described["config"]
        self._folder = folder
        for name in ("data", "configuration", "run/secrets"):
            (folder / name).mkdir(parents=True)
        (folder / "configuration" / "headrace.toml").write_text(CONFIG)
        (folder / "run/secrets/hook").write_text(f"{HOOK}\n")
        shutil.chown(folder / "data", *map(int, self.config["User"].split(":")))

    @contextmanager
    def running(self, port: int) -> Iterator[subprocess.Popen[bytes]]:
        """Run what the image's ENTRYPOINT and CMD say; killed when the block ends."""
        command = [*self.config["Entrypoint"], *self.config["Cmd"]]
        with subprocess.Popen(["unshare", "-m", "sh", "-c", ENTER, "sh", *self._entered(port, command)]) as process:
            try:
                yield process
            finally:
                process.kill()

    def health(self, process: subprocess.Popen[bytes], port: int) -> int:
        """Run the HEALTHCHECK beside the server; its exit code."""
        kind, *command = self.config["Healthcheck"]["Test"]
        assert kind == "CMD", "a health check takes no shell"
        inside = ["nsenter", f"--target={process.pid}", "--mount", "chroot", f"--userspec={self.config['User']}"]
        words = [*inside, str(self.root), "env", "-i", *self._environment(port), *command]
        return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode

    def _entered(self, port: int, command: Sequence[str]) -> Sequence[str]:
        user, workdir = self.config["User"], f"--chdir={self.config['WorkingDir']}"
        return [str(self.root), str(self._folder), user, workdir, *self._environment(port), *command]

    def _environment(self, port: int) -> Sequence[str]:
        given = {"READ_TOKEN": READ, "ADMIN_TOKEN": ADMIN, "HEADRACE_CONFIG": "/mnt/headrace.toml"}
        ours = [f"{name}={value}" for name, value in (given | {"HEADRACE_SERVER__PORT": str(port)}).items()]
        return [*self.config["Env"], *ours]


@contextmanager
def mounted(folder: Path) -> Iterator[Image]:
    """The image's files in a folder."""
    container = buildah("from", IMAGE)
    try:
        yield Image(Path(buildah("mount", container)), folder)
    finally:
        buildah("rm", container)


def check_contents(image: Image) -> None:
    """What it says of itself, and that nothing of the machine that built it is inside."""
    config = image.config
    assert config["Entrypoint"] == ["headrace"]
    assert all(part.isdecimal() and int(part) > 0 for part in config["User"].split(":")), "a number, not root's"
    assert config["Labels"]["org.opencontainers.image.version"]
    for left in ("etc/pip.conf", "lent", "source", "root/.cache/pip"):
        assert not (image.root / left).exists(), f"/{left} is in the image"
    migrations = list((image.root / "opt/headrace/storage/migrations/versions").glob("0*.py"))
    assert migrations, "no migrations are in the image"


def check_service(image: Image) -> None:
    """An event goes in, and is there after the service was stopped and started again."""
    port = free_port()
    for start in (1, 2):
        with image.running(port) as process:
            wait_until(lambda: _healthy(image, process, port), 60, "the health check does not pass")
            if start == 1:
                assert _answer(port, "/ingest/fleet", EVENT, {"X-Key": "wrong"}) == 401
                assert _answer(port, "/ingest/fleet", EVENT, {"X-Key": HOOK}) == 204
            assert _answer(port, "/api/v1/events") == 401, "readable without a token"
            stored = _stored(port)
            assert [event["data"] for event in stored] == ["21.5"], stored
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_SECONDS) == 0, "it did not stop in order"
        assert image.health(process, port) != 0, "healthy although it is gone"


def _healthy(image: Image, process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, f"the image ended with {process.returncode}"
    return image.health(process, port) == 0


def _answer(port: int, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _stored(port: int) -> list[Mapping[str, Any]]:
    headers = {"Authorization": f"Bearer {READ}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/v1/events", None, headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return list(json.load(answer)["events"])


def megabytes(folder: Path) -> int:
    """Return how large a folder is on disk."""
    done = subprocess.run(["du", "-sm", str(folder)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def main() -> int:
    """Check; 0 where all is well, or where this machine cannot and CI=true does not ask for it."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent or os.geteuid() != 0:
        print(f"image-check is skipped: {'missing ' + ', '.join(absent) if absent else 'it needs root'}")
        return int(os.environ.get("CI") == "true")
    with tempfile.TemporaryDirectory(prefix="image-check-") as at:
        folder = Path(at)
        try:
            build_base(folder / "base")
            build_image(folder)
            with mounted(folder / "run") as image:
                check_contents(image)
                check_service(image)
                ours = megabytes(image.root / "opt")
                print(f"The image is good: {megabytes(image.root)} MB, of which {ours} MB are not its base.")
        finally:
            for name in (IMAGE, BASE):
                subprocess.run(
                    ["buildah", "rmi", "-f", name], env=os.environ | BUILDAH, capture_output=True, check=False
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
