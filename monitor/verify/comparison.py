"""Comparisons: the store with the batch answer of a log, and a data center with its mirror."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from monitor.batch import Batch, Cell, VisitBehind, Workspace
from monitor.batch.pipeline import TOTALS, UNSURE, minute_of
from monitor.batch.queries import MINUTE_MS
from monitor.batch.workspace import literal
from monitor.config.settings import Settings, milliseconds
from monitor.runtime.errors import MonitorError
from monitor.topics.job_messages import Read, messages
from monitor.topics.recorded import Record
from monitor.verify.stored import END_MS, Minutes, Store

DIFFERENCES_MAX = 10_000
"""Differences that are listed one by one; all are counted."""
EXPLAINED_MAX, VISITS_MAX = 20, 3
"""Differences whose visits are looked up, and visits for each of them."""
ROUNDING = 2.0**-52
"""Twice the largest relative error of an integer that is rounded to a double."""
FIRST_STAMPS = 1_000
"""Timestamps of a partition from which the beginning of a log is known, of which a tenth may be wrong."""
APART_MS = 60 * MINUTE_MS
"""How far the first of them may be before nine tenths of them, to be taken for right."""
IS_AA = r"regexp_matches(name, '\.visit\.(assigned|fm)\.aa-(0[0-9]|1[0-5])\.')"
"""SQL for a cell of live A/A."""
MIRRORED_MS = 24 * 60 * MINUTE_MS
"""The time span over which mirrors are compared by default."""


class VerifyError(MonitorError):
    """The comparison is not possible; the message says why and what to do."""


class PointDifference(Struct, frozen=True):
    """A total that differs: the stored and the expected value as text, None where there is none."""

    metric: str
    minute_ms: int
    tags: dict[str, str]
    stored: str | None
    wanted: str | None
    visits: list[VisitBehind]


class CountComparison(Struct, frozen=True):
    """Messages, accepted (`reason` is None) or rejected, as counted in the log and by the job."""

    tenant: str
    reason: str | None
    wanted: int
    stored: int


class Comparison(Struct, frozen=True):
    """The result of comparing a store with a log.

    `compared`: number of totals in the store or in the answer. `unsure`: totals that were left out because they depend
    on messages that the log no longer has, `aa_left_out` those of live A/A that count a part of the visits or are of
    before it was switched off. `differing`: number of totals that differ, `differences` the first of them.
    `counts`: of the whole log, for information only, because a job that crashed may have counted messages twice and a
    job that is behind has not counted all.
    """

    dc: str
    messages: int
    first_ms: int
    end_ms: int
    compared: int
    unsure: int
    aa_left_out: int
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
    """The result of comparing two data centers; `minutes`: those that differ, at most DIFFERENCES_MAX."""

    dc: str
    against: str
    first_ms: int
    end_ms: int
    compared: int
    differing: int
    totals: int
    totals_against: int
    more_complete: str | None
    """The data center that holds more totals; None if both hold equally many."""
    minutes: list[MinuteOfMirrors]


class _Scan:
    """The extent of each partition, collected while the messages are read."""

    def __init__(self) -> None:
        self.messages = 0
        # Both have an entry for each partition of the topics.
        self.firsts: dict[str, tuple[int, list[int]]] = {}
        """The first offset, and the first timestamps, FIRST_STAMPS at most."""
        self.numbers: dict[str, int] = {}

    def records(self, read: Iterable[Read]) -> Iterator[Record]:
        """The messages; the partitions of all topics are numbered anew."""
        for partition, record in read:
            self.messages += 1
            if partition not in self.firsts:
                self.firsts[partition] = record.offset, []
                self.numbers[partition] = len(self.numbers)
            if len(stamps := self.firsts[partition][1]) < FIRST_STAMPS:
                stamps.append(record.timestamp_ms)
            number = self.numbers[partition]
            yield record if record.partition == number else record._replace(partition=number)

    def missing_until_ms(self, future_ms: int) -> int | None:
        """The latest event time of a message from before the log's beginning; None if the log begins at offset 0."""
        newest = [_began_ms(stamps) + future_ms for offset, stamps in self.firsts.values() if offset > 0]
        return max(newest, default=None)


