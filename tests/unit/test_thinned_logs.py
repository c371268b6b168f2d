"""An outage fills no log: each kind of its lines is told at once, and then now and again, with how many were not."""

from __future__ import annotations

import pytest
import structlog

from app.thinned_logs import Thinned


def test_each_kind_is_told_once_in_a_while() -> None:
    """The first line passes, those of the next ten seconds are counted; other lines pass always."""
    now = [0.0]
    thinned = Thinned(10.0, lambda: now[0])

    def said(event: str) -> object:
        try:
            return thinned(None, "warning", {"event": event}).get("left_out", 0)
        except structlog.DropEvent:
            return None

    assert [said("store_unavailable") for _ in range(3)] == [0, None, None]
    assert said("coverage_not_recorded") == 0
    assert [said("store_ready") for _ in range(3)] == [0, 0, 0]
    now[0] = 10.0
    assert [said("store_unavailable") for _ in range(2)] == [2, None]
    now[0] = 30.0
    assert said("store_unavailable") == 1


@pytest.mark.parametrize("line", [{}, {"event": 5}])
def test_other_lines_are_let_through(line: dict[str, object]) -> None:
    """Whatever a line is."""
    assert Thinned()(None, "info", line) == line
