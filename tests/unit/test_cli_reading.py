"""What the reading commands show of a store; on a database that the product itself filled."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from app.cli import run
from ingest.event import Cause, EchoOutcome, HookEcho, Ignored, Origin, Reason, Reject
from ingest.sequences import LossRange, LossState
from storage.auth_failures import add_auth_failures
from storage.coverage import SqlCoverage
from storage.cursors import SqlCursors
from storage.engine import open_database
from storage.sequences import AUDITOR, Followed
from tests.support.cli_store import START, asked, dead_letter, event, fill, id_of, positions, shown

HOSTILE = "\x1b[31m[bold]x[/bold]\x9b2J\u202etxt.exe\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def reject(body: bytes, source: str = "fleet", **attributes: str) -> Reject:
    """What could not be read."""
    return Reject(
        source=source,
        mode="webhook",
        received_at=START,
        reason=Reason.MALFORMED_JSON,
        body=body,
        attributes=attributes,
    )


def listen(source: str, *causes: Cause) -> None:
    """In the store of this folder, the source listens once before each cause; a None at the end: it goes on."""

    async def work() -> None:
        database = open_database("sqlite:///headrace.db")
        coverage = SqlCoverage(database)
        for number, cause in enumerate(causes):
            ago = 100.0 * (len(causes) - number)
            opened = await coverage.open(Origin("tracker", source, "webhook"), 0, ago)
            await coverage.end(opened.interval, cause, ago - 50)
        await database.close()

    asyncio.run(work())


def test_events_are_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Events come one a line under headings, the newest last; bytes are told by their number."""
    fill(event(1), event(2, data=b"\xff\xfe"), event(3, device=None, data=None))
    assert run(["events"]) == 0
    captured = capsys.readouterr()
    heading, first, second, third = captured.out.splitlines()
    assert heading.split("  ")[0] == "position"
    assert first.split() == ["1", "2026-07-28T12:00:01.000Z", "fleet", "dev-1", "temperature", "1"]
    assert second.endswith("(2 bytes)")
    assert third.split() == ["3", "2026-07-28T12:00:03.000Z", "fleet", "temperature"]
    assert captured.err == ""


def test_what_devices_send_does_not_reach_the_terminal_as_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters and overrides are spelled out, and markup is shown as it is, in every table."""
    text = HOSTILE
    fill(event(1, name="[red]a[/red]", data=text.encode()), reject(text.encode()), dead=[dead_letter(1, text)])
    for command in ("events", "rejects", "dead"):
        assert run([command]) == 0
        shown = capsys.readouterr().out
        assert r"\x1b[31m[bold]x[/bold]\x9b2J\u202etxt.exe\n" in shown
        assert shown.replace("\n", "").isprintable()
    assert run(["events"]) == 0
    assert "[red]a[/red]" in capsys.readouterr().out


def test_a_narrow_terminal_cuts_the_last_column_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the data is cut to fit, and what identifies an event never is; without one nothing is cut."""
    fill(event(1, device="e00fce682e79a004f1e69a2b", data=b"x" * 150))
    assert run(["events"]) == 0
    assert "x" * 150 in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for columns, longest in (("120", 120), ("60", 109)):
        monkeypatch.setenv("COLUMNS", columns)
        assert run(["events"]) == 0
        line = capsys.readouterr().out.splitlines()[1]
        assert "2026-07-28T12:00:01.000Z  fleet   e00fce682e79a004f1e69a2b  temperature  xxxx" in line
        assert len(line) <= longest


