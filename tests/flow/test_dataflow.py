"""The dataflow in the engine, without servers: equal to the oracle whatever stops it, and flushed when it is time."""

import io
import itertools
import pickle
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, cluster_main, run_main
from hypothesis import Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import dataflow
from monitor.config.reader import parse
from monitor.core.metrics import DataPoint
from monitor.core.watermark import Progress
from monitor.flow.source import Chunk
from monitor.runtime.clock import CLOCK, SteadyClock, WallClock
from tests.support import oracle
from tests.support.driver import tags_of
from tests.support.messages import message, shop
from tests.support.strategies import Config, configs, logs

Item: TypeAlias = Chunk | TestingSource.EOF | TestingSource.ABORT | TestingSource.PAUSE
Out: TypeAlias = list[tuple[str, list[DataPoint]]]

EACH_BATCH, SELDOM = timedelta(0), timedelta(seconds=10)
"""How often the engine takes a snapshot: after each chunk, and never in a run as short as these."""
MIDNIGHT_MS = 4_102_444_800_000
"""A start of a flush window, long after any real time: the engine, whose clock is the machine's, wakes up no window."""
FLUSH_MS = 10_000
HOUR_MS = 3_600_000


def test_straight(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One worker, from the first message to the last: totals and counts are the oracle's."""
    _hold(tmp_path_factory, lambda job, _: job.run(), counts=True, cases=10)


def test_two_workers(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Sessions and totals spread over two workers come to the same."""
    _hold(tmp_path_factory, lambda job, _: job.run(workers=2), counts=True, cases=10)


@pytest.mark.parametrize("epoch", [EACH_BATCH, SELDOM], ids=["each batch", "seldom"])
def test_crash(tmp_path_factory: pytest.TempPathFactory, epoch: timedelta) -> None:
    """A job that crashes anywhere and is started again ends with the same totals, whatever it had emitted before."""

    def crash(job: Job, at: int) -> None:
        job.items.insert(at, TestingSource.ABORT())
        job.run(epoch)
        job.run(epoch)

    _hold(tmp_path_factory, crash)


@pytest.mark.parametrize(
    ("epoch", "workers"), [(EACH_BATCH, (1, 1)), (EACH_BATCH, (1, 2)), (SELDOM, (2, 2)), (SELDOM, (2, 1))]
)
def test_stop_and_go_on(tmp_path_factory: pytest.TempPathFactory, epoch: timedelta, workers: tuple[int, int]) -> None:
    """A job that was stopped goes on exactly there, also with another number of workers: not even a count repeats."""

    def stop(job: Job, at: int) -> None:
        job.items.insert(at, TestingSource.EOF())
        for count in workers:
            job.run(epoch, count)

    _hold(tmp_path_factory, stop, counts=True)


def test_changes_are_held_until_their_window_closes() -> None:
    """Changes within flush_s become one point per series, at the end of the window and not before."""
    clock, out = _SetClock(MIDNIGHT_MS), Out()
    chunks = [_chunk(message(at_ms, "home")) for at_ms in (0, 1, 2, 3)]
    at_ms = [0, FLUSH_MS - 1, FLUSH_MS, 2 * FLUSH_MS - 1]
    script = _Script(clock, out, [(MIDNIGHT_MS + ms, chunk) for ms, chunk in zip(at_ms, chunks, strict=True)])
    run_main(_flow(shop(), script, out, clock=clock), epoch_interval=EACH_BATCH)
    assert script.values_before("uswm.visit.assigned.red.home_page") == [[], [], [], [2]]
    assert _values(out, "uswm.visit.assigned.red.home_page") == [2, 4]


def test_open_windows_close_though_the_clock_was_set_back(tmp_path: Path) -> None:
    """The machine's clock is set back while the job is down: a window closes after the rest of its time all the same.

    Messages that arrive after the restart are not late either.
    """
    recovery, out = _store(tmp_path), Out()
    clock = _SetClock(MIDNIGHT_MS + 4_000)
    first, second, third = (_chunk(message(at_ms, "home")) for at_ms in (0, 1, 2))
    run_main(
        _flow(shop(), [first, TestingSource.ABORT()], out, clock=clock),
        epoch_interval=EACH_BATCH,
        recovery_config=recovery,
    )
    assert not _values(out, "uswm.visit.assigned.red.home_page")

    back_ms = clock.now - HOUR_MS
    clock.now = back_ms
    items = [(None, first), (back_ms, second), (back_ms + 5_999, second), (back_ms + 6_000, third), (None, third)]
    script = _Script(clock, out, items)
    run_main(_flow(shop(), script, out, clock=clock), epoch_interval=EACH_BATCH, recovery_config=recovery)
    assert script.values_before("uswm.visit.assigned.red.home_page") == [[], [], [], [], [2]]
    assert _values(out, "uswm.visit.assigned.red.home_page") == [2, 3]


def test_open_windows_close_at_once_after_a_long_pause(tmp_path: Path) -> None:
    """A window whose time passed while the job was down closes with the first changes after the restart."""
    recovery, out = _store(tmp_path), Out()
    clock = _SetClock(MIDNIGHT_MS + 4_000)
    first, second = (_chunk(message(at_ms, "home")) for at_ms in (0, 1))
    run_main(
        _flow(shop(), [first, TestingSource.ABORT()], out, clock=clock),
        epoch_interval=EACH_BATCH,
        recovery_config=recovery,
    )
    clock.now += HOUR_MS
    script = _Script(clock, out, [(None, first), (None, second), (None, second)])
    run_main(_flow(shop(), script, out, clock=clock), epoch_interval=EACH_BATCH, recovery_config=recovery)
    assert script.values_before("uswm.visit.assigned.red.home_page")[2] == [1]


def test_open_windows_of_a_silent_job_close_after_the_clock_was_set_back(tmp_path: Path) -> None:
    """As above, with nothing coming in after the restart that would wake the windows up."""
    recovery, out, flush_s = _store(tmp_path), Out(), 0.3
    ahead_ms = SteadyClock().now_ms() + HOUR_MS
    clock = _SetClock(ahead_ms - ahead_ms % 300)
    first = _chunk(message(0, "home"))
    items: list[Item] = [first, TestingSource.ABORT()]
    run_main(_flow(shop(), items, out, flush_s, clock), epoch_interval=EACH_BATCH, recovery_config=recovery)
    assert not _values(out, "uswm.visit.assigned.red.home_page")

    script = _Script(None, out, [(None, first), (None, _PAUSE), (None, first)])
    run_main(_flow(shop(), script, out, flush_s, SteadyClock()), epoch_interval=EACH_BATCH, recovery_config=recovery)
    assert script.values_before("uswm.visit.assigned.red.home_page") == [[], [], [1]]


def test_windows_of_a_silent_job_close_though_the_clock_is_set_back_meanwhile() -> None:
    """The machine's clock is set back by an hour while the job runs, and nothing more comes in: windows still close."""
    out = Out()
    first = _chunk(message(0, "home"))
    script = _Script(None, out, [(None, first), (None, _PAUSE), (None, first)])
    run_main(_flow(shop(), script, out, flush_s=0.3, clock=_Ahead(HOUR_MS)), epoch_interval=EACH_BATCH)
    assert script.values_before("uswm.visit.assigned.red.home_page") == [[], [], [1]]


def test_snapshots_hold_no_class_of_ours(tmp_path: Path) -> None:
    """Every stateful step is in the recovery store, and none of its states needs a class of the monitor to be read."""
    clock, out = _SetClock(MIDNIGHT_MS), Out()
    late = message(-300_000, "home", 1)
    items: list[Item] = [_chunk(message(0, "home"), late), _chunk(message(1, "item")), TestingSource.ABORT()]
    # Every window closes with the second chunk of the second run: the ledgers have something to keep.
    run_main(_flow(shop(), items, out, clock=clock), epoch_interval=EACH_BATCH, recovery_config=_store(tmp_path))
    clock.now = MIDNIGHT_MS + FLUSH_MS
    more = _chunk(message(2, "home"), message(3, "item", sessionId="s-2"))
    script = _Script(clock, out, [*((None, item) for item in items[:2]), (None, more), (None, TestingSource.ABORT())])
    run_main(
        _flow(shop(), script, out, clock=clock),
        epoch_interval=EACH_BATCH,
        recovery_config=RecoveryConfig(str(tmp_path)),
    )
    assert _values(out, "uswm.visit.assigned.red.home_page")

    with closing(sqlite3.connect(tmp_path / "part-0.sqlite3")) as database:
        rows = database.execute("SELECT step_id, ser_change FROM snaps WHERE ser_change IS NOT NULL").fetchall()
    modules = {step: set[str]() for step, _ in rows}
    for step, data in rows:
        reader = _Reader(io.BytesIO(data))
        reader.load()
        modules[step] |= reader.modules
    assert {step.split(".")[1] for step in modules} == {"source", "sessions", "flush", "totals"}
    ours = {
        step: {m for m in found if m.partition(".")[0] in ("monitor", "dataflow")} for step, found in modules.items()
    }
    assert not any(ours.values()), ours


class Job:
    """A log in chunks, read by one run after the other, with one recovery store and one sink."""

    def __init__(self, config: Config, chunks: Iterable[Chunk], recovery: RecoveryConfig) -> None:
        self.items: list[Item] = list(chunks)
        self.out: Out = []
        self._config, self._recovery, self._clock = config, recovery, _Ticking()

    def run(self, epoch: timedelta = SELDOM, workers: int = 1) -> None:
        """Runs until a sentinel or the end."""
        flow = _flow(self._config, self.items, self.out, clock=self._clock)
        if workers == 1:
            run_main(flow, epoch_interval=epoch, recovery_config=self._recovery)
        else:
            cluster_main(
                flow,
                [],
                0,
                epoch_interval=epoch,
                recovery_config=self._recovery,
                worker_count_per_proc=workers,
            )


class _Case(NamedTuple):
    config: Config
    log: list[oracle.Message]
    chunks: list[Chunk]
    at: int
    """The chunk before which the job is to be disturbed."""


def _hold(
    factory: pytest.TempPathFactory, disturbed: Callable[[Job, int], None], counts: bool = False, cases: int = 5
) -> None:
    """Holds jobs that are run in a certain way to the oracle; with `counts`, what was counted too."""

    @examples(derandomize=True, max_examples=cases, phases=(Phase.generate,), database=None)
    @given(_cases())
    def check(case: _Case) -> None:
        job = Job(case.config, case.chunks, _store(factory.mktemp("recovery")))
        disturbed(job, case.at)
        wanted = oracle.answer(case.config, case.log)
        assert _totals(job.out, case.config["dc"]) == wanted.totals
        if counts:
            assert _counts(job.out, "events", "tenant") == {(t,): n for t, n in wanted.accepted.items()}
            assert _counts(job.out, "rejected", "tenant", "reason") == wanted.rejected
            assert _counts(job.out, "noted", "tenant", "reason") == wanted.warnings

    check()


@st.composite
def _cases(draw: st.DrawFn) -> _Case:
    """A configuration, a log of it, cut into chunks, and where to disturb."""
    config = draw(configs())
    log = draw(logs(config, messages_max=60))
    partitions = tuple(sorted({str(m.partition) for m in log}))
    runs = [list(run) for _, run in itertools.groupby(log, key=lambda m: m.partition)]
    chunks, highs = [], dict.fromkeys(partitions, 0)
    for run in runs:
        size = draw(st.integers(1, 8))
        for first in range(0, len(run), size):
            part = run[first : first + size]
            name = str(part[0].partition)
            highs[name] = max(highs[name], *(m.timestamp for m in part))
            progress = Progress(partitions, name, highs[name], idle=False)
            chunks.append(Chunk([(m.key, m.value, m.timestamp) for m in part], progress, draw(st.booleans())))
    return _Case(config, log, chunks, draw(st.integers(0, len(chunks))))


def _flow(
    config: Config, items: Iterable[Item], out: Out, flush_s: float = FLUSH_MS / 1_000, clock: WallClock = CLOCK
) -> Dataflow:
    time = config["time"] | {"flush_s": flush_s}
    source: TestingSource[Any] = TestingSource(items)
    return dataflow.build(source, TestingSink(out), parse(config | {"time": time}), clock)


def _chunk(*messages: oracle.Message) -> Chunk:
    """Messages of one partition, whose progress goes to every group."""
    high_ms = max(m.timestamp for m in messages)
    return Chunk([(m.key, m.value, m.timestamp) for m in messages], Progress(("0",), "0", high_ms, idle=False), True)


def _store(directory: Path) -> RecoveryConfig:
    init_db_dir(directory, 1)
    return RecoveryConfig(str(directory))


def _values(out: Out, name: str) -> list[float]:
    """The values of a metric in the order in which they came out."""
    return [point.value for _, points in out for point in points if point.series.split("|")[0] == name]


def _totals(out: Out, dc: str) -> dict[oracle.Key, float]:
    """The store's totals as the oracle writes them: the last value of each cell, without those that are 0."""
    last = {(p.series, p.timestamp_ms): int(p.value) for _, points in out for p in points}
    return {
        (series.split("|")[0], timestamp_ms, tags_of(series, dc)): value
        for (series, timestamp_ms), value in last.items()
        if value and not series.startswith("monitor.")
    }


def _counts(out: Out, name: str, *tags: str) -> Counter[tuple[str, ...]]:
    """A health counter, summed over the flushes, by the values of its tags."""
    counted: Counter[tuple[str, ...]] = Counter()
    buckets = {(p.series, p.timestamp_ms): int(p.value) for _, points in out for p in points}
    for (series, _), value in buckets.items():
        found, *pairs = series.split("|")
        if found == f"monitor.{name}":
            values = dict(pair.split("=") for pair in pairs)
            counted[tuple(values[tag] for tag in tags)] += int(value)
    return counted


_PAUSE = TestingSource.PAUSE(timedelta(seconds=1))


class _Script:
    """Items, each read when the clock is set to its time (None: left as it is); notes what was out before each."""

    def __init__(self, clock: "_SetClock | None", out: Out, items: Iterable[tuple[int | None, Item]]) -> None:
        self._clock, self._out, self._items = clock, out, list(items)
        self._out_before: list[int] = []
        self._begins = len(out)

    def __iter__(self) -> Iterator[Item]:
        for now_ms, item in self._items:
            self._out_before.append(len(self._out))
            if self._clock is not None and now_ms is not None:
                self._clock.now = now_ms
            yield item

    def values_before(self, name: str) -> list[list[float]]:
        """The values of a metric that this run had given out before each item was read."""
        return [_values(self._out[self._begins : end], name) for end in self._out_before]


class _SetClock:
    """A clock that shows what it is set to."""

    def __init__(self, now_ms: int) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        """The time it is set to."""
        return self.now


class _Ticking:
    """A clock that goes on by a part of a flush window whenever it is read, so that windows close all the time."""

    def __init__(self) -> None:
        self._times = itertools.count(MIDNIGHT_MS, FLUSH_MS // 20)

    def now_ms(self) -> int:
        """Another time each time."""
        return next(self._times)


class _Ahead:
    """The steady clock of a process whose machine's clock was set back."""

    def __init__(self, ahead_ms: int) -> None:
        self._clock, self._ahead_ms = SteadyClock(), ahead_ms

    def now_ms(self) -> int:
        """Ahead of the machine's clock."""
        return self._clock.now_ms() + self._ahead_ms


class _Reader(pickle.Unpickler):
    """Reads a pickle and notes the modules of the classes that it needs."""

    def __init__(self, data: io.BytesIO) -> None:
        super().__init__(data)
        self.modules: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        """The class, noted."""
        self.modules.add(module)
        return super().find_class(module, name)
