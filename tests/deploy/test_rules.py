"""Every alert fires when it should, alone, and no longer than it should; judged by the real promtool."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.known_metrics import WAITING, known_metrics, unknown_metrics
from tests.deploy.promtool import DEPLOY, RULES, Case, assert_fires, promtool

RUNBOOK = DEPLOY / "runbook.md"
ALERTS: Mapping[str, Mapping[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
AT = 'job="headrace",instance="a"'
FLEET = f'{AT},source="fleet",mode="webhook"'
STREAM = f'{AT},source="fleet",mode="sse"'
ALERTS_HANDLER = f'{AT},handler="alerts"'
UP = {f"up{{{AT}}}": "1x2000", f"headrace_ready{{{AT}}}": "1x2000"}
SOURCE_UP = {f"headrace_source_up{{{FLEET}}}": "1x2000"}
RECEIVED = {f"headrace_events_received_total{{{FLEET}}}": "0+40x2000"}
BUCKET = "headrace_commit_seconds_bucket"
LAG = f"headrace_handler_lag_seconds{{{ALERTS_HANDLER}}}"
RESPONSES = f'headrace_ingest_responses_total{{{AT},source="fleet",code='

# The alert, the series that make it, and three minutes: it waits (`for`), it fires, it has resolved.
CASES = [
    ("HeadraceSourceDown", {f"headrace_source_up{{{FLEET}}}": "1x9 0x20 1x30"}, (14, 16, 32)),
    (
        "HeadraceSourceUnauthorized",
        {
            f"headrace_source_up{{{STREAM}}}": "1x9 0x49 1x30",
            f'headrace_source_reconnects_total{{{STREAM},cause="closed"}}': "0x9 1x100",
            f'headrace_source_reconnects_total{{{STREAM},cause="unauthorized"}}': "0x9 0+1x10 10x100",
        },
        (10, 20, 62),
    ),
    (  # an hour after its token was refused, and changed
        "HeadraceSourceDown",
        {
            f"headrace_source_up{{{STREAM}}}": "1x9 0x9 1x39 0x20 1x30",
            f'headrace_source_reconnects_total{{{STREAM},cause="error"}}': "0x59 0+1x20 20x30",
            f'headrace_source_reconnects_total{{{STREAM},cause="unauthorized"}}': "0x9 0+1x9 9x100",
        },
        (63, 67, 82),
    ),
    (
        "HeadraceSourceSilent",
        {**SOURCE_UP, f"headrace_events_received_total{{{FLEET}}}": "0+10x1500 15000x100 15010+10x60"},
        (1530, 1540, 1606),
    ),
    (
        "HeadraceSourceQuiet",
        {**SOURCE_UP, f'headrace_source_silent{{{AT},source="fleet"}}': "0x9 1x20 0x30"},
        (14, 16, 32),
    ),
    (
        "HeadraceAuthenticationFailing",
        {f'headrace_auth_failures_total{{{AT},source="fleet"}}': "0x9 0+2x20 40x40"},
        (12, 25, 45),
    ),
    ("HeadraceGapOpen", {**SOURCE_UP, f"headrace_gap_open{{{FLEET}}}": "0x9 1x20 0x30"}, (14, 16, 32)),
    (
        "HeadraceEventsSuspectedLost",
        {**RECEIVED, f'headrace_events_suspected_lost_total{{{AT},source="fleet"}}': "0x9 50x100"},
        (8, 12, 75),
    ),
    ("HeadraceEventsLost", {f'headrace_events_lost_total{{{AT},source="fleet"}}': "0x9 3x100"}, (8, 12, 75)),
    (
        "HeadraceWayMisses",
        {
            f'headrace_seen_by_total{{{AT},source="fleet",modes="webhook+sse"}}': "0+40x2000",
            f'headrace_seen_by_total{{{AT},source="fleet",modes="webhook"}}': "0x9 0+2x40 80x100",
            f'headrace_missed_by_total{{{AT},source="fleet",way="sse"}}': "0x9 0+2x40 80x100",
            f'headrace_missed_by_total{{{AT},source="fleet",way="webhook"}}': "0+0x2000",
        },
        (9, 40, 112),
    ),
    (
        "HeadraceDuplicatesUnusual",
        {**RECEIVED, f'headrace_events_duplicate_total{{{FLEET},kind="redelivery"}}': "0x9 0+20x40 800x60"},
        (10, 30, 75),
    ),
    (
        "HeadraceRejectsRising",
        {**RECEIVED, f'headrace_events_rejected_total{{{FLEET},reason="malformed_json"}}': "0x9 0+2x40 80x60"},
        (10, 30, 75),
    ),
    (
        "HeadraceSubscriptionUnsettled",
        {f'headrace_pubsub_oldest_unsettled_seconds{{{AT},source="fleet"}}': "0x9 100x20 0x20"},
        (14, 16, 32),
    ),
    (  # with all that it brings along, also while that fades
        "HeadraceStoreUnavailable",
        {
            f"headrace_ready{{{AT}}}": "1x9 0x20 1x60",
            f"headrace_inbox_events{{{AT}}}": "0x9 9000x20 0x60",
            f'{RESPONSES}"503"}}': "0x9 0+50x20 1000x60",
            f'{RESPONSES}"204"}}': "0+50x9 450x20 450+50x60",
            f'headrace_pubsub_oldest_unsettled_seconds{{{AT},source="fleet"}}': "0x9 0+60x20 0x60",
        },
        (10, 20, 34),
    ),
    (
        "HeadraceAnswers503",
        {f'{RESPONSES}"503"}}': "0x9 0+5x20 100x30", f'{RESPONSES}"204"}}': "0+10x60"},
        (10, 15, 40),
    ),
    ("HeadraceInboxFilling", {f"headrace_inbox_events{{{AT}}}": "0x9 5000x20 0x20"}, (10, 14, 34)),
    (
        "HeadraceCommitsSlow",
        {
            f'{BUCKET}{{{AT},le="1"}}': "0+10x9 90x30 90+10x30",
            f'{BUCKET}{{{AT},le="2.5"}}': "0+10x70",
            f'{BUCKET}{{{AT},le="+Inf"}}': "0+10x70",
        },
        (15, 30, 60),
    ),
    ("HeadraceStoreRewound", {f"headrace_store_rewinds_total{{{AT}}}": "0x9 1x100"}, (8, 12, 75)),
    ("HeadraceStoreNearlyFull", {f"headrace_store_free_bytes{{{AT}}}": "5e9x9 5e8x30 5e9x30"}, (15, 25, 45)),
    ("HeadraceStoreNearlyFull", {f"headrace_store_free_bytes{{{AT}}}": "40e9-50e6x600 90e9x300"}, (290, 320, 880)),
    ("HeadraceSpooling", {f"headrace_spool_oldest_seconds{{{AT}}}": "0x9 0+60x20 0x20"}, (14, 18, 34)),
    ("HeadraceSpoolFilling", {f"headrace_spool_bytes{{{AT}}}": "0x9 6e8x20 0x20"}, (10, 14, 34)),
    ("HeadraceRetentionBehind", {f"headrace_retention_lag_seconds{{{AT}}}": "0x9 100000x100 0x30"}, (50, 75, 115)),
    ("HeadraceBalanceDifference", {f"headrace_balance_difference_events{{{AT}}}": "0x9 -3x10 0x10"}, (8, 12, 25)),
    ("HeadraceHandlerLagging", {LAG: "0x9 400x30 0x20"}, (15, 25, 45)),
    (
        "HeadraceHandlerCircuitOpen",
        {LAG: "0x9 400x30 0x20", f"headrace_handler_circuit_open{{{ALERTS_HANDLER}}}": "0x9 1x30 0x20"},
        (12, 25, 45),
    ),
    (
        "HeadraceHandlerPaused",
        {LAG: "0x9 4000x100 0x20", f"headrace_handler_paused{{{ALERTS_HANDLER}}}": "0x9 1x100 0x20"},
        (60, 75, 115),
    ),
    ("HeadraceHandlerEventsSkipped", {f"headrace_handler_skipped_total{{{ALERTS_HANDLER}}}": "0x9 7x100"}, (8, 12, 75)),
    ("HeadraceDeadLetters", {f"headrace_handler_dead_letters{{{ALERTS_HANDLER}}}": "0x9 3x20 0x20"}, (12, 16, 32)),
    (
        "HeadraceCertificateExpiring",
        {f"headrace_certificate_expires_timestamp_seconds{{{AT}}}": "9e9x9 1200000x20 9e9x20"},
        (15, 25, 35),
    ),
    ("HeadraceInstanceDown", {'up{job="headrace",instance="b"}': "1x9 0x20 1x20"}, (12, 16, 32)),
    ("HeadraceMetricsMissing", {f"up{{{AT}}}": "1x9 0x20 1x20", f"headrace_ready{{{AT}}}": "1x9"}, (12, 16, 32)),
]


def test_promtool_accepts_the_rules() -> None:
    """The real promtool finds nothing wrong with the rules."""
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("alert", "series", "minutes"), CASES, ids=[f"{number} {case[0]}" for number, case in enumerate(CASES)]
)
def test_an_alert_fires_alone_and_resolves(
    alert: str, series: Mapping[str, str], minutes: tuple[int, int, int], tmp_path: Path
) -> None:
    """It waits as long as it says, fires, no other one with it, and is over when its cause is."""
    waits, fires, resolved = minutes
    assert_fires(tmp_path, [Case({**UP, **series}, {waits: [], fires: [alert], resolved: []})])


def test_every_alert_is_tested() -> None:
    """No alert is without a case."""
    assert {alert for alert, _, _ in CASES} == set(ALERTS)


def test_a_clean_start_and_a_rolling_restart_fire_nothing(tmp_path: Path) -> None:
    """Neither what is not there yet in the first minutes nor two servers that restart in turn is an alarm."""
    start = {
        f"up{{{AT}}}": "1x60",
        f"headrace_ready{{{AT}}}": "0 1x60",
        f"headrace_source_up{{{STREAM}}}": "0x1 1x60",
        f"headrace_gap_open{{{STREAM}}}": "1x1 0x60",
        f"headrace_events_received_total{{{STREAM}}}": "0x2 0+100x60",
        f'headrace_source_reconnects_total{{{STREAM},cause="error"}}': "0x60",
        f"headrace_store_free_bytes{{{AT}}}": "50e9-40e6x60",
        LAG: "0x60",
    }
    other = {name.replace('"a"', '"b"'): values for name, values in start.items()}
    restart = {name: values.replace("x60", "x9") for name, values in start.items()}
    restart |= {name: f"{values} stale {start[name]}" for name, values in restart.items()}
    restart[f"up{{{AT}}}"] = "1x9 0x1 1x60"
    restart[f"headrace_ready{{{AT}}}"] = "1x9 0 stale 1x60"
    minutes = {minute: list[str]() for minute in (*range(1, 20), 30, 60)}
    assert_fires(tmp_path, [Case(start, minutes), Case({**restart, **other}, minutes)])


@pytest.mark.parametrize(
    ("alert", "name", "value", "minutes"),
    [
        ("HeadraceGapOpen", f"headrace_gap_open{{{STREAM}}}", "1", (3, 9)),
        ("HeadraceRetentionBehind", f"headrace_retention_lag_seconds{{{AT}}}", "100000", (30, 70)),
    ],
)
def test_what_one_server_shows_for_all_may_move_to_another(
    alert: str, name: str, value: str, minutes: tuple[int, int], tmp_path: Path
) -> None:
    """An alert on it goes on where another server shows it from then on, and begins anew for none."""
    waits, fires = minutes
    moves = (waits + fires) // 2
    series = {
        name: f"{value}x{moves} stale",
        name.replace('"a"', '"b"'): f"_x{moves} {value}x100",
        f"headrace_source_up{{{STREAM}}}": "1x200",
    }
    assert_fires(tmp_path, [Case({**UP, **series}, {waits: [], fires: [alert]})])


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_says_what_mixins_say(alert: str) -> None:
    """Its name, severity, summary, description, and the heading of the runbook are there."""
    rule = ALERTS[alert]
    assert alert.startswith("Headrace")
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"deploy/runbook.md#{alert.lower()}"


def test_the_runbook_has_each_alert_and_no_other() -> None:
    """Each alert has a heading with a command, what to do, and what is lost meanwhile; no other heading is there."""
    sections = re.split(r"^## ", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    assert [section.splitlines()[0] for section in sections] == list(ALERTS)
    for section in sections:
        text = " ".join(section.split())
        assert section.count("```sh\n") == 1, section
        assert "**Do:**" in text, section
        assert "**Lost meanwhile:**" in text, section


def test_the_rules_name_known_metrics_only() -> None:
    """Every metric in the rules is one that a server has, or one of the contract that is on its way."""
    assert unknown_metrics(RULES.read_text()) == set()
    assert not set(WAITING) & known_metrics(), "no longer waited for"
