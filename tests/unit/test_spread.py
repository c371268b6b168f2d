"""Leases spread over processes: every one is somebody's, nobody holds two more than another, two streams are on two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from hypothesis import given
from hypothesis import strategies as st

from ingest.leases import Changes, handler_lease, spread, stream_lease

NAMES = [handler_lease(f"h{number}") for number in range(5)]
NAMES += [stream_lease(source, stream) for source in ("a", "b", "c") for stream in (1, 2)]
NAMES += [stream_lease("d", 1), stream_lease("e", 1), "duty/one", "duty/two"]


def go_rounds(wants: Mapping[str, Collection[str]], held: dict[str, str], rounds: int = 8) -> list[Changes]:
    """Let each process do what `spread` says, by turns; what the last round changed."""
    for _ in range(rounds):
        changed = []
        for process in wants:
            changes = spread(process, wants, held)
            held.update(dict.fromkeys(changes.taken, process))
            for name in changes.given:
                del held[name]
            changed.append(changes)
    return changed


@given(
    names=st.sets(st.sampled_from(NAMES), min_size=1),
    processes=st.integers(1, 5),
    before=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 4)),
)
def test_from_any_beginning_all_find_their_place(names: set[str], processes: int, before: dict[str, int]) -> None:
    """Each is held, shares differ by one at most in every group and kind, and then nothing moves any more."""
    wants = {f"p{number}": frozenset(names) for number in range(processes)}
    held = {name: f"p{number}" for name, number in before.items() if name in names and number < processes}

    last = go_rounds(wants, held, rounds=30)

    assert held.keys() == names
    assert all(not changes.taken and not changes.given for changes in last)
    for part in {name.rpartition("/")[0] for name in names}:
        counts = Counter(holder for name, holder in held.items() if name.rpartition("/")[0] == part)
        shares = [counts[process] for process in wants]
        assert max(shares) - min(shares) <= 1, (part, held)
    for kind in {name.partition("/")[0] for name in names}:
        counts = Counter(holder for name, holder in held.items() if name.startswith(f"{kind}/"))
        shares = [counts[process] for process in wants]
        assert max(shares) - min(shares) <= 1, (kind, held)


def test_a_process_that_comes_moves_no_more_than_its_share() -> None:
    """What others keep stays where it is."""
    names = frozenset(handler_lease(f"h{number}") for number in range(9))
    wants = {"one": names, "two": names}
    held: dict[str, str] = {}
    go_rounds(wants, held)
    before = dict(held)
    go_rounds({**wants, "three": names}, held)
    assert sum(held[name] != before[name] for name in names) == 3


def test_what_one_does_not_want_goes_to_who_does() -> None:
    """However much that one holds."""
    wants = {"one": ["handler/a", "handler/b", "handler/c"], "two": ["handler/a"]}
    held: dict[str, str] = {}
    go_rounds(wants, held)
    assert held == {"handler/a": "two", "handler/b": "one", "handler/c": "one"}
