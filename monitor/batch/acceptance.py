"""Acceptance of events, and their visits, in SQL (specification, sections 1 and 3).

`duplicate` and `visit_full` depend on the events that the visit has when an event arrives. A visit lies within one
*run*: events of a session, rejected ones included, whose neighbours are at most the gap apart. In a run that repeats no
eventId and has no more events than the limit, every event is accepted. The other runs are judged one by one:

* In a run that cannot reach the limit, all but the first of equal (time, eventId) are duplicates: a later one meets in
  the visit either the first one or the event that made the first one a duplicate.
* A run that then still repeats an id (at another time), or exceeds the limit, is judged in the order of arrival.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from monitor.batch.workspace import Workspace

REFUSED = {"seq": "BIGINT", "reason": "VARCHAR"}


class Bounds(NamedTuple):
    """The bounds of acceptance, in milliseconds and events."""

    gap_ms: int
    lateness_ms: int
    future_ms: int
    events_per_visit: int


def reason_of_time(bounds: Bounds) -> str:
    """SQL for the reason if a row is rejected by its time alone, else null.

    It computes with event times only: these are bounded, while a timestamp may be near the ends of 64 bits.
    """
    return (
        f"CASE WHEN time - {bounds.future_ms} > stamp THEN 'future' "
        f"WHEN greatest(stamp, high) > time + {bounds.lateness_ms} THEN 'late' END"
    )


def judge(work: Workspace, bounds: Bounds) -> None:
    """Makes the tables `refused` (seq, reason) and `placed` (seq, visit, pos) from `arrived`.

    `visit` is the seq of the visit's first event, `pos` the place in the session's order of (time, eventId).
    """
    work.create("refused", REFUSED)
    work.run("INSERT INTO refused SELECT seq, reason FROM arrived WHERE reason IS NOT NULL")
    work.run(
        f"CREATE TABLE runs AS {_runs('SELECT * FROM arrived WHERE reason IS NULL', 'tenant, session', bounds.gap_ms)}"
    )
    full = f"SELECT run FROM runs GROUP BY run HAVING count(*) > {bounds.events_per_visit}"
    work.run(f"CREATE TABLE full_runs AS {full}")
    repeated = "SELECT run, id FROM open GROUP BY run, id HAVING count(*) > 1"
    work.run("CREATE VIEW open AS SELECT * FROM runs WHERE seq NOT IN (SELECT seq FROM refused)")
    work.run(
        f"""INSERT INTO refused SELECT seq, 'duplicate' FROM (
            SELECT seq, row_number() OVER (PARTITION BY run, time, id ORDER BY seq) AS copy
            FROM runs SEMI JOIN ({repeated}) USING (run, id)
            WHERE run NOT IN (SELECT run FROM full_runs)
        ) WHERE copy > 1"""
    )
    work.run(f"CREATE TABLE ordered_runs AS SELECT run FROM full_runs UNION SELECT run FROM ({repeated})")
    in_order = "SELECT run, seq, time, id FROM open SEMI JOIN ordered_runs USING (run) ORDER BY run, seq"
    judged = _in_order_of_arrival(work.each(in_order), bounds)
    work.fill("refused", REFUSED, ({"seq": seq, "reason": reason} for seq, reason in judged))
    # Without its refused events, a run can fall into several visits.
    work.run("CREATE TABLE parted_runs AS SELECT DISTINCT run FROM runs SEMI JOIN refused USING (seq)")
    work.run("CREATE TABLE placed AS SELECT seq, run AS visit, pos FROM runs ANTI JOIN parted_runs USING (run)")
    parted = "SELECT * FROM open SEMI JOIN parted_runs USING (run)"
    work.run(f"INSERT INTO placed SELECT seq, run AS visit, pos FROM ({_runs(parted, 'run', bounds.gap_ms)})")
    work.run("DROP VIEW open")
    for table in ("runs", "full_runs", "ordered_runs", "parted_runs"):
        work.run(f"DROP TABLE {table}")


def _runs(rows: str, parts: str, gap_ms: int) -> str:
    """The runs within the parts of some rows (SQL): a run is named by the seq of its first event."""
    return f"""
        SELECT seq, time, id, row_number() OVER part AS pos,
            last_value(CASE WHEN starts THEN seq END IGNORE NULLS) OVER part AS run
        FROM (
            SELECT seq, {parts}, time, id, (time - lag(time) OVER part > {gap_ms}) IS NOT FALSE AS starts
            FROM ({rows}) WINDOW part AS (PARTITION BY {parts} ORDER BY time, id, seq)
        )
        WINDOW part AS (PARTITION BY {parts} ORDER BY time, id, seq ROWS UNBOUNDED PRECEDING)"""


class _Visit:
    """A visit as it grows: its first and last event time, and the ids of its events.

    The ids of one run are in memory at a time; `limits.events_per_visit` bounds those of a visit.
    """

    __slots__ = ("first_ms", "ids", "last_ms")

    def __init__(self, time_ms: int, event_id: str) -> None:
        self.first_ms = self.last_ms = time_ms
        self.ids = {event_id}


def _in_order_of_arrival(rows: Iterable[tuple[int, int, int, str]], bounds: Bounds) -> Iterator[tuple[int, str]]:
    """The (seq, reason) of the refused events among (run, seq, time, id) in order of run and arrival."""
    for _, run in groupby(rows, key=lambda row: row[0]):
        visits: list[_Visit] = []
        for _, seq, time_ms, event_id in run:
            near = [v for v in visits if v.first_ms - bounds.gap_ms <= time_ms <= v.last_ms + bounds.gap_ms]
            if any(event_id in visit.ids for visit in near):
                yield seq, "duplicate"
            elif sum(len(visit.ids) for visit in near) >= bounds.events_per_visit:
                yield seq, "visit_full"
            else:
                joined = _Visit(time_ms, event_id)
                for visit in near:
                    joined.first_ms = min(joined.first_ms, visit.first_ms)
                    joined.last_ms = max(joined.last_ms, visit.last_ms)
                # Into the largest, so that a visit of n events is not copied n times.
                largest = max(near, key=lambda visit: len(visit.ids), default=joined)
                largest.ids.update(
                    event_id for other in (joined, *near) if other is not largest for event_id in other.ids
                )
                joined.ids = largest.ids
                visits = [visit for visit in visits if visit not in near] + [joined]
