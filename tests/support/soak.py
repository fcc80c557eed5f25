"""A long run: the job on real Kafka at a steady rate, visits coming and going, its use of the machine held to bounds.

    python -m tests.support.soak --minutes 60 --rate 2000

Traffic is that of `monitor simulate`; session gap and lateness are short, so that visits and minutes are forgotten all
the time and a leak shows within minutes. In long runs the job is stopped and started again now and then. Every few
seconds its memory, its recovery store, its open files, its lag and the delay of its watermark are looked at, at the end
they are judged, and every message has to have been counted once. Exit status 0 if all bounds were kept, else 1.
"""

import statistics
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import psutil
import typer
from rich.console import Console
from rich.table import Table

from monitor import devstore
from monitor.kairosdb.reader import Ask, Reader
from monitor.simulate import Traffic
from monitor.simulate.shop import TENANTS
from monitor.simulate.traffic import EVENTS_PER_VISIT
from tests.support.job import ROOT, Job, Run, configured, messages_counted
from tests.support.servers import Kafka
from tests.support.strategies import Config

TOPIC = "soak"
PARTITIONS = 4
GAP_S = 20
FLUSH_S = 2
FORGOTTEN_S = 2 * GAP_S + 60 + 10
"""A visit is forgotten after lateness, gap, a minute's rounding, and the way: so long the state still grows."""
SETTLED_S = 15.0
"""After a start the job catches up for a while; lag and watermark are not judged then."""
HEALTH_S = 60
"""How far back the latest health metrics are looked for."""
THIRDS_MIN = 10
"""Growth is judged from so many samples on in each third of the time after the warm-up."""
DRAIN_S = 180.0
QUERY_TIMEOUT_S = 10.0
LAG_S = 15
"""So far may the job be behind for a moment, when other tests use the machine."""
MEGABYTE = 1_000_000


class Plan(NamedTuple):
    """How long, how many events a second, how often it is looked at and how often the job is started again."""

    seconds: float
    rate: float = 2_000.0
    every_s: float = 3.0
    restart_every_s: float = 600.0


class Sample(NamedTuple):
    """The figures of one moment, `at_s` after the start; `settled`: the job had run for a while."""

    at_s: float
    settled: bool
    memory_mb: float
    recovery_mb: float
    open_files: int
    lag: int
    watermark_delay_s: float
    sessions: int
    totals: int


class Bound(NamedTuple):
    """The most that a figure may be, and by which factor it may grow from the first to the last third."""

    most: float
    growth: float | None


class Judged(NamedTuple):
    """One figure over the run; `growth` is None where the run was too short to tell."""

    name: str
    least: float
    median: float
    most: float
    growth: float | None
    bound: Bound

    @property
    def kept(self) -> bool:
        """True if the bound was kept."""
        return self.most <= self.bound.most and not (
            self.growth is not None and self.bound.growth is not None and self.growth > self.bound.growth
        )


class Report(NamedTuple):
    """The results of a run."""

    plan: Plan
    samples: list[Sample]
    sent: int
    counted: int
    starts: int
    dead_letters: int

    def judged(self) -> list[Judged]:
        """Each figure of the samples against its bound."""
        bounds = bounds_of(self.plan)
        settled = [sample for sample in self.samples if sample.settled]
        return [_judged(name, settled, bound) for name, bound in bounds.items()]

    def kept(self) -> bool:
        """True if all bounds were kept and every message was counted once."""
        return self.sent == self.counted and not self.dead_letters and all(judged.kept for judged in self.judged())


def bounds_of(plan: Plan) -> dict[str, Bound]:
    """The bounds of a run, by the names of Sample's fields; the state that is kept goes with the rate."""
    return {
        "memory_mb": Bound(150 + plan.rate / 20, 1.15),
        "recovery_mb": Bound(50 + plan.rate / 20, 1.25),
        "open_files": Bound(100, 1.05),
        "lag": Bound(plan.rate * LAG_S, None),
        "watermark_delay_s": Bound(GAP_S + FLUSH_S + 15 + LAG_S, 1.5),
        "sessions": Bound(plan.rate * FORGOTTEN_S / 5, 1.25),
        "totals": Bound(100_000, 1.25),
    }


def soak(plan: Plan, kafka: Kafka, folder: Path) -> Report:
    """Runs the job for so long; the report is to be judged by whoever asked for it."""
    kafka.create_topic(TOPIC, PARTITIONS, {"message.timestamp.type": "LogAppendTime"})
    with devstore.running(folder / "store.sqlite3") as url:
        job = Job(folder / "job", _config(kafka, url, folder / "job"))
        return _Soak(plan, kafka, job, url).run()


def _config(kafka: Kafka, url: str, folder: Path) -> Config:
    shop = tomllib.loads((ROOT / "examples/shop/monitor.toml").read_text())
    times = {"session_gap_s": GAP_S, "allowed_lateness_s": GAP_S, "flush_s": FLUSH_S, "idle_after_s": 1}
    plain = {name: table for name, table in shop.items() if name not in ("kafka", "kairosdb")}
    return configured(plain | {"time": shop["time"] | times}, "soak", kafka, [TOPIC], url, folder)


