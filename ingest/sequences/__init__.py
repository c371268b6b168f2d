"""A device's counter, followed from event to event: which numbers are missing, lost, or came after all.

Contract §5, "Sequence", says how runs begin and holes are filled. Stamps decide nothing. All here is pure.
"""

from __future__ import annotations

from ingest.sequences.changes import Changes, LossRange, LossState
from ingest.sequences.numbers import NumberReader, SequenceRules
from ingest.sequences.state import DeviceState
from ingest.sequences.tracker import Observation, expire, observe

__all__ = [
    "Changes",
    "DeviceState",
    "LossRange",
    "LossState",
    "NumberReader",
    "Observation",
    "SequenceRules",
    "expire",
    "observe",
]
