"""The numbers that are missing, lost, recovered and ambiguous, by source, as they are committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ingest.metrics import Metrics
from ingest.sequences import Changes


class AuditorMetrics:
    """Counts are of this process; the gauges are shown by whoever holds the Auditor's cursor, and 0 by the others."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._missing: Counter[str] = Counter()

    def begin(self, missing: Mapping[str, int]) -> None:
        """Show how much is missing by what the store says."""
        self._show(Counter(missing))

    def count(self, changes: Changes) -> None:
        """Tell what was committed."""
        metrics = self._metrics
        for source, lost in changes.lost.items():
            metrics.lost.labels(source).inc(lost)
        for source, ambiguous in changes.ambiguous.items():
            metrics.ambiguous.labels(source).inc(ambiguous)
        for (source, before), recovered in changes.recovered.items():
            metrics.recovered.labels(source, before.value).inc(recovered)
        if changes.missing:
            missing = Counter(self._missing)
            missing.update(changes.missing)
            self._show(missing)

    def show_lag(self, events: int) -> None:
        """Show how many committed events were not followed yet."""
        self._metrics.auditor_lag.set(events)

    def stand_down(self) -> None:
        """Leave the gauges to whoever has the cursor now."""
        self._show(Counter())
        self.show_lag(0)

    def _show(self, missing: Counter[str]) -> None:
        for source in self._missing.keys() | missing.keys():
            self._metrics.missing.labels(source).set(missing[source])
        self._missing = missing
