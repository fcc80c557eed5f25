"""Comparisons: the store with the batch answer of a log, and a data center with its mirror."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from monitor.batch import Batch, Cell, VisitBehind, Workspace
from monitor.batch.answer import TOTALS, UNSURE, minute_of
from monitor.batch.queries import MINUTE_MS
from monitor.config.settings import Settings, milliseconds
from monitor.runtime.errors import MonitorError
from monitor.topics.recorded import Record
from monitor.topics.reread import Read, messages
from monitor.verify.stored import END_MS, Minutes, Store

DIFFERENCES_MAX = 10_000
"""How many differences are told one by one; all are counted."""
EXPLAINED_MAX, VISITS_MAX = 20, 3
"""For how many differences visits are looked for, and how many for each."""
MIRRORED_MS = 24 * 60 * MINUTE_MS
"""How far back mirrors are compared, unless told otherwise."""


class VerifyError(MonitorError):
    """What cannot be compared; the message says why and what to do."""


class PointDifference(Struct, frozen=True):
    """A total that is not what it should be; the values as text, None where there is none."""

    metric: str
    minute_ms: int
    tags: dict[str, str]
    stored: str | None
    wanted: str | None
    visits: list[VisitBehind]


class CountComparison(Struct, frozen=True):
    """Messages: accepted (`reason` is None) or rejected, as the log says and as the job has counted them."""

    tenant: str
    reason: str | None
    wanted: int
    stored: int


class Comparison(Struct, frozen=True):
    """What the comparison of a store with a log came to.

    `compared`: totals in the store or in the answer; `unsure`: such as depend on messages that the log has lost, and
    are left out; `differing`: how many differ, `differences` the first of them. `counts`: of the whole log, for
    information only: a job that crashed has written its counters twice, one that is behind has yet to.
    """

    dc: str
    messages: int
    first_ms: int
    end_ms: int
    compared: int
    unsure: int
    differing: int
    differences: list[PointDifference]
    counts: list[CountComparison]


class MinuteOfMirrors(Struct, frozen=True):
    """A minute in which mirrors differ: totals of each, and how many are not equal."""

    minute_ms: int
    totals: int
    totals_against: int
    differing: int


class Mirrors(Struct, frozen=True):
    """What the comparison of two data centers came to; `minutes`: those that differ, at most DIFFERENCES_MAX."""

    dc: str
    against: str
    first_ms: int
    end_ms: int
    compared: int
    differing: int
    totals: int
    totals_against: int
    more_complete: str | None
    """The data center that holds more totals; None if both hold as many."""
    minutes: list[MinuteOfMirrors]


class _Scan:
    """What is learnt from the messages while they go by."""

    def __init__(self) -> None:
        self.messages = 0
        self.firsts: dict[str, tuple[int, int]] = {}
        self.highs: dict[str, int] = {}

    def records(self, read: Iterable[Read]) -> Iterator[Record]:
        for partition, record in read:
            self.messages += 1
            if partition not in self.firsts:
                self.firsts[partition] = record.offset, record.timestamp_ms
            if record.timestamp_ms > self.highs.get(partition, -1):
                self.highs[partition] = record.timestamp_ms
            yield record

    def sealed_ms(self, lateness_ms: int) -> int:
        """The watermark at the log's end."""
        return min(self.highs.values()) - lateness_ms

    def missing_until_ms(self, future_ms: int) -> int | None:
        """The latest event time that a message before the log's beginning can have; None if it lacks none."""
        newest = [stamp_ms + future_ms for offset, stamp_ms in self.firsts.values() if offset > 0]
        return max(newest, default=None)


def verify(
    work: Workspace,
    settings: Settings,
    store: Store,
    dc: str,
    log: Path | None,
    first_ms: int | None,
    end_ms: int | None,
) -> Comparison:
    """Compares what the store holds for `dc` with what the topics, or a recorded log, come to.

    From the minute `first_ms` to before `end_ms`. Unless these are given: from the beginning, or from where a log that
    has lost its beginning is whole; to the last minute that the job has sealed, and a recorded log, which may end
    before. To the end, if the job has counted exactly the messages of the whole log, so that the store has all of it,
    or if a store that is compared with a recorded log knows no job.
    """
    batch, scan = Batch(work, settings), _Scan()
    # Asked before topics are read, to an end that is later: so what the job has sealed is read.
    watermark_ms = _watermark_ms(store, dc) if log is None and end_ms is None else store.sealed_ms(dc)
    with ExitStack() as stack:
        batch.read(scan.records(messages(settings.kafka, log, stack)))
    if not scan.messages:
        msg = "there are no messages to compare with"
        raise VerifyError(msg)
    missing_ms = scan.missing_until_ms(milliseconds(settings.time.future_tolerance_s))
    whole = first_ms is None and end_ms is None and missing_ms is None
    if first_ms is None:
        first_ms = 0 if missing_ms is None else minute_of(missing_ms) + MINUTE_MS
    batch.judge()
    counts = _counts(batch, store, dc) if missing_ms is None else []
    if end_ms is None:
        settled = watermark_ms is None or (counts and all(count.wanted == count.stored for count in counts))
        end_ms = END_MS if settled or watermark_ms is None else watermark_ms
        if log is not None and not settled:
            end_ms = min(end_ms, minute_of(max(0, scan.sealed_ms(milliseconds(settings.time.allowed_lateness_s)))))
    _check(first_ms, end_ms)
    batch.compute(first_ms, end_ms, missing_ms)
    store.bring(work, "stored", dc, Minutes(first_ms, end_ms))
    unsure = _leave_out_unsure(work) if missing_ms is not None else 0
    compared, differing = _join(work, "stored", TOTALS)
    differences = list(_differences(work, batch))
    return Comparison(
        dc, scan.messages, first_ms, end_ms, compared, unsure, differing, differences, counts if whole else []
    )


