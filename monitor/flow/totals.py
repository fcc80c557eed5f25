"""The step `totals`: the totals of one metric key group, and the health metrics in the health group."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta

from bytewax.operators import StatefulBatchLogic

from monitor.core.ledger import Ledger
from monitor.core.metrics import DataPoint, Series, health_series
from monitor.core.unknown_names import most_frequent
from monitor.core.watermark import NEVER
from monitor.flow import snapshots
from monitor.flow.changes import Changes, PlainChanges
from monitor.flow.keys import HEALTH_GROUP, SESSION_GROUPS, metric_group_key
from monitor.flow.readback import FinalMinutes, Readback
from monitor.flow.telemetry import TELEMETRY, Telemetry
from monitor.runtime.clock import CLOCK, WallClock
from monitor.runtime.reporting import reported

LOOK_EVERY = timedelta(seconds=1)
"""How often a step asks for what was read back of its final minutes, while any wait."""


class TotalsStep(StatefulBatchLogic[tuple[int, PlainChanges | None], list[DataPoint], snapshots.Plain]):
    """The totals of one metric key group, each as a point whenever it was touched."""

    @reported
    def __init__(
        self,
        resume_state: snapshots.Plain | None,
        clock: WallClock = CLOCK,
        telemetry: Telemetry = TELEMETRY,
        readback: Readback | None = None,
    ) -> None:
        self._ledger: Ledger = snapshots.restored_ledger(resume_state)
        """Bounded: minutes that every session key group has passed leave it for `_final`."""
        self._final = FinalMinutes(self._ledger, readback, (resume_state or {}).get("unread", {}), telemetry)
        self._gauges: dict[Series, dict[str, int]] = {}
        """Series -> part -> value; bounded by the key groups, the partitions and the processes that report."""
        self._stamp_ms = 0
        self._clock, self._telemetry = clock, telemetry

    @reported
    def on_batch(self, values: list[tuple[int, PlainChanges | None]]) -> tuple[Iterable[list[DataPoint]], bool]:
        """Applies what was flushed; emits the new totals, and health metrics at the time of the flush."""
        points: list[DataPoint] = []
        groups = set()
        for _, flushed in values:
            assert flushed is not None, "a window opens with its first changes"
            changes = Changes(*flushed)  # a plain tuple, if the window was open at a restart
            groups.add(changes.group)
            points += self._ledger.apply(changes.deltas)
            held = dict(self._ledger.totals)
            passed_ms = self._ledger.seal(changes.watermarks, SESSION_GROUPS)
            self._final.add({minute: held[minute] for minute in held.keys() - self._ledger.totals.keys()})
            if changes.gauges or changes.counts:
                assert changes.group == HEALTH_GROUP, "only the health group gets health metrics"
                points += self._health(changes, passed_ms)
        points += self._final.repairs()
        (group,) = groups  # a key has the changes of one metric key group
        self._telemetry.gauge("totals", self._ledger.size(), part=metric_group_key(group))
        return [points] if points else [], False

    def _health(self, changes: Changes, passed_ms: int) -> Iterator[DataPoint]:
        # two flushes in the same millisecond must not overwrite each other's counters
        self._stamp_ms = max(self._stamp_ms + 1, self._clock.now_ms())
        for (series, part), value in changes.gauges.items():
            self._gauges.setdefault(series, {})[part] = value
        gauges = {series: sum(parts.values()) for series, parts in self._gauges.items()}
        if passed_ms > NEVER:
            gauges[health_series("watermark_s")] = passed_ms // 1_000
        for series, value in (most_frequent(changes.counts) | changes.maxima | gauges).items():
            yield DataPoint(series, self._stamp_ms, value)

    @reported
    def on_notify(self) -> tuple[Iterable[list[DataPoint]], bool]:
        """Emits what KairosDB has lost of final minutes, also while nothing comes in."""
        points = self._final.repairs()
        return [points] if points else [], False

    def notify_at(self) -> datetime | None:
        """Soon, while minutes wait to be read back."""
        return None if self._final.are_all_read else datetime.now(UTC) + LOOK_EVERY

    @reported
    def snapshot(self) -> snapshots.Plain:
        """The ledger's state and the minutes that are not read back, plain."""
        with self._telemetry.timed("snapshot_ms"):
            state = snapshots.ledger_state(self._ledger)
            return state if self._final.are_all_read else state | {"unread": self._final.state()}


def totals(
    clock: WallClock = CLOCK, telemetry: Telemetry = TELEMETRY, readback: Readback | None = None
) -> Callable[[snapshots.Plain | None], TotalsStep]:
    """The function that builds a key group's step, empty or from a snapshot."""
    return lambda resume_state: TotalsStep(resume_state, clock, telemetry, readback)
