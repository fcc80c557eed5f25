"""The state of one source partition in a snapshot: where to resume, and in which topic."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from monitor.core.watermark import NEVER
from monitor.flow.snapshots import check_version

STATE_VERSION = 2
NO_EPOCH = -1
"""The leader epoch of a position at which no message was read yet."""

PartitionState: TypeAlias = tuple[Any, ...]
"""A plain tuple: the version, then the fields of `Position`; in version 1 only the first two of them."""


class Position(NamedTuple):
    """Where a partition is to be read on.

    `high_ms`: its largest message timestamp or a confirmed bound; `stamps`: the timestamps that it follows from;
    `topic_id`: Kafka's id of the topic, empty if unknown; `leader_epoch`: that of the last message read.
    """

    offset: int
    high_ms: int = NEVER
    stamps: bytes = b""
    topic_id: str = ""
    leader_epoch: int = NO_EPOCH


def state_of(position: Position) -> PartitionState:
    """The position for a snapshot."""
    return STATE_VERSION, *position


def position_of(state: Sequence[Any]) -> Position:
    """The position from a snapshot of this version or of the one before; raises JobError for any other."""
    version, *fields = state
    if version == 1:
        offset, high_ms = fields
        return Position(offset, high_ms)
    check_version(version, STATE_VERSION)
    return Position(*fields)
