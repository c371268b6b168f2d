"""Two servers on one PostgreSQL share two streams and a handler: whichever is killed or stopped, nothing is missed."""

from __future__ import annotations

from pathlib import Path

from tests.support.postgres import session_server
from tests.support.replica_scene import play, replicas


def test_a_kill_and_a_stop_open_no_gap(tmp_path: Path) -> None:
    """Each listens to one of the streams; what the dead one held moves; nothing is lost, doubled, or called a gap."""
    with replicas(tmp_path, database=session_server()) as scene:
        play(scene, ["terminate", "kill_briefly"], seed=1)
        scene.judge()
