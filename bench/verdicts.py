"""Verdicts: what a minute of looks at all experiments costs after a week: one of them finds another final minute.

A store of its own process holds a week of visits and conversions, by hour and of the last hours by minute. Then the
clock goes on, ten seconds from look to look, as for `monitor watch`. A test is one evidence by the plan of restarts:
each check over all visits and in each slice. Most counts change each minute.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from bench.figures import ROOT, Figures, Meter, details_of, most_memory_bytes, report
from monitor.config.reader import parse
from monitor.kairosdb.client import check
from monitor.kairosdb.errors import KairosDbError
from monitor.serve.count_file import CountFile
from monitor.serve.service import open_service
from monitor.serve.verdicts import verdicts_of_tenant
from tests.support import served
from tests.support.servers import free_ports

HOUR_MS, MINUTE_MS = served.HOUR_MS, served.MINUTE_MS
WEEK_HOURS = 7 * 24
BY_MINUTE_HOURS = 8
"""The hours before the first look that are written by minute; those before by hour."""
NOW_MS = 1_795_500_000_000 // HOUR_MS * HOUR_MS + 25 * MINUTE_MS + 17_000
LATENESS_S = 600
POINTS = ("order", "cart", "search", "login", "error")
DEVICES, LOGINS = ("mobile", "desktop", "tablet"), ("yes", "no")
PLACES = 1 + len(DEVICES) + len(LOGINS) + len(DEVICES) * len(LOGINS)
LOOKS = 6
"""Looks a minute, of which one finds another final minute."""
TESTS_PER_EXPERIMENT = (2 + len(POINTS)) * PLACES + 1
READY_TRIES_MAX = 200


def config_of(experiments: int, dcs: list[str]) -> dict[str, Any]:
    """A tenant with so many experiments of two variations, five points and two tags."""
    experiment = {"control": "off", "variations": {"off": 1, "on": 1}, "qualified_when": {"event": "page_view"}}
    tenant = {
        "tags": {"device": list(DEVICES), "login": list(LOGINS)},
        "points": {point: {"event": point} for point in POINTS},
        "experiments": {f"e{number}": experiment for number in range(experiments)},
    }
    return {"dc": dcs[0], "serve": {"dcs": dcs}, "tenants": {"t": tenant}}


def fill(url: str, experiments: int, dcs: list[str], minutes: int) -> None:
    """Writes the counts and the reports of the jobs, until so many minutes after the first look."""
    end_ms = NOW_MS // MINUTE_MS * MINUTE_MS + (1 + minutes) * MINUTE_MS
    by_minute_ms = NOW_MS // HOUR_MS * HOUR_MS - BY_MINUTE_HOURS * HOUR_MS
    hours = range(NOW_MS // HOUR_MS * HOUR_MS - WEEK_HOURS * HOUR_MS, by_minute_ms, HOUR_MS)
    for dc in dcs:
        served.report(url, dc, hours[0] - HOUR_MS, end_ms, lateness_s=LATENESS_S)
        for number in range(experiments):
            served.post(url, _counts(dc, number, hours, 60))
            served.post(url, _counts(dc, number, range(by_minute_ms, end_ms, MINUTE_MS), 1))


def _counts(dc: str, number: int, times_ms: range, times: int) -> Iterator[tuple[str, int, dict[str, str], int]]:
    for at_ms in times_ms:
        minute = at_ms // MINUTE_MS
        for cell, (device, login) in enumerate((device, login) for device in DEVICES for login in LOGINS):
            tags = {"dc": dc, "experiment": f"e{number}", "device": device, "login": login}
            for place, variation in enumerate(("off", "on")):
                chance = (minute * 7919 + number * 104_729 + cell * 31 + place * 17) % 11
                for scope in ("assigned", "fm"):
                    yield f"t.visit.{scope}.{variation}.beta", at_ms, tags, times * (20 + chance)
                for order, point in enumerate(POINTS):
                    yield f"t.visit.fm.{variation}.{point}.beta", at_ms, tags, times * (1 + (chance + order) % 3)


@contextmanager
def _store(folder: Path) -> Iterator[str]:
    """The embedded store in a process of its own."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "monitor", "store", str(folder / "store.sqlite3"), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(READY_TRIES_MAX):
            try:
                check(url, timeout_s=1.0)
                break
            except KairosDbError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def measure(experiments: int, minutes: int, dcs: list[str]) -> Figures:
    """Looks again and again, and counts the CPU time of this process in each minute after the first look."""
    settings = parse(config_of(experiments, dcs))
    now_ms = NOW_MS
    with TemporaryDirectory(prefix="monitor-bench-") as name, _store(Path(name)) as url:
        fill(url, experiments, dcs, minutes)
        took: list[Meter] = []
        counts = CountFile(Path(name, "counts.sqlite3"), is_writer=True)
        with open_service(settings, url, lambda: now_ms, counts) as service:
            for looks in [1] + [LOOKS] * minutes:
                took.append(meter := Meter())
                for _ in range(looks):
                    with meter.running():
                        answers = verdicts_of_tenant(service, "t")
                    assert all(answer.phase is not None for answer in answers), answers
                    now_ms += MINUTE_MS // LOOKS
    first, *others = took
    tests = experiments * TESTS_PER_EXPERIMENT
    cpu_s = median(minute.cpu_s for minute in others)
    details = details_of(tests=tests, first_cpu_s=first.cpu_s, cpu_s_of_1000=1_000 * cpu_s / tests)
    wall_s = median(minute.wall_s for minute in others)
    return Figures("verdicts", tests, cpu_s, wall_s, most_memory_bytes(), "", details)


def main(
    experiments: Annotated[int, typer.Option(min=1, help="Experiments, of 85 tests each.")] = 12,
    minutes: Annotated[int, typer.Option(min=1, help="Minutes after the first look.")] = 5,
    dcs: Annotated[int, typer.Option(min=1, max=2, help="Data centers that mirror each other.")] = 1,
) -> None:
    """Measures a look at all verdicts and prints its figures as JSON."""
    report(measure(experiments, minutes, ["dal", "cdc"][:dcs]))


if __name__ == "__main__":
    typer.run(main)