class _Soak:
    def __init__(self, plan: Plan, kafka: Kafka, job: Job, url: str) -> None:
        self._plan, self._kafka, self._job, self._url = plan, kafka, job, url
        self._reader = Reader(url, QUERY_TIMEOUT_S)
        self._traffic = _traffic(plan.rate)
        self._begun_s = time.monotonic()
        self._second = self._sent = self._starts = 0
        self._samples: list[Sample] = []

    def run(self) -> Report:
        """One life of the job after the other, then until all is counted."""
        while self._at_s() < self._plan.seconds:
            until_s = min(self._at_s() + self._plan.restart_every_s, self._plan.seconds)
            with self._running() as run:
                self._live(run, until_s)
                if until_s >= self._plan.seconds:
                    run.awaits(self._all_counted, "end of the topic", DRAIN_S)
                run.stop()
        letters = self._job.folder / "dead-letters.jsonl"
        dead_letters = letters.read_bytes().count(b"\n") if letters.exists() else 0
        counted = messages_counted(self._url, self._job.dc)
        return Report(self._plan, self._samples, self._sent, counted, self._starts, dead_letters)

    @contextmanager
    def _running(self) -> Iterator[Run]:
        self._starts += 1
        with self._job.running() as run:
            run.awaits(lambda: self._job.position() >= self._sent and self._job.recovery.exists(), "snapshot")
            yield run

    def _live(self, run: Run, until_s: float) -> None:
        """Lets traffic come in, a second of it at a time, and looks at the job now and then."""
        started_s = self._at_s()
        while (now_s := self._at_s()) < until_s:
            self._send()
            if not self._samples or now_s - self._samples[-1].at_s >= self._plan.every_s:
                has_run = now_s - started_s >= min(SETTLED_S, self._plan.seconds / 5)
                settled = has_run and bool(self._latest("watermark_s"))
                self._samples.append(self._look(run, now_s, settled))
            time.sleep(max(0.0, self._second - self._at_s()))

    def _send(self) -> None:
        """Sends the seconds of traffic that are over."""
        while self._second < self._at_s():
            messages = self._traffic.second(self._second)
            self._kafka.produce(TOPIC, ((m.partition, m.key, m.value, None) for m in messages))
            self._sent += len(messages)
            self._second += 1

    def _look(self, run: Run, at_s: float, settled: bool) -> Sample:
        process = psutil.Process(run.process.pid)
        return Sample(
            at_s,
            settled,
            process.memory_info().rss / MEGABYTE,
            _size(self._job.recovery) / MEGABYTE,
            process.num_fds(),
            sum(self._latest("lag", "partition")),
            time.time() - max(self._latest("watermark_s"), default=0),
            sum(self._latest("sessions")),
            sum(self._latest("totals")),
        )

    def _latest(self, name: str, *by: str) -> list[int]:
        now_ms = time.time_ns() // 1_000_000
        dc = {"dc": [self._job.dc]}
        ask = Ask((f"monitor.{name}",), now_ms - HEALTH_S * 1_000, now_ms + 1, dc, by, "last", sampling_ms=None)
        return [row.value for row in self._reader.rows([ask])[0]]

    def _all_counted(self) -> bool:
        return messages_counted(self._url, self._job.dc) >= self._sent

    def _at_s(self) -> float:
        return time.monotonic() - self._begun_s


def _traffic(rate: float) -> Traffic:
    """Traffic from now on, with this rate now: a Traffic's own is its mean over a day."""
    start_ms = time.time_ns() // 1_000_000
    mean = Traffic(1, start_ms, rate)
    present = EVENTS_PER_VISIT * sum(mean.visits_per_s(tenant, 0) for tenant in TENANTS)
    return Traffic(1, start_ms, rate * rate / present, partitions=PARTITIONS)


def _size(folder: Path) -> int:
    size = 0
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # the job has just closed it
            size += file.stat().st_size
    return size


def _judged(name: str, settled: Sequence[Sample], bound: Bound) -> Judged:
    values = [getattr(sample, name) for sample in settled]
    warm = [getattr(sample, name) for sample in settled if sample.at_s >= FORGOTTEN_S]
    third = len(warm) // 3
    growth = None
    if third >= THIRDS_MIN:
        growth = statistics.median(warm[-third:]) / max(1.0, statistics.median(warm[:third]))
    return Judged(name, min(values), statistics.median(values), max(values), growth, bound)


def table_of(report: Report) -> Table:
    """The figures of a run and whether each kept its bound."""
    plan = report.plan
    title = f"{plan.seconds / 60:.1f} minutes at {report.sent / plan.seconds:,.0f} events/s, {report.starts} start(s)"
    table = Table(title=title, title_justify="left")
    for column in ("", "min", "median", "max", "bound", "growth", "bound", "ok"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for judged in report.judged():
        figures = judged.least, judged.median, judged.most, judged.bound.most
        grown = ["-" if value is None else f"{value:.2f}" for value in (judged.growth, judged.bound.growth)]
        name = judged.name.replace("_", " ")
        table.add_row(name, *(f"{value:,.0f}" for value in figures), *grown, "yes" if judged.kept else "NO")
    return table


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 3.0,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 2_000.0,
    restart_every_s: Annotated[float, typer.Option(min=30, help="SIGTERM and a new start, so often.")] = 600.0,
) -> None:
    """Runs the job under load and holds it to bounds."""
    console, plan = Console(), Plan(minutes * 60, rate, restart_every_s=restart_every_s)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="monitor-soak-")))
        kafka = stack.enter_context(Kafka(folder / "kafka"))
        console.print(f"soaking for {minutes:g} minutes; all in {folder}")
        report = soak(plan, kafka, folder)
    console.print(table_of(report))
    console.print(f"{report.sent:,} messages sent, {report.counted:,} counted, {report.dead_letters} dead letters")
    console.print("all bounds kept" if report.kept() else "NOT all bounds kept")
    sys.exit(not report.kept())


if __name__ == "__main__":
    typer.run(main)
