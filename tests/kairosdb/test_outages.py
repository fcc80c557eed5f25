"""A 204 is not storage: what a server accepted shortly before it went away is written again, and ends right."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from monitor import devstore
from monitor.core.metrics import DataPoint
from monitor.kairosdb.dead_letters import DeadLetters
from monitor.kairosdb.outages import Accepted, Outages
from monitor.kairosdb.points import Renderer
from monitor.kairosdb.stats import WriterStats
from monitor.kairosdb.writer import Writer, WriterSettings
from tests.support.faulty_server import Answer, FaultyServer, Stored, refuse
from tests.support.reading import points as stored_points
from tests.support.servers import KairosDB, free_ports, require
from tests.support.writer_rig import PATIENT, QUICK, T_MS, TIMEOUT_S, cells_of, points_of, rigged, until

WRITERS = 4
RESTARTS = 3
LOADED = 200
"""Points that each writer has had accepted, at least, between two restarts."""
REAL_S = 120
"""The longest that a store on a busy machine may take for them."""
AT_ONCE = replace(QUICK, rewrite_rest=0, close_wait_s=10)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


@pytest.fixture
def own_kairosdb(tmp_path: Path) -> Iterator[KairosDB]:
    """A real KairosDB that may be stopped."""
    require()
    with KairosDB(tmp_path / "kairosdb") as server:
        yield server


def begin_anew(server: FaultyServer, held: dict[tuple[str, tuple[tuple[str, str], ...], int, str], Stored]) -> None:
    """The server stops in order and starts again with what it `held` at some moment before: the rest is lost."""
    server.down()
    server.stored = held
    server.up()


def test_a_server_that_began_anew_between_two_requests_is_noticed(server: FaultyServer, tmp_path: Path) -> None:
    """No request has failed: the connection was replaced silently. All that was accepted before is written again."""
    old, new, last = points_of(30, 1), points_of(20, 2), [DataPoint("last", T_MS, 3)]
    with rigged(server, tmp_path / "dead.jsonl", PATIENT) as rig:
        rig.writer.put(old)
        rig.writer.flush()
        held = dict(server.stored)
        rig.writer.put(new)
        rig.writer.flush()
        begin_anew(server, held)
        rig.writer.put(last)
        rig.writer.flush()
        assert server.cells() == cells_of([*old, *new, *last])
        taken = rig.stats.take()
        assert (taken["retries"], taken["rewritten"]) == (0, 30)
        assert rig.given_up() == []


def test_after_a_request_that_failed_all_before_it_is_written_again(server: FaultyServer, tmp_path: Path) -> None:
    """Each point has its last value in the end, also one of the request that failed: that is newer."""
    old, new = points_of(30, 1), points_of(20, 2)
    with rigged(server, tmp_path / "dead.jsonl", PATIENT) as rig:
        rig.writer.put(old)
        rig.writer.flush()
        server.stored.clear()
        server.script(refuse(503))
        rig.writer.put(new)
        rig.writer.flush()
        assert server.cells() == cells_of([*old, *new])
        assert rig.stats.take()["rewritten"] == 10


def test_a_part_of_the_same_delivery_is_in_doubt_too(server: FaultyServer, tmp_path: Path) -> None:
    """Of a batch in several requests, those before the failure are written again."""
    points = points_of(40)
    with rigged(server, tmp_path / "dead.jsonl", replace(PATIENT, bytes_max=1_000)) as rig:
        server.script(Answer(stores=False), Answer(stores=False), refuse(503))
        rig.writer.put(points)
        rig.writer.flush()
        assert server.cells() == cells_of(points)


def test_a_writer_without_work_learns_of_it_from_another(server: FaultyServer, tmp_path: Path) -> None:
    """Health points flow all the time, totals seldom: who is idle writes again too, without being asked."""
    with _two_writers(server, tmp_path, AT_ONCE) as (idle, busy):
        _deliver(busy, "health", 0)
        _deliver(idle, "total", 7)
        begin_anew(server, {})
        _deliver(busy, "health", 1)
        until(lambda: server.cells() == {("total", T_MS): 7, ("health", T_MS): 1})


def test_what_was_sent_before_the_end_of_an_outage_is_in_doubt(server: FaultyServer, tmp_path: Path) -> None:
    """Also where a writer that the machine lets wait learns of its 204 only after others have noticed that end."""
    answered, goes_on = threading.Event(), threading.Event()

    class Late(WriterStats):
        def add(self, *, points_written: int = 0, **counts: int) -> None:
            if points_written:
                answered.set()
                assert goes_on.wait(TIMEOUT_S)
            super().add(points_written=points_written, **counts)

    with _two_writers(server, tmp_path, AT_ONCE, Late()) as (late, busy):
        late.put([DataPoint("total", T_MS, 7)])
        assert answered.wait(TIMEOUT_S)
        begin_anew(server, {})
        server.script(refuse(503))
        _deliver(busy, "health", 1)
        goes_on.set()
        late.flush()
        assert server.cells() == {("total", T_MS): 7, ("health", T_MS): 1}


def test_an_outage_right_after_the_end_of_another_is_another(server: FaultyServer, tmp_path: Path) -> None:
    """Also where the writer that noticed that end has sent nothing since, as in a rest, and no other has work."""
    with _two_writers(server, tmp_path, replace(AT_ONCE, rewrite_rest=1e9)) as (idle, busy):
        for value in range(3):  # after the second value both rest
            _deliver(busy, "health", value)
            _deliver(idle, "total", value)
            begin_anew(server, {})
        _deliver(busy, "health", 3)
        idle.flush()
        busy.flush()
        assert server.cells() == {("total", T_MS): 2, ("health", T_MS): 3}


@pytest.mark.parametrize("answer", [refuse(429), Answer(headers=(("Connection", "close"),))], ids=["429", "closes"])
def test_what_is_no_outage(server: FaultyServer, tmp_path: Path, answer: Answer) -> None:
    """A busy server is not burdened further, and a connection that was ended with a word is none that broke."""
    with rigged(server, tmp_path / "dead.jsonl", PATIENT) as rig:
        rig.writer.put(points_of(3))
        rig.writer.flush()
        server.script(answer)
        for value in (2, 3):
            rig.writer.put([DataPoint("m", T_MS, value)])
            rig.writer.flush()
        assert rig.stats.take()["rewritten"] == 0


def test_nothing_is_written_again_where_that_is_switched_off(server: FaultyServer, tmp_path: Path) -> None:
    """`rewrite_s` of 0."""
    with rigged(server, tmp_path / "dead.jsonl", replace(PATIENT, rewrite_s=0)) as rig:
        rig.writer.put(points_of(3))
        rig.writer.flush()
        begin_anew(server, {})
        rig.writer.put([DataPoint("m", T_MS, 1)])
        rig.writer.flush()
        assert server.cells() == {("m", T_MS): 1}


def test_a_server_that_fails_all_the_time_is_not_flooded(server: FaultyServer, tmp_path: Path) -> None:
    """While it fails again in each rewriting, these have rests: what is new gets through."""
    with rigged(server, tmp_path / "dead.jsonl", replace(QUICK, points_max=5, rewrite_rest=1e9)) as rig:
        rig.writer.put(points_of(50))
        rig.writer.flush()
        server.script(*[refuse(503), Answer()] * 200)
        for value in range(20):
            rig.writer.put([DataPoint("m", T_MS, value)])
            until(lambda: rig.writer.pending == 0)
        assert server.cells()["m", T_MS] == 19
        assert rig.stats.take()["rewritten"] <= 51


def test_what_is_remembered_is_bounded() -> None:
    """In points and in characters; then the oldest is forgotten, and that is told."""
    few = Accepted(60, 10, 10**6)
    for value in range(6):
        few.add([DataPoint(f"s{value}", T_MS, value), DataPoint("same", T_MS, value)], value)
    assert len(few) == 10
    assert few.between(1e18, 1e18) == []  # accepted long before the moment from which it counts
    assert len(few.between(0, 1e18)) == 6
    assert few.has_forgotten(0)
    long = Accepted(60, 10**6, 1_000)
    for number in range(50):
        long.add([DataPoint("x" * 99 + str(number % 10), T_MS, number)], number)
    assert len(long) == 10
    kept = Accepted(60, 10**6, 10**6)
    kept.add([DataPoint("m", T_MS, 1)], 0)
    kept.forget_old()
    assert (len(kept), kept.has_forgotten(0)) == (1, False)


@pytest.mark.parametrize("seed", range(20))
def test_a_server_that_forgets_ends_right(server: FaultyServer, tmp_path: Path, seed: int) -> None:
    """It goes away at random under load, each time without the requests that it accepted last."""
    chance = random.Random(seed)

    def restart() -> None:
        held = dict(server.stored)
        wanted = len(server.requests) + chance.randrange(1, 4)
        until(lambda: len(server.requests) >= wanted)
        begin_anew(server, held)

    with _load(server.url, tmp_path, seed) as (accepted, expected):
        for _ in range(RESTARTS):
            before = accepted()
            until(lambda before=before: accepted() > before + 20)  # type: ignore[misc]
            restart()
    assert server.cells() == expected()


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_kairosdb_that_is_restarted_under_load_ends_right(
    own_kairosdb: KairosDB, tmp_path: Path, ending: str
) -> None:
    """The real one loses points that it has acknowledged, stopped in order or killed; in the end it has all of them."""
    chance = random.Random(ending)
    with _load(own_kairosdb.url, tmp_path, 0) as (accepted, expected):
        for _ in range(RESTARTS):
            wanted = accepted() + WRITERS * LOADED + chance.randrange(LOADED)
            until(lambda wanted=wanted: accepted() > wanted, REAL_S)  # type: ignore[misc]
            getattr(own_kairosdb, ending)()
            own_kairosdb.start()
    assert _cells(own_kairosdb.url) == expected()


def test_an_embedded_store_that_is_restarted_under_load_ends_right(tmp_path: Path) -> None:
    """The same with the embedded store."""
    (port,) = free_ports(1)
    file = tmp_path / "store.sqlite3"
    with ExitStack() as running:
        url = running.enter_context(devstore.running(file, port=port))
        with _load(url, tmp_path, 0) as (accepted, expected):
            for _ in range(RESTARTS):
                wanted = accepted() + WRITERS * LOADED
                until(lambda wanted=wanted: accepted() > wanted, REAL_S)  # type: ignore[misc]
                running.close()
                running.enter_context(devstore.running(file, port=port))
        assert _cells(url) == expected()


@contextmanager
def _two_writers(
    server: FaultyServer, folder: Path, settings: WriterSettings, stats: WriterStats | None = None
) -> Iterator[tuple[Writer, Writer]]:
    """Two writers of one process; `stats` are those of the first."""
    outages = Outages()
    with closing(DeadLetters(folder / "dead.jsonl")) as letters:
        one, other = (
            Writer(server.url, Renderer("dal", 60), letters, of_writer, settings, outages)
            for of_writer in (stats or WriterStats(), WriterStats())
        )
        with closing(one), closing(other):
            yield one, other


def _deliver(writer: Writer, series: str, value: int) -> None:
    """Returns when the point is accepted, and the writer has gone on to its next work."""
    writer.put([DataPoint(series, T_MS, value)])
    until(lambda: writer.pending == 0)


def _cells(url: str) -> dict[tuple[str, int], object]:
    return {
        ("|".join([name, *(f"{tag}={text}" for tag, text in tags if tag != "dc")]), timestamp_ms): value
        for (name, timestamp_ms, tags), value in stored_points(url, "load.").items()
    }


def _settle(writers: list[Writer], of_first: dict[tuple[str, int], int | float]) -> None:
    """Returns when what the last outage has put into doubt is written again, by each writer.

    Only the next request shows that outage; and those who were flushed before learn of it by one of another writer.
    """
    key, value = next(iter(of_first.items()))
    writers[0].put([DataPoint(*key, value)])
    for writer in writers:
        writer.flush()


@contextmanager
def _load(
    url: str, folder: Path, seed: int
) -> Iterator[tuple[Callable[[], int], Callable[[], dict[tuple[str, int], object]]]]:
    """Writers under load, each with totals that grow; ends once all is settled, with not one dead letter.

    Gives the number of points accepted so far, and the last value of each point.
    """
    settings: WriterSettings = replace(AT_ONCE, points_max=100, backoff_max_s=0.1)
    stats, outages, over = WriterStats(), Outages(), threading.Event()
    last: list[dict[tuple[str, int], int | float]] = [{} for _ in range(WRITERS)]
    counted = {"points_written": 0, "dead_letters": 0}

    def accepted() -> int:
        taken = stats.take()
        for name in counted:
            counted[name] += taken[name]
        return counted["points_written"]

    with ExitStack() as stack:
        letters = stack.enter_context(closing(DeadLetters(folder / "dead.jsonl")))
        writers = [Writer(url, Renderer("dal", 86_400), letters, stats, settings, outages) for _ in range(WRITERS)]
        for writer in writers:
            stack.enter_context(closing(writer))

        def write(number: int) -> None:
            chance, value = random.Random(f"{seed}/{number}"), 0
            while not over.is_set():
                value += 1
                points = [
                    DataPoint(f"load.{number}|tag={chance.randrange(5)}", T_MS + chance.randrange(40), value)
                    for _ in range(chance.randrange(1, 20))
                ]
                writers[number].put(points)
                last[number] |= {point[:2]: point.value for point in points}
                if chance.random() < 0.1:
                    writers[number].flush()
                over.wait(0.002)
            writers[number].flush()

        threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        try:
            yield accepted, lambda: {key: value for of_writer in last for key, value in of_writer.items()}
        finally:
            over.set()
            for thread in threads:
                thread.join(REAL_S)
        assert not any(thread.is_alive() for thread in threads)
        _settle(writers, last[0])
        accepted()
        assert counted["dead_letters"] == 0
