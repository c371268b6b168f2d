"""The metrics that speak of losses, and the check that none of them rose."""

from __future__ import annotations

from collections.abc import Collection, Iterable

LOSS_METRICS = frozenset(
    {
        "headrace_events_lost_total",
        "headrace_events_missing",
        "headrace_events_ambiguous_total",
        "headrace_events_suspected_lost_total",
        "headrace_missed_by_total",
        "headrace_gaps_total",
        "headrace_gap_seconds_total",
        "headrace_handler_skipped_total",
        "headrace_balance_difference_events",
        "headrace_store_rewinds_total",
    }
)
GAPS = ("headrace_gap", "headrace_events_suspected_lost")
# The gaps of a process that was ended or suspended, and what usually comes in such a time.
RESTARTED = ('cause="stopped"', 'cause="down"', "headrace_events_suspected_lost")


def losses_in(metrics: str, declared: Collection[str] = ()) -> list[str]:
    """Return the samples of a /metrics page that speak of losses and are not 0, but for those that were declared.

    `declared` are parts of samples, labels included: `headrace_events_lost`, `cause="idle"`. Rejects and duplicates are
    no losses, for they are kept; neither is what was deferred, for its sender was told so and has it still, nor a dead
    letter, which waits for a redrive. Silence is none by the contract.
    """
    return [line for line in _loss_samples(metrics.splitlines()) if not any(part in line for part in declared)]


def _loss_samples(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        sample, _, value = line.rpartition(" ")
        if sample.partition("{")[0] in LOSS_METRICS and float(value):
            yield line
