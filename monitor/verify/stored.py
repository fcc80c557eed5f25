"""The totals that KairosDB holds for one data center, brought into a workspace to be compared there."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from monitor.batch import Workspace
from monitor.batch.queries import MINUTE_MS, tags_text
from monitor.config.settings import Settings
from monitor.config.stored_names import configured_name
from monitor.core.metrics import SIXTEENTHS, sixteenth_metric_name
from monitor.kairosdb.errors import QueryFailed
from monitor.kairosdb.reader import Ask, Reader, chunks

END_MS = 10**14
"""The year 5138: after every event that is accepted."""
POINTS_PER_REQUEST = 50_000
"""The most points of one answer, which are in memory at a time; more only if one minute has more."""
TIMEOUT_S = 60.0
COUNTED_MS = 24 * 60 * MINUTE_MS
"""How much of a counter is asked for at a time: eight tenants with all reasons make 400,000 points a day."""
COLUMNS = {
    "name": "VARCHAR",
    "experiment": "VARCHAR",
    "minute": "BIGINT",
    "tags": "VARCHAR",
    "series": "VARCHAR",
    "value": "VARCHAR",
}
"""Of a point: `name` and `experiment` are the configured ones, `series` those under which it is stored."""


class Minutes(NamedTuple):
    """From the start of a minute to before the start of another, in ms of event time."""

    first_ms: int
    end_ms: int


class Store:
    """One KairosDB. Raises KairosDbError where it does not answer as it must."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._reader = Reader(url, TIMEOUT_S)
        self._settings = settings

    def close(self) -> None:
        """Closes the connection."""
        self._reader.close()

    def bring(self, work: Workspace, table: str, dc: str, minutes: Minutes) -> None:
        """Makes a table of all totals of contributions in these minutes that are not 0, values as text.

        A total of before and after a rename is the sum of both; `summed` is the sum of their amounts then, else 0.
        Points whose tags are equal in the configuration are one row, which lists their values.
        """
        points = f"{table}_points"
        work.create(points, COLUMNS)
        for tenant in self._settings.tenants:
            for names in chunks(self._reader.names(f"{tenant}.visit.")):
                for part in self._parts(names, dc, minutes):
                    work.fill(points, COLUMNS, self._points(names, tenant, dc, part))
        is_sum = "count(*) > 1 AND count(DISTINCT series) = count(*)"
        work.run(
            f"""CREATE TABLE {table} AS SELECT name, experiment, minute, tags,
                CASE WHEN {is_sum} THEN sum(value::HUGEINT)::VARCHAR
                    ELSE string_agg(value, ' and ' ORDER BY value) END AS value,
                CASE WHEN {is_sum} THEN sum(abs(value::DOUBLE)) ELSE 0 END AS summed
            FROM {points} GROUP BY name, experiment, minute, tags HAVING value <> '0'"""
        )
        work.run(f"DROP TABLE {points}")

    def aa_began_ms(self, dc: str, tenant: str) -> dict[str, int]:
        """The first minute of which live A/A is stored, by experiment, whatever its points are now."""
        names = tuple(sixteenth_metric_name(tenant, "assigned", sixteenth, None) for sixteenth in range(SIXTEENTHS))
        configured = configured_name(self._settings.tenants[tenant].experiments)
        ask = Ask(names, 0, END_MS, {"dc": [dc]}, ("experiment",), aggregator=None, only="oldest")
        began: dict[str, int] = {}
        for group in self._reader.groups([ask]):
            _, experiment = configured(group.name, group.tags[0])
            began[experiment] = min(began.get(experiment, END_MS), *(time_ms for time_ms, _ in group.points))
        return began

    def sealed_ms(self, dc: str) -> int | None:
        """The time before which all minutes of a data center are final; None if its job has never reported it."""
        ask = Ask(("monitor.watermark_s",), 0, END_MS, {"dc": [dc]}, aggregator="max", sampling_ms=None)
        watermarks_s = [value for group in self._reader.groups([ask]) for _, value in group.points]
        return int(max(watermarks_s)) * 1_000 // MINUTE_MS * MINUTE_MS if watermarks_s else None

    def counted(self, dc: str, name: str, by: tuple[str, ...]) -> dict[tuple[str, ...], int]:
        """The sums of a counter among the health metrics, by the values of tags."""
        metric = f"monitor.{name}"
        sums: dict[tuple[str, ...], int] = {}
        for first_ms in self._days(metric, dc):
            ask = Ask((metric,), first_ms, first_ms + COUNTED_MS, {"dc": [dc]}, by, "sum", sampling_ms=None)
            for group in self._reader.groups([ask]):
                for _, value in group.points:
                    sums[group.tags] = sums.get(group.tags, 0) + int(value)
        return sums

    def _days(self, name: str, dc: str) -> range:
        """The starts of the days from the first to the last point of a metric."""
        ask = Ask((name,), 0, END_MS, {"dc": [dc]}, aggregator=None, only="oldest")
        asks = [ask, ask._replace(only="newest")]
        ends = [time_ms for group in self._reader.groups(asks) for time_ms, _ in group.points]
        return range(min(ends), max(ends) + 1, COUNTED_MS) if ends else range(0)

    def _parts(self, names: Sequence[str], dc: str, minutes: Minutes) -> Iterator[Minutes]:
        """The minutes in parts of a bounded number of points; parts without points are left out."""
        ask = Ask(tuple(names), *minutes, {"dc": [dc]}, aggregator="count", sampling_ms=None)
        is_one = minutes.end_ms - minutes.first_ms <= MINUTE_MS
        try:
            points = sum(count for group in self._reader.groups([ask]) for _, count in group.points)
        except QueryFailed:  # also KairosDB's answer to a query of too many points
            if is_one:
                raise
        else:
            if points <= POINTS_PER_REQUEST or is_one:
                if points:
                    yield minutes
                return
        middle_ms = (minutes.first_ms + minutes.end_ms) // 2 // MINUTE_MS * MINUTE_MS
        for half in (Minutes(minutes.first_ms, middle_ms), Minutes(middle_ms, minutes.end_ms)):
            yield from self._parts(names, dc, half)

    def _points(self, names: Sequence[str], tenant: str, dc: str, minutes: Minutes) -> Iterator[dict[str, Any]]:
        tags = sorted(self._settings.tenants[tenant].tags)
        configured = configured_name(self._settings.tenants[tenant].experiments)
        ask = Ask(tuple(names), *minutes, {"dc": [dc]}, ("experiment", *tags), aggregator=None)
        for group in self._reader.groups([ask]):
            stored_experiment, *values = group.tags
            name, experiment = configured(group.name, stored_experiment)
            total = {
                "name": name,
                "experiment": experiment,
                # live A/A has none of the tenant's tags
                "tags": tags_text({tag: value for tag, value in zip(tags, values, strict=True) if value}),
                "series": f"{group.name} {stored_experiment}",
            }
            for time_ms, value in group.points:
                if value:
                    yield {**total, "minute": time_ms, "value": _text(value)}


def _text(value: Any) -> str:
    """A value so that equal numbers are equal texts."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
