"""The pure core, driven directly: a log of messages in, totals out, without engine or servers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from monitor.config.reader import parse
from monitor.core.compiled import CompiledConfig, CompiledTenant
from monitor.core.deltas import Deltas, SeriesTable, add_deltas, deltas_of, maxima_of
from monitor.core.events import Event, EventWarning, RejectReason
from monitor.core.ledger import Ledger
from monitor.core.sessions import SessionGroup, Tally
from monitor.core.sixteenths import SixteenthTable, sixteenth_deltas, sixteenth_of
from monitor.core.watermark import NEVER, Progress, Stamps
from monitor.flow.snapshots import group_state, packed_definitions, restored_group
from monitor.flow.stamps import packed_stamps, unpacked_stamps
from tests.support.oracle import Message

GROUPS = 4
Key = tuple[str, int, tuple[tuple[str, str], ...]]


def compiled_of(config: dict[str, Any]) -> CompiledConfig:
    """A configuration, compiled."""
    settings = parse(config)
    return CompiledConfig(
        settings.compiled_tenants(), settings.compiled_limits(), key_is_session_id=settings.kafka.key_is_session_id
    )


class Core:
    """One session key group and one ledger, as the job has them, fed by hand."""

    def __init__(self, config: dict[str, Any], partitions: Sequence[str] = ("0",), create_time: bool = False) -> None:
        self.dc: str = config["dc"]
        self.compiled = compiled_of(config)
        self.partitions = tuple(partitions)
        self.stamps = {partition: Stamps() for partition in partitions} if create_time else {}
        self.group: SessionGroup = restored_group(None, self.compiled)
        self.ledger = Ledger()
        self.totals: dict[tuple[str, int], int | float] = {}
        self.accepted: Counter[str] = Counter()
        self.rejected: Counter[tuple[str, RejectReason]] = Counter()
        self.warnings: Counter[tuple[str, EventWarning]] = Counter()
        self.maxima: dict[str, int] = {}
        """The gauges of the last batch, by series."""
        self._sixteenth_tables: dict[str, tuple[CompiledTenant, SixteenthTable]] = {}
        self._tallies: dict[str, dict[int, list[Tally]]] = {}

    def feed(self, messages: Iterable[Message]) -> Deltas:
        """Feeds a batch, with the progress of its partitions after it; what it changed."""
        messages = list(messages)
        if self.stamps:
            return self._feed_with_stamps(messages)
        for sixteenth, of_sixteenth in self._by_sixteenth(messages):
            self.group.feed((m.key, m.value, m.timestamp) for m in of_sixteenth)
            self._take(sixteenth)
        for message in messages:
            progress = Progress(self.partitions, str(message.partition), message.timestamp, idle=False)
            if self.group.watermark.advance(progress):
                self.group.forget()
        return self._apply()

    def _feed_with_stamps(self, messages: Sequence[Message]) -> Deltas:
        """The same where the producers set the timestamps: each partition's batch of them, as the source takes it."""
        highs: dict[tuple[int, int], int] = {}
        for number in sorted({message.partition for message in messages}):
            batch = [message for message in messages if message.partition == number]
            behind = self.stamps[str(number)].add([message.timestamp for message in batch])
            highs.update({(number, batch[index].offset): high_ms for index, high_ms in behind.items()})
        for message in messages:
            high_ms = highs.get((message.partition, message.offset), NEVER)
            for sixteenth, _ in self._by_sixteenth([message]):
                self.group.feed([(message.key, message.value, message.timestamp)], high_ms)
                self._take(sixteenth)
        for partition, stamps in self.stamps.items():
            if self.group.watermark.advance(Progress(self.partitions, partition, stamps.high_ms, idle=False)):
                self.group.forget()
        return self._apply()

    def restart(self) -> None:
        """A snapshot, and another group from it."""
        definitions = {name: packed_definitions(t.program.tenant) for name, t in self.compiled.tenants.items()}
        self.stamps = {
            partition: unpacked_stamps(packed_stamps(stamps), stamps.high_ms)
            for partition, stamps in self.stamps.items()
        }
        self.group = restored_group(group_state(self.group, definitions), self.compiled)

    def _by_sixteenth(self, messages: list[Message]) -> list[tuple[int, list[Message]]]:
        """The messages by the sixteenth of their session, as the job's key groups have them, where that matters."""
        tenants = [tenant.program.tenant for tenant in self.compiled.tenants.values()]
        if not any(experiment.aa for tenant in tenants for experiment in tenant.experiments):
            return [(0, messages)]
        found: dict[int, list[Message]] = {}
        for message in messages:
            event = self.compiled.decoder.decode(message.value)
            found.setdefault(sixteenth_of(event.sessionId) if isinstance(event, Event) else 0, []).append(message)
        return list(found.items())

    def _sixteenth_table(self, compiled: CompiledTenant) -> SixteenthTable:
        """The table of a tenant's present definitions."""
        known = self._sixteenth_tables.get(compiled.name)
        if known is None or known[0] is not compiled:
            known = self._sixteenth_tables[compiled.name] = compiled, SixteenthTable(compiled, GROUPS)
        return known[1]

    def _take(self, sixteenth: int) -> None:
        for tenant, tally in self.group.take().items():
            self._tallies.setdefault(tenant, {}).setdefault(sixteenth, []).append(tally)

    def _apply(self) -> Deltas:
        changed: Deltas = {}
        self.maxima = {}
        taken, self._tallies = self._tallies, {}
        for tenant, by_sixteenth in taken.items():
            tallies = [tally for of_sixteenth in by_sixteenth.values() for tally in of_sixteenth]
            for tally in tallies:
                self.accepted[tenant] += tally.accepted
                self.rejected.update({(tenant, reason): n for reason, n in tally.rejected.items()})
                self.warnings.update({(tenant, note): n for note, n in tally.all_warnings().items()})
            compiled = self.compiled.tenants.get(tenant)
            self.maxima |= maxima_of(tenant, tallies, compiled)
            if compiled is not None:
                for deltas in deltas_of(tallies, SeriesTable(compiled, GROUPS)).values():
                    add_deltas(changed, deltas)
                if any(experiment.aa for experiment in compiled.program.tenant.experiments):
                    for deltas in sixteenth_deltas(by_sixteenth, self._sixteenth_table(compiled)).values():
                        add_deltas(changed, deltas)
        for point in self.ledger.apply(changed):
            self.totals[point.series, point.timestamp_ms] = point.value
        if self.group.watermark.value_ms > NEVER:
            self.ledger.seal({0: self.group.watermark.value_ms}, 1)
        return changed

    def answer(self) -> dict[Key, int | float]:
        """The store's totals as the oracle writes them; totals of 0 are left out."""
        return {
            (series.split("|")[0], minute, tags_of(series, self.dc)): total
            for (series, minute), total in self.totals.items()
            if total
        }


def tags_of(series: str, dc: str) -> tuple[tuple[str, str], ...]:
    """The tags of a series, sorted, with dc."""
    pairs = [tuple(part.split("=", 1)) for part in series.split("|")[1:]]
    return tuple(sorted([("dc", dc), *((name, value) for name, value in pairs)]))