def _began_ms(stamps: Sequence[int]) -> int:
    """The first timestamp of a partition's messages, given the first of them.

    A tenth of these may be wrong. If the first one is, by the others, it is a later one that cannot be too early.
    """
    surely_ms = sorted(stamps)[len(stamps) // 10]
    return stamps[0] if surely_ms - APART_MS <= stamps[0] <= surely_ms else surely_ms


def verify(
    work: Workspace,
    settings: Settings,
    store: Store,
    dc: str,
    log: Path | None,
    first_ms: int | None,
    end_ms: int | None,
) -> Comparison:
    """Compares the totals that the store holds for `dc` with those of the topics, or of a recorded log.

    It compares the minutes from `first_ms` to before `end_ms`. By default they start at the log's beginning, or, if the
    log no longer has its first messages, at the first minute that does not depend on these. They end at the job's
    watermark, or at a recorded log's own if that is earlier. They have no end if the job has counted exactly the
    messages of the whole log, or if a recorded log is compared with a store that has no watermark of a job.
    """
    batch, scan = Batch(work, settings), _Scan()
    # Read the watermark before the topics: every message below it is then before the end at which reading stops.
    watermark_ms = _watermark_ms(store, dc) if log is None and end_ms is None else store.sealed_ms(dc)
    with ExitStack() as stack:
        batch.read(scan.records(messages(settings.kafka, log, stack)))
    if not scan.messages:
        msg = "there are no messages to compare with"
        raise VerifyError(msg)
    missing_ms = scan.missing_until_ms(milliseconds(settings.time.future_tolerance_s))
    is_whole = first_ms is None and end_ms is None and missing_ms is None
    if first_ms is None:
        first_ms = 0 if missing_ms is None else minute_of(missing_ms) + MINUTE_MS
    batch.judge()
    counts = _counts(batch, store, dc) if missing_ms is None else []
    if end_ms is None:
        settled = watermark_ms is None or (counts and all(count.wanted == count.stored for count in counts))
        end_ms = END_MS if settled or watermark_ms is None else watermark_ms
        if log is not None and not settled:
            end_ms = min(end_ms, minute_of(max(0, batch.sealed_ms())))
    _check(first_ms, end_ms)
    batch.compute(first_ms, end_ms, missing_ms)
    store.bring(work, "stored", dc, Minutes(first_ms, end_ms))
    unsure = _leave_out_unsure(work) if missing_ms is not None else 0
    aa_left_out = _leave_out_aa(work, settings, store, dc)
    compared, differing = _join(work, "stored", TOTALS)
    differences = list(_differences(work, batch))
    return Comparison(
        dc,
        scan.messages,
        first_ms,
        end_ms,
        compared,
        unsure,
        aa_left_out,
        differing,
        differences,
        counts if is_whole else [],
    )


def mirrors(work: Workspace, store: Store, dc: str, against: str, first_ms: int | None, end_ms: int | None) -> Mirrors:
    """Compares the totals of two data centers, by minute; by default over the last day before both watermarks."""
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
        f"""SELECT minute, count(stored), count(expected), count(*) FILTER (WHERE differs) AS d
        FROM joined GROUP BY minute HAVING d > 0 ORDER BY minute LIMIT {DIFFERENCES_MAX}"""
    )
    differ = [MinuteOfMirrors(*row) for row in by_minute]
    more_complete = None if totals == totals_against else dc if totals > totals_against else against
    return Mirrors(dc, against, first_ms, end_ms, compared, differing, totals, totals_against, more_complete, differ)


def _check(first_ms: int, end_ms: int) -> None:
    if first_ms >= end_ms:
        msg = "there is no minute to compare: no minute of this range is final yet, or --from is not before --to"
        raise VerifyError(msg)


def _watermark_ms(store: Store, dc: str) -> int:
    sealed_ms = store.sealed_ms(dc)
    if sealed_ms is None:
        msg = f"the store holds no monitor.watermark_s of dc {dc}: no job has written there; or say --to"
        raise VerifyError(msg)
    return sealed_ms


def _leave_out_unsure(work: Workspace) -> int:
    """Deletes the cells that depend on messages from before the log's beginning, and returns their number."""
    same = "t.minute = u.minute AND t.tags = u.tags AND starts_with(t.name, u.tenant || '.visit.')"
    is_unsure = f"EXISTS (FROM {UNSURE} u WHERE {same})"
    return _leave_out(work, is_unsure)


