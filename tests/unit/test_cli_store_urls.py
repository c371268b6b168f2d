"""Whatever is wrong with store.url, no command shows the password in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.main import run

FAULTY = (
    "postgresql://bob:SECRET/db",
    "postgresql://bob:SECRET",
    "postgres://bob:SECRET/db?sslmode=require",
    "postgresql://bob:SECRET@host:x/db",
    "postgresql://bob:SECRET@host:99999/db",
    "postgresql://bob:SECRET@host:/db?sslmode",
    "postgresql://bob:SEC SECRET/db",
    "postgresql://:SECRET/db",
    "postgresql://bob:SECRET@[::1/db",
    "postgresql://bob:%SECRET@host:y/db",
    "mysql://bob:SECRET@host/db",
    "SECRET",
)
# Passwords that should have been percent-encoded, and are understood all the same. No such host is asked.
UNUSUAL = (
    "postgresql://bob@127.0.0.1:1/db?password=SECRET",
    "postgresql://bob:SEC/SECRET@127.0.0.1:1/db",
    "postgresql://bob:SEC?SECRET@127.0.0.1:1/db",
    "postgresql://bob:SEC#SECRET@127.0.0.1:1/db",
    "postgresql://bob:[SECRET@127.0.0.1:1/db",
    "postgresql://bob@127.0.0.1:1/db?SECRET",
    "postgresql://bob:SEC@SECRET@127.0.0.1:1/db",
)


@pytest.mark.parametrize("command", ["check", "serve --port 0", "events", "migrate", "check --connect --debug"])
@pytest.mark.parametrize("url", FAULTY)
def test_a_faulty_url_is_named_and_not_shown(
    url: str, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each command refuses it with exit 2 and the key, and the password is nowhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_STORE__URL", url)

    code = run(command.split())

    out, err = capsys.readouterr()
    assert "SECRET" not in out + err
    assert "store.url" in err
    assert code == 2


@pytest.mark.parametrize("command", ["check", "events", "check --connect --debug"])
@pytest.mark.parametrize("url", UNUSUAL)
def test_an_unusual_password_is_not_shown(
    url: str, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the URL is valid the password is masked in what is shown of it, and in what the driver says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_STORE__URL", url)

    run(command.split())

    out, err = capsys.readouterr()
    assert "SECRET" not in out + err
    assert "store" in out + err


def test_an_unforeseen_error_is_shown_without_the_secrets_of_its_urls(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence and the traceback of what nobody foresaw go through the same mask."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("cannot use postgresql://bob:SECRET@host/db")

    monkeypatch.setattr("app.settings.load", fail)

    assert run(["check", "--debug"]) == 1
    assert "SECRET" not in capsys.readouterr().err
