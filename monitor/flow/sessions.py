"""The step `sessions`: the sessions of one key group, around the core's SessionGroup."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from bytewax.operators import StatefulBatchLogic

from monitor.config.settings import Settings
from monitor.core.compiled import CompiledConfig
from monitor.core.sessions import Tally
from monitor.core.watermark import Progress
from monitor.flow import snapshots
from monitor.flow.keys import session_group_key
from monitor.flow.route import Behind, Routed
from monitor.flow.telemetry import TELEMETRY, Telemetry
from monitor.runtime import signals
from monitor.runtime.reporting import reported


class Tallied(NamedTuple):
    """A session key group's number, its changes and counts by tenant, and its watermark in ms.

    `last`: nothing more comes from this group in this run.
    """

    group: int
    tallies: dict[str, Tally]
    watermark_ms: int
    last: bool = False


class SessionsStep(StatefulBatchLogic[Routed, Tallied, snapshots.Plain]):
    """The sessions of one key group.

    They are bounded by what the watermark keeps: a session is dropped once no event can reach it any more.
    """

    @reported
    def __init__(
        self,
        compiled: CompiledConfig,
        definitions: dict[str, bytes],
        resume_state: snapshots.Plain | None,
        telemetry: Telemetry = TELEMETRY,
    ) -> None:
        self._group = snapshots.restored_group(resume_state, compiled)
        self._definitions = definitions
        self._telemetry = telemetry
        self._number: int | None = None
        """The group's number, once it is known from an item."""

    @reported
    def on_batch(self, values: list[Routed]) -> tuple[Iterable[Tallied], bool]:
        """Feeds messages and progress in their order; emits what they changed."""
        group, number, has_risen = self._group, values[0][0], False
        before_ms, self._number = group.watermark.value_ms, number
        for item_number, item in values:
            assert item_number == number, "the engine calls a step with the items of one key"
            if isinstance(item, Progress):
                has_risen = group.watermark.advance(item) or has_risen
                if item.restart:
                    signals.restart()  # here, since each process has session key groups, if not partitions
                self._report_size(number)
            elif isinstance(item, Behind):
                group.feed((item.message,), item.high_ms)
            else:
                group.feed(item)
        assert group.watermark.value_ms >= before_ms, "a watermark never falls"
        if has_risen:
            group.forget()
        return [Tallied(number, group.take(), group.watermark.value_ms)], False

    @reported
    def on_eof(self) -> tuple[Iterable[Tallied], bool]:
        """Says that this was all, so that the last report is written; the group stays for the next run."""
        if self._number is None:
            return [], False
        return [Tallied(self._number, {}, self._group.watermark.value_ms, last=True)], False

    def _report_size(self, number: int) -> None:
        sessions = sum(map(len, self._group.sessions.values()))
        self._telemetry.gauge("sessions", sessions, part=session_group_key(number))

    @reported
    def snapshot(self) -> snapshots.Plain:
        """The group's state, plain."""
        with self._telemetry.timed("snapshot_ms"):
            return snapshots.group_state(self._group, self._definitions)


def compile_config(settings: Settings) -> CompiledConfig:
    """The configuration, compiled; shared by the steps of a process."""
    tenants, limits = settings.compiled_tenants(), settings.compiled_limits()
    return CompiledConfig(tenants, limits, key_is_session_id=settings.kafka.key_is_session_id)


def sessions(
    compiled: CompiledConfig, telemetry: Telemetry = TELEMETRY
) -> Callable[[snapshots.Plain | None], SessionsStep]:
    """The function that builds a key group's step, empty or from a snapshot."""
    definitions = {
        name: snapshots.packed_definitions(tenant.program.tenant) for name, tenant in compiled.tenants.items()
    }
    return lambda resume_state: SessionsStep(compiled, definitions, resume_state, telemetry)
