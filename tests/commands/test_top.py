"""`monitor top` shows what the query service answers: every number of it, and what to do where it does not answer."""

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from monitor import devstore
from monitor.commands import top
from monitor.commands.top import Now, TopError
from monitor.config.reader import parse
from monitor.core.metrics import DataPoint
from monitor.kairosdb.client import Client
from monitor.kairosdb.points import Renderer, body
from monitor.serve.app import create_app
from monitor.serve.service import open_service
from tests.support import served
from tests.support.messages import MINUTE_MS, shop
from tests.support.strategies import Config

NOW_MS = 1_795_491_045_678
HOUR_MS = 3_600_000
ROOT = Path(__file__).parents[2]


@contextmanager
def answering(tmp_path: Path, *points: tuple[str, int, int], config: Config | None = None) -> Iterator[str]:
    """A query service on a store with these points, at NOW_MS."""
    settings = parse(config or shop())
    with devstore.running(tmp_path / "store.sqlite3", now_ms=lambda: NOW_MS) as url:
        _write(url, *points)
        with (
            open_service(settings, url, now_ms=lambda: NOW_MS) as service,
            served.http(create_app(service)) as address,
        ):
            yield address


def test_every_number(tmp_path: Path) -> None:
    """Rates, rejects, watermark and the visits of each variation are those that were written."""
    points = [
        # accepted events: those of the last 5 minutes
        ("monitor.events|tenant=uswm", NOW_MS - 300_001, 7_000),
        ("monitor.events|tenant=uswm", NOW_MS - 300_000, 3_000),
        ("monitor.events|tenant=uswm", NOW_MS, 750),
        # rejects: those of the last hour, of known and of unknown tenants
        ("monitor.rejected|tenant=uswm|reason=late", NOW_MS - HOUR_MS - 1, 9_000),
        ("monitor.rejected|tenant=uswm|reason=late", NOW_MS - HOUR_MS, 5),
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
    ]
    with answering(tmp_path, *points) as address:
        text = _shown(top.look(address))
    assert _rows(text, "uswm")[0] == ["uswm", "12.5", "1,275", "late 1,205, duplicate 70"]
    assert _rows(text, "unknown") == [["unknown", "0.0", "3", "not_json 3"]]
    assert _rows(text, "blue") == [["uswm", "button_color", "blue", "0", "1,100", "3", "0.00% order"]]
    assert _rows(text, "red") == [["", "", "red", "0", "1,234", "450", "20.00% order"]]
    assert "dc dal" in text
    assert "watermark 611 s behind" in text


