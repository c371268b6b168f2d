"""A start that fails: `serve` says why, and lets go of what it had taken."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import start
from app.settings import Settings
from ingest.errors import StoreUnavailable
from tests.support.server import free_port


@pytest.fixture
def switch_interval() -> Iterator[None]:
    """Give the interpreter back the interval that serving changes."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switch_interval")
async def test_a_store_that_cannot_be_opened_leaves_no_socket(tmp_path: Path) -> None:
    """The socket that was bound before is closed, not left to the garbage collector."""
    url = f"sqlite:///{tmp_path}/no/such/folder/headrace.db"
    settings = Settings.model_validate({"server": {"port": free_port()}, "store": {"url": url}})

    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(StoreUnavailable):
            await start.serve(settings)
        gc.collect()

    assert [str(warning.message) for warning in left if "socket" in str(warning.message)] == []