def mirrors(work: Workspace, store: Store, dc: str, against: str, first_ms: int | None, end_ms: int | None) -> Mirrors:
    """Compares what the store holds for two data centers, by minute; by default the last sealed day."""
    if dc == against:
        msg = f"a mirror is another data center than {dc}"
        raise VerifyError(msg)
    if end_ms is None:
        end_ms = min(_watermark_ms(store, name) for name in (dc, against))
    if first_ms is None:
        first_ms = max(0, end_ms - MIRRORED_MS)
    _check(first_ms, end_ms)
    minutes = Minutes(first_ms, end_ms)
    store.bring(work, "stored", dc, minutes)
    store.bring(work, "mirrored", against, minutes)
    compared, differing = _join(work, "stored", "mirrored")
    totals, totals_against = (work.rows(f"SELECT count(*) FROM {name}")[0][0] for name in ("stored", "mirrored"))
    by_minute = work.rows(
        f"""SELECT minute, count(stored), count(wanted), count(*) FILTER (WHERE stored IS DISTINCT FROM wanted) AS d
        FROM joined GROUP BY minute HAVING d > 0 ORDER BY minute LIMIT {DIFFERENCES_MAX}"""
    )
    differ = [MinuteOfMirrors(*row) for row in by_minute]
    fuller = None if totals == totals_against else dc if totals > totals_against else against
    return Mirrors(dc, against, first_ms, end_ms, compared, differing, totals, totals_against, fuller, differ)


def _check(first_ms: int, end_ms: int) -> None:
    if first_ms >= end_ms:
        msg = "there is no minute to compare: of the times asked for none is sealed, or --from is not before --to"
        raise VerifyError(msg)


def _watermark_ms(store: Store, dc: str) -> int:
    sealed_ms = store.sealed_ms(dc)
    if sealed_ms is None:
        msg = f"the store holds no monitor.watermark_s of dc {dc}: no job has written there; or say --to"
        raise VerifyError(msg)
    return sealed_ms


def _leave_out_unsure(work: Workspace) -> int:
    """Takes cells out that depend on messages before the log's beginning; how many there were."""
    same = "t.minute = u.minute AND t.tags = u.tags AND starts_with(t.name, u.tenant || '.visit.')"
    is_unsure = f"EXISTS (FROM {UNSURE} u WHERE {same})"
    cells = " UNION ".join(
        f"SELECT name, experiment, minute, tags FROM {table} t WHERE {is_unsure}" for table in ("stored", TOTALS)
    )
    ((count,),) = work.rows(f"SELECT count(*) FROM ({cells})")
    for table in ("stored", TOTALS):
        work.run(f"DELETE FROM {table} t WHERE {is_unsure}")
    return int(count)


def _join(work: Workspace, stored: str, wanted: str) -> tuple[int, int]:
    """Makes the table `joined`; the numbers of its cells, and of those that differ.

    Points that no tag of the configuration tells apart are in one cell, and shown together: such a cell differs.
    """
    work.run(
        f"""CREATE TABLE joined AS SELECT name, experiment, minute, tags, s.value AS stored, w.value AS wanted
        FROM (SELECT name, experiment, minute, tags, string_agg(value, ' and ' ORDER BY value) AS value
            FROM {stored} GROUP BY ALL) s
        FULL JOIN (SELECT name, experiment, minute, tags, string_agg(value::VARCHAR, ' and ' ORDER BY value) AS value
            FROM {wanted} GROUP BY ALL) w
        USING (name, experiment, minute, tags)"""
    )
    ((compared, differing),) = work.rows(
        "SELECT count(*), count(*) FILTER (WHERE stored IS DISTINCT FROM wanted) FROM joined"
    )
    return compared, differing


def _differences(work: Workspace, batch: Batch) -> Iterator[PointDifference]:
    found = work.rows(
        f"""SELECT name, experiment, minute, tags, stored, wanted FROM joined WHERE stored IS DISTINCT FROM wanted
        ORDER BY minute, name, experiment, tags LIMIT {DIFFERENCES_MAX}"""
    )
    for number, (name, experiment, minute_ms, tags, stored, wanted) in enumerate(found):
        cell = Cell(name, experiment, minute_ms, tags)
        visits = batch.visits_behind(cell, VISITS_MAX) if number < EXPLAINED_MAX else []
        yield PointDifference(name, minute_ms, {"experiment": experiment, **_tags(tags)}, stored, wanted, visits)


def _tags(text: str) -> Mapping[str, str]:
    return dict(part.split("=", 1) for part in text.split("|") if part)


def _counts(batch: Batch, store: Store, dc: str) -> list[CountComparison]:
    wanted: dict[tuple[str, str | None], int] = {(tenant, None): n for tenant, n in batch.accepted().items()}
    wanted |= {(tenant, reason): n for (tenant, reason), n in batch.rejected().items()}
    stored: dict[tuple[str, str | None], int] = {
        (tenant, None): n for (tenant,), n in store.counted(dc, "events", ("tenant",)).items()
    }
    stored |= {
        (tenant, reason): n for (tenant, reason), n in store.counted(dc, "rejected", ("tenant", "reason")).items()
    }
    return [
        CountComparison(tenant, reason, wanted.get((tenant, reason), 0), stored.get((tenant, reason), 0))
        for tenant, reason in sorted(wanted.keys() | stored.keys(), key=lambda key: (key[0], key[1] or ""))
    ]
