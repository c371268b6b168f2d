"""Two servers on one PostgreSQL share streams, a queue and a handler: whichever is killed or stopped, all goes on."""

from __future__ import annotations

from pathlib import Path

from tests.support.replica_scene import play, replicas


def test_a_kill_a_stop_and_an_outage_open_no_gap(tmp_path: Path) -> None:
    """Behind a pooler, what the dead one held moves; nothing is lost, doubled, or called a gap."""
    with replicas(tmp_path, pooler=True) as scene:
        play(scene, ["kill_briefly", "take_database_briefly", "terminate"], seed=1)
        scene.judge()
