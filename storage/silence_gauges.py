"""Shows how many devices of each source are silent, and whether the source itself is, from one process for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ingest.metrics import Metrics
from storage.engine import Database
from storage.queries.device_rows import Silences
from storage.queries.silences import count_silent


class SilenceGauges:
    """Gauges that are there for each configured source while they are shown, and absent elsewhere."""

    def __init__(
        self, database: Database, metrics: Metrics, sources: Sequence[str], silences_now: Callable[[], Silences]
    ) -> None:
        self._database = database
        self._sources = sources
        self._silences_now = silences_now
        self._gauges = metrics.silent_devices, metrics.source_silent
        for source in sources:
            metrics.declare_silence(source)

    async def measure(self, *, shown: bool) -> None:
        """Show what is silent now, or nothing. Raises StoreUnavailable."""
        if shown:
            silent = await self._database.read(count_silent, self._silences_now())
            self._show(silent.devices, silent.sources)
        else:
            for gauge in self._gauges:
                gauge.clear()

    def _show(self, devices: dict[str, int], sources: Sequence[str]) -> None:
        """Show these numbers of devices and these sources; 0 of all others."""
        of_devices, of_source = self._gauges
        for source in self._sources:
            of_devices.labels(source).set(devices.get(source, 0))
            of_source.labels(source).set(source in sources)