def test_json_is_ascii_and_the_event_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints one document that any program and any terminal can take; nothing is shortened."""
    data = ("é" + HOSTILE) * 1000
    fill(event(1, data=data.encode()))
    assert run(["events", "--json"]) == 0
    text = capsys.readouterr().out
    assert text.isascii()
    assert "\x1b" not in text
    (shown,) = json.loads(text)["events"]
    assert shown["data"] == data
    assert shown["id"] == str(id_of(1))
    assert shown["received_at"] == "2026-07-28T12:00:01.000Z"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("--device dev-2", [2]),
        ("--name spark/", [3]),
        ("--product other", []),
        ("--source fleet --limit 1", [4]),
        ("--since 2026-07-28T12:00:03Z", [3, 4]),
        ("--until 2026-07-28T12:00:03Z", [1, 2]),
        ("--since 36500d --until 2026-07-28T12:00:02Z", [1]),
    ],
)
def test_events_are_filtered(options: str, found: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    """Every filter leaves only what it names."""
    fill(event(1), event(2, device="dev-2"), event(3, name="spark/status"), event(4))
    assert positions(asked(capsys, f"events {options}")) == found


def test_events_can_be_followed_from_page_to_page(capsys: pytest.CaptureFixture[str]) -> None:
    """The newest come first asked, in ascending order; --after walks on, and `next` ends when there is no more now."""
    fill(*map(event, range(1, 8)))
    newest = asked(capsys, "events --limit 3")
    assert (positions(newest), newest["next"], newest["last"]) == ([5, 6, 7], None, 7)
    seen, after = [], 0
    while after is not None:
        page = asked(capsys, f"events --limit 3 --after {after}")
        seen += positions(page)
        after = page["next"]
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert page["last"] == 7


def test_people_are_told_that_there_is_more(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a limit cut the list, a line on stderr says how to see the rest; stdout stays the table."""
    fill(*map(event, range(1, 8)))
    assert run(["events", "--limit", "3"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 4
    assert "--after 0" in captured.err
    assert run(["events", "--limit", "3", "--after", "0"]) == 0
    assert "--after 3" in capsys.readouterr().err


def test_rejects_with_reason_and_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    """A reject is shown with its reason; programs get the bytes as they were sent, and what stood beside them."""
    fill(reject(b'{"event":\xff', device_id="dev1"), reject(b"", source="other"))
    document = asked(capsys, "rejects --source fleet")
    assert [(row["reason"], row["body_base64"]) for row in document["rejects"]] == [
        ("malformed_json", "eyJldmVudCI6/w==")
    ]
    assert [row["attributes"] for row in asked(capsys, "rejects")["rejects"]] == [{"device_id": "dev1"}, None]
    assert run(["rejects"]) == 0
    assert r'malformed_json  {"event":\xff' in capsys.readouterr().out


def test_gaps_with_cause_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    """A gap is shown from when to when and why; one that lasts has no end yet, and its seconds are up to now."""
    fill()
    listen("fleet", Cause.IDLE, Cause.STOPPED)
    listen("other", Cause.ERROR)
    closed, lasting = asked(capsys, "gaps --source fleet")["gaps"]
    assert (closed["id"], closed["mode"], closed["cause"], closed["suspected"]) == (1, "webhook", "idle", 0)
    assert closed["since"] < closed["until"] < lasting["since"]
    assert 45 < closed["seconds"] < 55
    assert (lasting["cause"], lasting["until"]) == ("stopped", None)
    assert 45 < lasting["seconds"] < 300
    page = asked(capsys, "gaps --limit 1 --after 1")
    assert ([row["id"] for row in page["gaps"]], page["next"], page["last"]) == ([2], 2, 2)
    assert run(["gaps"]) == 0
    heading, first, second, third = capsys.readouterr().out.splitlines()
    assert heading.split() == ["id", "since", "until", "source", "mode", "cause", "seconds", "suspected"]
    assert first.split()[:6] == ["1", closed["since"], closed["until"], "fleet", "webhook", "idle"]
    assert second.split()[2:6] == ["(open)", "fleet", "webhook", "stopped"]
    assert third.split()[2:6] == ["(open)", "other", "webhook", "error"]


def test_losses_are_a_line_for_each_number(capsys: pytest.CaptureFixture[str]) -> None:
    """Each number that did not come in its turn with what became of it, of the states and times that are asked for."""
    fill()
    noticed = int(START.timestamp()) * 1_000_000
    lost = LossRange(1, "fleet", "tracker", "dev-1", 7, 9, LossState.LOST, noticed, noticed)
    missing = lost._replace(id=4, first=11, last=11, state=LossState.MISSING)

    async def work() -> None:
        database = open_database("sqlite:///headrace.db")
        cursor = await SqlCursors(database).acquire(AUDITOR, holder="test", begin="beginning")
        assert cursor is not None
        await cursor.advance(0, followed=Followed(ranges=[lost, missing]))
        await database.close()

    asyncio.run(work())

    assert [row["sequence"] for row in asked(capsys, "losses")["losses"]] == [7, 8, 9, 11]
    assert [row["sequence"] for row in asked(capsys, "losses --state lost --limit 2")["losses"]] == [8, 9]
    assert asked(capsys, "losses --state missing --device dev-2")["losses"] == []
    assert len(asked(capsys, "losses --since 2026-07-28T12:00:00Z --product tracker")["losses"]) == 4
    assert asked(capsys, "losses --until 2026-07-28T12:00:00Z")["losses"] == []
    assert "tracker dev-1 11 missing" in shown(capsys, "losses")[-1]


def test_without_gaps_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty list is a sentence."""
    fill()
    assert run(["gaps"]) == 0
    assert capsys.readouterr().out == "There are no gaps.\n"


def test_sources_with_what_they_brought(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts are those of the store; a source that is configured shows even before it brought anything."""
    Path("headrace.toml").write_text("[sources.fresh]\n")
    fill(event(1), event(1), event(2), reject(b"?"))
    fresh, fleet = asked(capsys, "sources")["sources"]
    assert (fresh["source"], fresh["product"], fresh["counts"]["stored"]) == ("fresh", "fresh", 0)
    assert (fleet["source"], fleet["product"]) == ("fleet", None)
    assert fleet["counts"] == {"stored": 2, "duplicate": 1, "rejected": 1, "ignored": 0, "expired": 0}
    assert fleet["duplicate_kinds"]["redelivery"] == 1
    assert fleet["open_gap"] is None
    assert run(["sources"]) == 0
    assert "(gone)" in capsys.readouterr().out


def test_sources_show_what_the_vendor_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Of its webhooks: what it did not say is not there, for programs it is 0."""
    Path("headrace.toml").write_text("[sources.fleet]\n")
    echoes = [HookEcho("loc", outcome) for outcome in (EchoOutcome.SENT, EchoOutcome.SENT, EchoOutcome.SKIPPED)]
    fill(*[Ignored(source="fleet", mode="webhook", received_at=START, echo=echo) for echo in echoes])
    (fleet,) = asked(capsys, "sources")["sources"]
    assert fleet["hook_echoes"] == {"sent": 2, "response": 0, "error": 0, "skipped": 1}
    assert run(["sources"]) == 0
    assert "sent 2, skipped 1" in capsys.readouterr().out


def test_sources_show_who_was_not_let_in(capsys: pytest.CaptureFixture[str]) -> None:
    """As the running server adds them up; they are no arrivals, and no traffic."""
    Path("headrace.toml").write_text("[sources.fleet]\n")
    fill()

    async def refuse() -> None:
        database = open_database("sqlite:///headrace.db")
        for count in (3, 4):
            await database.write(add_auth_failures, "fleet", count)
        await database.close()

    asyncio.run(refuse())
    (fleet,) = asked(capsys, "sources")["sources"]
    assert (fleet["auth_failures"], fleet["last_minute"]) == (7, None)
    assert sum(fleet["counts"].values()) == 0
    assert run(["sources"]) == 0
    heading, row = capsys.readouterr().out.splitlines()[:2]
    assert "auth failures" in heading
    assert " 7" in row


def test_sources_with_the_gap_that_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    """After a clean stop each source says since when nobody listens."""
    fill(event(1))
    listen("fleet", Cause.IDLE, Cause.STOPPED)
    _, fleet = asked(capsys, "sources")["sources"]
    (_, lasting) = asked(capsys, "gaps")["gaps"]
    assert (fleet["open_gap"]["since"], fleet["open_gap"]["cause"]) == (lasting["since"], "stopped")
    assert fleet["open_gap"]["seconds"] >= 45
    assert run(["sources"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split()[3:6] == ["stopped", lasting["since"], "0"]


def test_handlers_with_their_lag(capsys: pytest.CaptureFixture[str]) -> None:
    """A handler that ran shows how far it is; which the configuration does not name any more is said."""
    fill(*map(event, range(1, 5)), dead=[dead_letter(2)])
    (row,) = asked(capsys, "handlers")["handlers"]
    assert (row["handler"], row["state"]) == ("alerts", "stopped")
    assert (row["position"], row["head"], row["lag_events"], row["dead"], row["retries"]) == (2, 4, 2, 1, 0)
    assert run(["handlers"]) == 0
    shown = capsys.readouterr()
    assert " ".join(shown.out.splitlines()[1].split()).startswith("alerts stopped 2 4 2 ")
    assert shown.err == "Not in this configuration: alerts\n"
    Path("headrace.toml").write_text('[handlers.alerts]\ntype = "log"\n')
    assert run(["handlers"]) == 0
    assert capsys.readouterr().err == ""
