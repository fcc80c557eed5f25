"""The dashboards for Grafana on a real KairosDB: every panel asks for, and draws, what the log comes to."""

import re
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from monitor.config import reader
from monitor.config.settings import Settings
from monitor.kairosdb.client import Client
from tests.support import golden, oracle, reading
from tests.support.grafana_case import CASE, DC, MIRROR, dashboards_of, documented_health, golden_config
from tests.support.grafana_plugin import (
    UNIT_MS,
    Columns,
    Json,
    PanelView,
    current,
    panels,
    request,
    series,
    transformed,
)
from tests.support.oracle import Message
from tests.support.servers import KairosDB

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
WAIT_S, POLL_S, REQUEST_S = 30.0, 0.05, 30.0
INTERVALS_S = (60, 300, 3_600)


class Cell(NamedTuple):
    """One point of the store."""

    name: str
    timestamp_ms: int
    tags: Mapping[str, str]
    value: float


class Store(NamedTuple):
    """A real KairosDB with the totals of a log and the health of a job, for two data centers."""

    url: str
    settings: Settings
    cells: list[Cell]
    start_ms: int
    end_ms: int

    def ask(self, view: PanelView, interval_s: int) -> Json:
        """KairosDB's answer to a panel's request."""
        body = request(view, self.start_ms, self.end_ms, interval_s)
        with Client(self.url, REQUEST_S, REQUEST_S) as client:
            return {"queries": client.query(body)}

    def columns(self, dashboard: Json, title: str, **chosen: str | list[str]) -> Columns:
        """The columns of the panel with this title; `$point` in a title is its value."""
        variables = current(dashboard, **chosen)
        for view in panels(dashboard, variables):
            point = view.variables.get("point")
            if view.panel["title"].replace("$point", point if isinstance(point, str) else "$point") == title:
                return transformed(view, series(view, self.ask(view, HOUR_MS // 1_000)))
        pytest.fail(f"no panel {title}")

    def total(self, name: str, **tags: str) -> float:
        """The sum of a metric in the data center that is looked at."""
        chosen = {"dc": DC, **tags}
        return sum(cell.value for cell in self.cells if cell.name == name and chosen.items() <= cell.tags.items())


@pytest.fixture(scope="module")
def store(kairosdb_server: KairosDB) -> Store:
    """Filled once, and read back by what is there: KairosDB answers before it has written."""
    merged = golden_config()
    offsets: defaultdict[int, int] = defaultdict(int)
    log = []
    for chunk in golden.chunks(CASE):
        for _, (partition, key, value, timestamp_ms) in chunk:
            assert isinstance(key, bytes | None)
            assert isinstance(value, bytes)
            assert timestamp_ms is not None
            log.append(Message(partition, offsets[partition], timestamp_ms, key, value))
            offsets[partition] += 1
    totals = oracle.answer(merged, log).totals
    cells = [Cell(name, at_ms, dict(tags), value) for (name, at_ms, tags), value in totals.items()]
    start_ms, end_ms = min(cell.timestamp_ms for cell in cells), max(cell.timestamp_ms for cell in cells)
    cells += health_cells(start_ms, end_ms)
    cells += [cell._replace(tags={**cell.tags, "dc": MIRROR}, value=7 * cell.value + 3) for cell in cells]
    fill(kairosdb_server.url, cells)
    return Store(kairosdb_server.url, reader.parse(merged), cells, start_ms - 10 * MINUTE_MS, end_ms + 10 * MINUTE_MS)


def health_cells(start_ms: int, end_ms: int) -> list[Cell]:
    """Points of every health metric of the reference, a few for each combination of tags."""
    values = {
        "tenant": ("day", "night"),
        "reason": ("late", "bad_value"),
        "topic": ("t-1",),
        "partition": ("0", "1"),
        "worker": ("0", "1"),
        "experiment": ("fast_checkout",),
        "variation": ("fc_off", "fc_on"),
        "point": ("order",),
        "kind": ("variation",),
        "name": ("fc_maybe", "fc_never"),
        "notice": ("create_time",),
        "tag": ("device",),
        "value": ("mobile", "other"),
    }
    cells = []
    for number, (name, tags) in enumerate(documented_health().items()):
        combinations: list[dict[str, str]] = [{}]
        for tag in tags:
            combinations = [{**others, tag: value} for others in combinations for value in values[tag]]
        for step in range(12):
            at_ms = start_ms + step * (end_ms - start_ms) // 11 + 1_234
            for which, combination in enumerate(combinations):
                value = 100 * number + 10 * which + step + 1
                if name == "monitor.watermark_s":
                    value = at_ms // 1_000 - 600 - step
                cells.append(Cell(name, at_ms, {"dc": DC, **combination}, value))
    return cells


def fill(url: str, cells: list[Cell]) -> None:
    """Writes the points, and waits until they are there."""
    reading.write(url, ((name, at_ms, dict(tags), value) for name, at_ms, tags, value in cells))
    names = sorted({cell.name for cell in cells})
    asked = [{"name": name, "tags": {"dc": [DC, MIRROR]}} for name in names]
    query = {"start_absolute": 0, "end_absolute": 2**52, "metrics": asked}
    until_s = time.monotonic() + WAIT_S
    with Client(url, REQUEST_S, REQUEST_S) as client:
        while sum(answer["sample_size"] for answer in client.query(query)) != len(cells):
            assert time.monotonic() < until_s, "KairosDB does not hold what was written"
            time.sleep(POLL_S)


@pytest.fixture(scope="module")
def dashboards() -> dict[str, Json]:
    """All dashboards of the log's configuration, by title."""
    return dashboards_of(reader.parse(golden_config()))


@pytest.mark.parametrize("interval_s", INTERVALS_S)
@pytest.mark.parametrize("title", ["A/B experiments: overview", "A/B monitor: health", "Experiment fast_checkout"])
def test_every_target_gives_the_totals_of_the_log(
    store: Store, dashboards: dict[str, Json], title: str, interval_s: int
) -> None:
    """Every panel's request, as the plugin sends it, is answered by exactly what a plain computation over the points of
    the log says, of one data center alone; at any zoom. No panel is empty."""
    dashboard = dashboards[title]
    asked = 0
    for view in panels(dashboard, current(dashboard)):
        body = request(view, store.start_ms, store.end_ms, interval_s)
        answer = store.ask(view, interval_s)
        filled = 0
        for metric, query in zip(body["metrics"], answer["queries"], strict=True):
            got = {group_of(result): result["values"] for result in query["results"] if result["values"]}
            groups = expected(store, metric)
            assert got.keys() == groups.keys(), f"{view.panel['title']}: {metric}"
            for group, points in groups.items():
                assert [at for at, _ in got[group]] == [at for at, _ in points], metric
                assert [value for _, value in got[group]] == pytest.approx([value for _, value in points]), metric
            filled += bool(got)
        asked += len(body["metrics"])
        assert filled, f"{view.panel['title']} is empty"
    assert asked > 20


def expected(store: Store, metric: Json) -> dict[tuple[tuple[str, str], ...], list[list[float]]]:
    """The answer to one metric of a request, by group, in the plain way; of one data center, whatever it asks."""
    by = metric["group_by"][0]["tags"] if metric["group_by"] else []
    groups: defaultdict[tuple[tuple[str, str], ...], list[Cell]] = defaultdict(list)
    for cell in store.cells:
        inside = store.start_ms <= cell.timestamp_ms <= store.end_ms
        tagged = all(cell.tags.get(tag) in values for tag, values in metric["tags"].items())
        if cell.name == metric["name"] and cell.tags["dc"] == DC and inside and tagged:
            groups[tuple((tag, cell.tags.get(tag, "")) for tag in sorted(by))].append(cell)
    ranged, *others = metric["aggregators"]
    answers = {group: ranges(ranged, cells, store.start_ms) for group, cells in groups.items()}
    for other in others:
        factor = float(other["factor"]) if other["name"] == "scale" else 1 / float(other["divisor"])
        answers = {group: [[at, value * factor] for at, value in points] for group, points in answers.items()}
    return answers


def ranges(aggregator: Json, cells: list[Cell], start_ms: int) -> list[list[float]]:
    """Sum, maximum or newest value by range; ranges of minutes and hours begin where the day does, in UTC."""
    size_ms = int(aggregator["sampling"]["value"] * UNIT_MS[aggregator["sampling"]["unit"]])
    origin_ms = start_ms if size_ms > 24 * HOUR_MS else 0
    of_range: defaultdict[int, list[Cell]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: cell.timestamp_ms):
        of_range[(cell.timestamp_ms - origin_ms) // size_ms].append(cell)
    points: list[list[float]] = []
    for number, inside in sorted(of_range.items()):
        at_ms = number * size_ms + origin_ms if aggregator.get("align_start_time") else inside[-1].timestamp_ms
        values = [cell.value for cell in inside]
        value = {"sum": sum(values), "max": max(values), "last": values[-1]}[aggregator["name"]]
        points.append([at_ms, value])
    return points


def group_of(result: Json) -> tuple[tuple[str, str], ...]:
    groups = [group["group"] for group in result.get("group_by", []) if group["name"] == "tag"]
    return tuple(sorted((tag, value) for group in groups for tag, value in group.items()))


def test_conversion_is_what_the_totals_say(store: Store, dashboards: dict[str, Json]) -> None:
    """Of the qualified visits those with the point, by variation, for the tenant and the tag value that are chosen."""
    dashboard = dashboards["Experiment fast_checkout"]
    for tenant, tags in (("day", {}), ("night", {}), ("day", {"device": "other"})):
        chosen: dict[str, str | list[str]] = {f"tag_{tag}": [value] for tag, value in tags.items()}
        chosen["tenant"] = tenant
        drawn = store.columns(dashboard, "Conversion: order", **chosen)
        for variation, ((_, rate),) in drawn.items():
            stem = f"{tenant}.visit.fm.{variation}"
            converted, visits = (store.total(f"{stem}.{what}", **tags) for what in ("order.beta", "beta"))
            assert rate == (pytest.approx(converted / visits) if visits else None)
        assert {"fc_off", "fc_on"} <= drawn.keys()
        assert any(rate for ((_, rate),) in drawn.values())


def test_a_variation_without_conversions_is_at_zero(store: Store, dashboards: dict[str, Json]) -> None:
    """Nobody converts in it any more, so KairosDB has no series of it: it must be seen, at 0."""
    dashboard = dashboards["Experiment fast_checkout"]
    view = next(s for s in panels(dashboard, current(dashboard)) if s.panel["title"] == "Conversion: $point")
    lines = [one for one in series(view, store.ask(view, 3_600)) if not one.name.startswith("fc_on converted")]
    drawn = transformed(view, lines)
    assert drawn["fc_on"] == [(0, 0.0)]
    assert drawn["fc_off"][0][1]


def test_the_course_of_conversion_ends_at_its_total(store: Store, dashboards: dict[str, Json]) -> None:
    """The last value of the cumulative line is the conversion of the whole range."""
    dashboard = dashboards["Experiment fast_checkout"]
    course = store.columns(dashboard, "Conversion from the beginning of the range on: order")
    total = store.columns(dashboard, "Conversion: order")
    assert {name: pytest.approx(points[-1][1]) for name, points in course.items()} == {
        name: points[0][1] for name, points in total.items()
    }
    assert max(len(points) for points in course.values()) > 2


def test_values_are_in_the_unit_of_the_attribute(store: Store, dashboards: dict[str, Json]) -> None:
    """The mean value of a qualified visit; `scale` is taken back, whatever the totals are scaled by."""
    scaled = golden_config()
    order = scaled["tenants"]["day"]["points"]["order"]
    scaled["tenants"]["day"]["points"]["order"] = {**order, "value": {**order["value"], "scale": 100}}
    rescaled = dashboards_of(reader.parse(scaled))
    for variation in ("fc_off", "fc_on"):
        stem = f"day.visit.fm.{variation}"
        mean = store.total(f"{stem}.order.sum") / store.total(f"{stem}.beta")
        assert mean
        for one, divisor in ((dashboards, 1), (rescaled, 100)):
            drawn = store.columns(one["Experiment fast_checkout"], "order: value per qualified visit")
            assert drawn[variation][0][1] == pytest.approx(mean / divisor)


@pytest.mark.parametrize(("tag", "value"), [("device", "mobile"), ("device", "other"), ("sign-in", "true")])
def test_conversion_by_tag(store: Store, dashboards: dict[str, Json], tag: str, value: str) -> None:
    """Both sides have the tag's value, also where its name has `-`; what is chosen is the point."""
    chosen: dict[str, str | list[str]] = {"of_point": "guest"}
    dashboard = dashboards["Experiment fast_checkout"]
    visits = store.columns(dashboard, f"Qualified visits by {tag}", **chosen)
    drawn = store.columns(dashboard, f"Conversion by {tag}: $of_point", **chosen)
    for variation in ("fc_off", "fc_on"):
        stem, name = f"day.visit.fm.{variation}", f"{variation} · {value}"
        qualified = store.total(f"{stem}.beta", **{tag: value})
        assert sum(count or 0 for _, count in visits.get(name, [])) == qualified
        assert drawn[name][0][1] == pytest.approx(store.total(f"{stem}.guest.beta", **{tag: value}) / qualified)


def test_the_newest_minute_is_that_of_the_log(store: Store, dashboards: dict[str, Json]) -> None:
    """Its own time, not the start of an interval, over all variations."""
    drawn = store.columns(dashboards["Experiment fast_checkout"], "Newest minute")
    newest = max(at_ms for points in drawn.values() for at_ms, _ in points)
    times_ms = [c.timestamp_ms for c in store.cells if re.match(r"day\.visit\.assigned\.[^.]+\.beta$", c.name)]
    assert newest == max(times_ms)


def test_what_is_stored_under_names_of_before_is_added(store: Store) -> None:
    """An experiment and variations that were renamed: each line is the sum of its names, also by tag."""
    renamed = golden_config()
    for tenant in ("day", "night"):
        experiments = renamed["tenants"][tenant]["experiments"]
        now = experiments.pop("fast_checkout") | {"variations": {"fc_off": 1, "fc_quick": 1}}
        experiments["checkout_speed"] = now | {"names": ["fast_checkout", "Fast?"], "aliases": {"fc_on": "fc_off"}}
    by_title = dashboards_of(reader.parse(renamed))
    dashboard = by_title["Experiment checkout_speed"]
    both = ("fc_off", "fc_on")
    visits = sum(store.total(f"day.visit.fm.{name}.beta", experiment="fast_checkout") for name in both)
    orders = sum(store.total(f"day.visit.fm.{name}.order.beta", experiment="fast_checkout") for name in both)
    for panel in ("Qualified visits", "Qualified visits over time"):
        drawn = store.columns(dashboard, panel)
        assert sum(count or 0 for _, count in drawn["fc_off"]) == visits > 0
        assert drawn.keys() == {"fc_off", "fc_quick"}
    of_all = store.columns(by_title["A/B experiments: overview"], "checkout_speed: qualified visits")
    assert sum(count or 0 for _, count in of_all["fc_off"]) == visits
    assert store.columns(dashboard, "Conversion: order")["fc_off"][0][1] == pytest.approx(orders / visits)
    others = sum(store.total(f"day.visit.fm.{name}.beta", experiment="fast_checkout", device="other") for name in both)
    by_device = store.columns(dashboard, "Qualified visits by device")
    assert sum(count or 0 for _, count in by_device["fc_off · other"]) == others > 0
    rate = store.columns(dashboard, "Conversion by device: $of_point", of_point="order")["fc_off · other"][0][1]
    converted = sum(store.total(f"day.visit.fm.{name}.order.beta", device="other") for name in both)
    assert converted > 0
    assert rate == pytest.approx(converted / others)


def test_health_ratios_are_what_the_counters_say(store: Store, dashboards: dict[str, Json]) -> None:
    """The share of rejected messages, over all, and how far the watermark is behind at each flush."""
    drawn = store.columns(dashboards["A/B monitor: health"], "Rejected, of all messages")
    rejected, accepted = store.total("monitor.rejected"), store.total("monitor.events")
    ((_, share),) = drawn["share"]
    assert share == pytest.approx(rejected / (rejected + accepted))
    behind = store.columns(dashboards["A/B monitor: health"], "How far the watermark is behind")["behind"]
    watermarks = [cell for cell in store.cells if (cell.name, cell.tags["dc"]) == ("monitor.watermark_s", DC)]
    at = {cell.timestamp_ms: cell.value for cell in watermarks}
    assert behind
    assert all(age == at_ms - 1_000 * at[at_ms] for at_ms, age in behind)
