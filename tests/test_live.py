"""The live view shows what is in the store: every number of it, nothing of another data centre or time."""

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from messages import MINUTE_MS, shop
from rich.console import Console
from strategies import Config

from monitor import live, store
from monitor.config import load, parse
from monitor.kairosdb import Renderer, body
from monitor.live import ExperimentNow, Now, TenantNow, VariationNow
from monitor.metrics import Point
from monitor.reading import Reader

NOW_MS = 1_795_491_045_678
HOUR_MS = 3_600_000
SHOP = Path(__file__).parent.parent / "examples/shop/monitor.toml"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """An embedded store, empty, whose clock stands at NOW_MS."""
    with store.running(tmp_path / "store.sqlite3", now_ms=lambda: NOW_MS) as url:
        yield url


def test_every_number(url: str) -> None:
    """Rates, rejects, watermark and the visits of each variation are those that were written."""
    _write(
        url,
        # accepted events: those of the last 30 s
        ("monitor.events|tenant=uswm", NOW_MS - 30_001, 7_000),
        ("monitor.events|tenant=uswm", NOW_MS - 30_000, 300),
        ("monitor.events|tenant=uswm", NOW_MS - 10_000, 45),
        ("monitor.events|tenant=uswm", NOW_MS, 30),
        # rejects: those of 24 hours, of known and of unknown tenants
        ("monitor.rejected|tenant=uswm|reason=late", NOW_MS - 24 * HOUR_MS - 1, 9_000),
        ("monitor.rejected|tenant=uswm|reason=late", NOW_MS - 24 * HOUR_MS, 5),
        ("monitor.rejected|tenant=uswm|reason=late", NOW_MS, 1_200),
        ("monitor.rejected|tenant=uswm|reason=duplicate", NOW_MS - 1, 70),
        ("monitor.rejected|tenant=unknown|reason=not_json", NOW_MS - 2, 3),
        # the watermark: the last one
        ("monitor.watermark_s", NOW_MS - 20_000, NOW_MS // 1_000 - 700),
        ("monitor.watermark_s", NOW_MS - 10_000, NOW_MS // 1_000 - 610),
        # totals: over all minutes and tags
        *_per_minute("uswm.visit.assigned.red.beta|experiment=button_color|device=mobile", 1_000, 200),
        *_per_minute("uswm.visit.assigned.red.beta|experiment=button_color|device=desktop", 34),
        *_per_minute("uswm.visit.assigned.blue.beta|experiment=button_color|device=mobile", 1_100),
        *_per_minute("uswm.visit.fm.red.beta|experiment=button_color|device=mobile", 400, 50),
        *_per_minute("uswm.visit.fm.blue.beta|experiment=button_color|device=mobile", 3),
        *_per_minute("uswm.visit.fm.red.order.beta|experiment=button_color|device=mobile", 90),
        # what is not shown
        *_per_minute("uswm.visit.fm.red.order|experiment=button_color|device=mobile", 999),
        *_per_minute("uswm.visit.fm.red.home_page.beta|experiment=button_color|device=mobile", 999),
        *_per_minute("uswm.visit.crossed.red.beta|experiment=button_color|device=mobile", 999),
    )
    now = live.look(Reader(url), parse(shop()), NOW_MS)
    variations = [VariationNow("blue", 1_100, 3, 0), VariationNow("red", 1_234, 450, 90)]
    assert now.tenants == {
        "uswm": TenantNow(12.5, Counter(late=1_205, duplicate=70)),
        "unknown": TenantNow(0.0, Counter(not_json=3)),
    }
    assert now.watermark_delay_s == pytest.approx(610.678)
    assert now.experiments == [ExperimentNow("uswm", "button_color", "order", variations)]

    text = _shown(now)
    assert _rows(text, "uswm")[0] == ["uswm", "12.5", "1,275", "late 1,205, duplicate 70"]
    assert _rows(text, "unknown") == [["unknown", "0.0", "3", "not_json 3"]]
    assert _rows(text, "blue") == [["uswm", "button_color", "blue", "1,100", "3", "0.00% order"]]
    assert _rows(text, "red") == [["", "", "red", "1,234", "450", "20.00% order"]]
    assert "dc dal" in text
    assert "watermark 611 s behind" in text


def test_an_empty_store_is_shown(url: str) -> None:
    """Before the first flush there is nothing to read, and that is no error."""
    now = live.look(Reader(url), parse(shop()), NOW_MS)
    nothing = [VariationNow("blue", 0, 0, 0), VariationNow("red", 0, 0, 0)]
    assert now == Now(
        {"uswm": TenantNow(0.0, Counter())}, None, [ExperimentNow("uswm", "button_color", "order", nothing)]
    )
    text = _shown(now)
    assert "watermark not known yet" in text
    assert _rows(text, "red") == [["", "", "red", "0", "0", "- order"]]


def test_other_data_centres_are_not_counted(url: str) -> None:
    """Mirrors of one topic may write to one store: each job's view shows its own dc."""
    points = [
        ("monitor.events|tenant=uswm", NOW_MS, 30),
        ("monitor.rejected|tenant=uswm|reason=late", NOW_MS, 5),
        ("monitor.watermark_s", NOW_MS, NOW_MS // 1_000),
        *_per_minute("uswm.visit.assigned.red.beta|experiment=button_color", 10),
    ]
    _write(url, *points, dc="fra")
    now = live.look(Reader(url), parse(shop()), NOW_MS)
    assert (now.tenants["uswm"], now.watermark_delay_s) == (TenantNow(0.0, Counter()), None)
    assert [v.assigned for v in now.experiments[0].variations] == [0, 0]
    _write(url, *points)
    now = live.look(Reader(url), parse(shop()), NOW_MS)
    assert now.tenants["uswm"] == TenantNow(1.0, Counter(late=5))
    assert now.watermark_delay_s == pytest.approx(0.678)
    assert [v.assigned for v in now.experiments[0].variations] == [0, 10]


def test_the_busiest_experiments_come_first(url: str) -> None:
    """Six of many experiments, by their assigned visits; more metrics than one request asks for."""
    settings = load(SHOP, {})
    names = [
        (tenant, name, next(iter(experiment.variations)))
        for tenant, table in settings.tenants.items()
        for name, experiment in table.experiments.items()
    ]
    assert len(names) > 16
    busy = [names[i] for i in (-1, 3, 0, 9, 12, 6, 7)]
    for rank, (tenant, name, variation) in enumerate(busy):
        _write(url, *_per_minute(f"{tenant}.visit.assigned.{variation}.beta|experiment={name}", 100 - rank))
    now = live.look(Reader(url), settings, NOW_MS)
    assert [(e.tenant, e.name, e.variations[0].name) for e in now.experiments] == busy[:6]
    assert [e.variations[0].assigned for e in now.experiments] == [100, 99, 98, 97, 96, 95]
    assert {e.point for e in now.experiments} == {"order"}
    assert list(now.tenants) == list(settings.tenants)


@pytest.mark.parametrize(
    ("points", "point"),
    [({"order": {}, "later": {}}, "order"), ({"first": {}, "last": {}}, "last")],
)
def test_the_conversion_point(points: Config, point: str) -> None:
    """`order` where there is one, else the last of the file."""
    config = shop()
    config["tenants"]["uswm"]["points"] = points
    config["tenants"]["uswm"]["experiments"]["button_color"]["qualified_when"] = {"event": "page_view"}
    assert live.conversion_point(parse(config).tenants["uswm"]) == point


def test_a_store_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    """The caller decides what to show instead."""
    with store.running(tmp_path / "store.sqlite3") as url:
        pass
    with pytest.raises(requests.RequestException):
        live.look(Reader(url), parse(shop()), NOW_MS)


def _per_minute(series: str, *values: int) -> list[Point]:
    """Totals of the minutes before now, the oldest an hour ago."""
    minute_ms = NOW_MS - NOW_MS % MINUTE_MS - HOUR_MS
    return [Point(series, minute_ms + i * MINUTE_MS, value) for i, value in enumerate(values)]


def _write(url: str, *points: tuple[str, int, int], dc: str = "dal") -> None:
    rendered, invalid = Renderer(dc, 30 * 86_400).render([Point(*point) for point in points])
    assert not invalid
    headers = {"Content-Type": "application/gzip"}
    answer = requests.post(f"{url}/api/v1/datapoints", body(rendered), headers=headers, timeout=10)
    assert answer.status_code == requests.codes.no_content, answer.text


def _shown(now: Now) -> str:
    """The view as text."""
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(live.view(now, "dal"))
    return console.export_text()


def _rows(text: str, name: str) -> list[list[str]]:
    """The rows of the tables that have a cell with this text."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]
    return [row for row in rows if name in row]