@pytest.mark.parametrize("width", [80, 60])
def test_a_narrow_terminal_has_every_number(tmp_path: Path, width: int) -> None:
    """Tenant, events/s and rejected are whole; the reasons wrap below each other."""
    points = [
        ("monitor.events|tenant=uswm", NOW_MS - HOUR_MS // 2, 0),
        ("monitor.events|tenant=uswm", NOW_MS, 6_480_000),
    ]
    points += [
        (f"monitor.rejected|tenant=uswm|reason={reason}", NOW_MS, 1_234_000 + i)
        for i, reason in enumerate(("late", "duplicate", "future", "bad_time"))
    ]
    with answering(tmp_path, *points) as address:
        text = _shown(top.look(address), width)
    rows = _rows(text, "uswm")
    assert rows[0][:3] == ["uswm", "21,600.0", "4,936,006"]
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert all(reason in text for reason in ("late", "duplicate", "future", "bad_time"))


def test_an_empty_store_is_shown(tmp_path: Path) -> None:
    """Before the first flush there is nothing to read, and that is no error; but what to do is said."""
    with answering(tmp_path) as address:
        text = _shown(top.look(address))
    assert "watermark not known yet" in text
    assert "dal has never reported" in text
    assert _rows(text, "red") == [["", "", "red", "0", "0", "0", "- order"]]


def test_the_busiest_experiments_come_first(tmp_path: Path) -> None:
    """Six of many experiments, by their assigned visits."""
    config = shop()
    template = config["tenants"]["uswm"]["experiments"]["button_color"]
    names = [f"e{i}" for i in range(8)]
    config["tenants"]["uswm"]["experiments"] = {
        name: {**template, "control": f"{name}_a", "variations": {f"{name}_a": 1, f"{name}_b": 1}} for name in names
    }
    busy = [3, 0, 7, 5, 1, 6, 2]
    points = [
        point
        for rank, i in enumerate(busy)
        for point in _per_minute(f"uswm.visit.assigned.e{i}_a.beta|experiment=e{i}", 100 - rank)
    ]
    with answering(tmp_path, *points, config=config) as address:
        now = top.look(address)
    assert [shown.answer.experiment for shown in now.experiments] == [f"e{i}" for i in busy[:6]]
    assert {shown.point for shown in now.experiments} == {"order"}


def test_what_is_busy_now_comes_first(tmp_path: Path) -> None:
    """Before what was busy today; the visits just assigned are beside those of 24 hours, and a missing one is red."""
    config = shop()
    experiments = config["tenants"]["uswm"]["experiments"]
    experiments["later"] = {**experiments["button_color"], "control": "old", "variations": {"old": 1, "new": 1}}
    minute_ms = NOW_MS - NOW_MS % MINUTE_MS
    points = [
        *_per_minute("uswm.visit.assigned.red.beta|experiment=button_color", 1_000),
        ("uswm.visit.assigned.old.beta|experiment=later", minute_ms - 2 * MINUTE_MS, 20),
        ("uswm.visit.assigned.old.beta|experiment=later", minute_ms, 2),
    ]
    with answering(tmp_path, *points, config=config) as address:
        now = top.look(address)
    assert [shown.answer.experiment for shown in now.experiments] == ["later", "button_color"]
    assert _rows(_shown(now), "old") == [["uswm", "later", "old", "22", "22", "0", "- order"]]
    console = Console(width=160, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(top.view(now))
    assert isinstance(console.file, io.StringIO)
    assert len(re.findall(r"\x1b\[31m *0\x1b\[0m", console.file.getvalue())) == 1


@pytest.mark.parametrize(("points", "point"), [(["order", "later"], "order"), (["first", "last"], "last"), ([], "")])
def test_the_conversion_point(points: list[str], point: str) -> None:
    """`order` where there is one, else the last of the file."""
    assert top.conversion_point(points) == point


def test_a_service_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    """It says where it was looked for; the command ends with status 2, one message and no traceback."""
    with answering(tmp_path) as address:
        pass
    with pytest.raises(TopError, match=rf"^is `monitor serve` running at {address}\? GET .*: no connection$"):
        top.look(address)
    command = [sys.executable, "-m", "monitor", "top", "--once", "--url", address]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert address in ended.stderr
    assert "Traceback" not in ended.stderr


def test_once_from_the_command_line(tmp_path: Path) -> None:
    """`--once` shows the view and ends."""
    points = _per_minute("uswm.visit.assigned.red.beta|experiment=button_color", 12)
    with answering(tmp_path, *points) as address:
        command = [sys.executable, "-m", "monitor", "top", "--once", "--url", address]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert _rows(shown, "red")[0][3:5] == ["0", "12"]


def test_a_service_without_its_store_is_shown(tmp_path: Path) -> None:
    """What the service advises stands in the view."""
    with (
        open_service(parse(shop()), "http://127.0.0.1:9", now_ms=lambda: NOW_MS) as service,
        served.http(create_app(service)) as address,
    ):
        text = _shown(top.look(address))
    assert "Check that KairosDB is up" in text


def _per_minute(series: str, *values: int) -> list[tuple[str, int, int]]:
    """Totals of the minutes before now, the oldest an hour ago."""
    minute_ms = NOW_MS - NOW_MS % MINUTE_MS - HOUR_MS
    return [(series, minute_ms + i * MINUTE_MS, value) for i, value in enumerate(values)]


def _write(url: str, *points: tuple[str, int, int]) -> None:
    rendered, invalid = Renderer("dal", 30 * 86_400).render([DataPoint(*point) for point in points])
    assert not invalid
    with Client(url, 10, 10) as client:
        assert client.post(body(rendered)) is None


def _shown(now: Now, width: int = 160) -> str:
    """The view as text."""
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(top.view(now))
    return console.export_text()


def _rows(text: str, name: str) -> list[list[str]]:
    """The rows of the tables that have a cell with this text."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]
    return [row for row in rows if name in row]
