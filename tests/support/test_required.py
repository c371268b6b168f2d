"""What happens on a machine without the Pub/Sub emulator."""

from __future__ import annotations

import pytest

from tests.support import emulator


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_the_emulator_tests_skip_and_say_so_but_not_in_ci(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A developer's machine may lack it; where the result counts its absence is a failure."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(emulator, "_FOLDERS", ())
    with pytest.raises(outcome, match="the Pub/Sub emulator is not installed"):
        emulator.Emulator().start()