def _leave_out_aa(work: Workspace, settings: Settings, store: Store, dc: str) -> int:
    """Deletes the cells of live A/A that count a part of the visits only, and returns their number.

    Where it was switched on under running visits, which shows in visits before the first minute that is stored, that is
    so until a gap and the lateness after that minute. Where it is off, or nothing is stored, no cell is compared.
    """
    wait_ms = milliseconds(settings.time.session_gap_s) + milliseconds(settings.time.allowed_lateness_s)
    judged = [f"NOT {IS_AA}"]
    for tenant, table in settings.tenants.items():
        began_ms = store.aa_began_ms(dc, tenant) if table.with_live_aa() else {}
        for experiment in began_ms.keys() & set(table.with_live_aa()):
            of = f"experiment = {literal(experiment)} AND starts_with(name, {literal(f'{tenant}.visit.')})"
            first_ms = began_ms[experiment]
            earlier = f"FROM {TOTALS} WHERE {IS_AA} AND {of} AND minute < {first_ms} LIMIT 1"
            from_ms = first_ms + wait_ms if work.rows(earlier) else 0
            judged.append(f"({of} AND minute >= {from_ms})")
    return _leave_out(work, f"NOT ({' OR '.join(judged)})")


def _leave_out(work: Workspace, condition: str) -> int:
    """Deletes the cells of both sides for which this holds, and returns their number."""
    cells = " UNION ".join(
        f"SELECT name, experiment, minute, tags FROM {table} t WHERE {condition}" for table in ("stored", TOTALS)
    )
    ((count,),) = work.rows(f"SELECT count(*) FROM ({cells})")
    for table in ("stored", TOTALS):
        work.run(f"DELETE FROM {table} t WHERE {condition}")
    return int(count)


def _join(work: Workspace, stored: str, expected: str) -> tuple[int, int]:
    """Makes the table `joined`, and returns the numbers of its cells and of those that differ.

    A `.sumsq` is the exact integer or, as it is written, that rounded once to a double: both sides are rounded to be
    compared. One that is the sum of two, of before and after a rename, is as far off as these are rounded.
    """
    # From text, not from HUGEINT: that cast rounds twice. A list of values is no number, so that TRY_CAST gives null.
    wanted = "e.value::VARCHAR"
    apart = f"abs(TRY_CAST(s.value AS DOUBLE) - TRY_CAST({wanted} AS DOUBLE))"
    is_rounded = f"ends_with(name, '.sumsq') AND {apart} <= s.summed * {ROUNDING}"
    work.run(
        f"""CREATE TABLE joined AS SELECT name, experiment, minute, tags, s.value AS stored, {wanted} AS expected,
            s.value IS DISTINCT FROM {wanted} AND NOT coalesce({is_rounded}, false) AS differs
        FROM {stored} s FULL JOIN {expected} e USING (name, experiment, minute, tags)"""
    )
    ((compared, differing),) = work.rows("SELECT count(*), count(*) FILTER (WHERE differs) FROM joined")
    return compared, differing


def _differences(work: Workspace, batch: Batch) -> Iterator[PointDifference]:
    rows = work.rows(
        f"""SELECT name, experiment, minute, tags, stored, expected FROM joined WHERE differs
        ORDER BY minute, name, experiment, tags LIMIT {DIFFERENCES_MAX}"""
    )
    for number, (name, experiment, minute_ms, tags, stored, expected) in enumerate(rows):
        cell = Cell(name, experiment, minute_ms, tags)
        visits = batch.visits_behind(cell, VISITS_MAX) if number < EXPLAINED_MAX else []
        yield PointDifference(name, minute_ms, {"experiment": experiment, **_tags(tags)}, stored, expected, visits)


def _tags(text: str) -> Mapping[str, str]:
    return dict(part.split("=", 1) for part in text.split("|") if part)


def _counts(batch: Batch, store: Store, dc: str) -> list[CountComparison]:
    expected: dict[tuple[str, str | None], int] = {(tenant, None): n for tenant, n in batch.accepted().items()}
    expected |= {(tenant, reason): n for (tenant, reason), n in batch.rejected().items()}
    stored: dict[tuple[str, str | None], int] = {
        (tenant, None): n for (tenant,), n in store.counted(dc, "events", ("tenant",)).items()
    }
    stored |= {
        (tenant, reason): n for (tenant, reason), n in store.counted(dc, "rejected", ("tenant", "reason")).items()
    }
    return [
        CountComparison(tenant, reason, expected.get((tenant, reason), 0), stored.get((tenant, reason), 0))
        for tenant, reason in sorted(expected.keys() | stored.keys(), key=lambda key: (key[0], key[1] or ""))
    ]
