"""Final minutes are read back before their totals are forgotten, and written again where KairosDB lost something."""

import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from monitor import devstore
from monitor.core.ledger import Ledger
from monitor.core.metrics import DataPoint
from monitor.flow import readback as reading_back
from monitor.flow.changes import Changes
from monitor.flow.keys import METRIC_GROUPS, SESSION_GROUPS
from monitor.flow.readback import FinalMinutes, Readback
from monitor.flow.telemetry import Telemetry
from monitor.flow.totals import TotalsStep
from monitor.kairosdb.client import Client
from monitor.kairosdb.points import Renderer, body
from monitor.kairosdb.reader import Reader
from tests.support.faulty_server import FaultyServer, refuse
from tests.support.messages import BASE_MS, MINUTE_MS
from tests.support.reading import points as stored_points
from tests.support.servers import free_ports
from tests.support.writer_rig import until

MINUTE = BASE_MS // MINUTE_MS
DC = "readback"
SOON_S = 0.02
TOTALS = {
    f"rb.visit.fm.{variation}.order{part}|experiment=e|device={device}": number
    for number, (variation, part, device) in enumerate(
        [(v, p, d) for v in ("red", "blue") for p in ("", ".beta", ".sum", ".sumsq") for d in ("mobile", "desktop")], 1
    )
}


@pytest.fixture(params=["embedded", "real"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of each of the two stores."""
    if request.param == "real":
        yield request.getfixturevalue("real_kairosdb")
    else:
        with devstore.running(tmp_path / "store.sqlite3") as url:
            yield url


def flushed(totals: dict[str, int], watermark_ms: int, minute: int = MINUTE) -> tuple[int, Changes]:
    """Changes of a minute, and a watermark of all session key groups."""
    return 0, Changes(3, {minute: totals}, dict.fromkeys(range(SESSION_GROUPS), watermark_ms), {}, {}, {})


def write(url: str, points: Sequence[DataPoint]) -> None:
    """As the sink does."""
    rendered, invalid = Renderer(DC, 86_400).render(points)
    assert invalid == []
    with Client(url, 30, 30) as client:
        assert client.post(body(rendered)) is None


def emitted(step: TotalsStep) -> list[DataPoint]:
    """What the step emits when it is woken."""
    batches, discard = step.on_notify()
    assert not discard
    return [point for batch in batches for point in batch]


def awaited(step: TotalsStep) -> list[DataPoint]:
    """What the step emits first; fails if its minutes are all read before."""
    found: list[DataPoint] = []

    def look() -> bool:
        found.extend(emitted(step))
        assert found or step.notify_at() is not None, "nothing was lost"
        return bool(found)

    until(look)
    return found


def all_read(step: TotalsStep) -> bool:
    assert emitted(step) == []
    return step.notify_at() is None


OPENED: list[Readback] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """No thread goes on asking after the test."""
    yield
    while OPENED:
        OPENED.pop().close()


def readback(url: str) -> Readback:
    """One that looks soon, and is closed after the test."""
    OPENED.append(Readback(url, DC, 10**6, SOON_S))
    return OPENED[-1]


def sealed_step(url: str, telemetry: Telemetry, totals: dict[str, int] = TOTALS) -> tuple[TotalsStep, list[DataPoint]]:
    """A step with one final minute, and the points that it gave out for it."""
    step = TotalsStep(None, telemetry=telemetry, readback=readback(url))
    batches, _ = step.on_batch([flushed(totals, BASE_MS + MINUTE_MS)])
    return step, [point for batch in batches for point in batch]


def test_a_total_that_was_lost_or_is_old_is_written_again(url: str) -> None:
    """And no other; once all is there, the minute is forgotten. It is counted."""
    telemetry = Telemetry()
    totals = {series.replace("rb.", f"rb-{time.time_ns()}."): total for series, total in TOTALS.items()}
    step, points = sealed_step(url, telemetry, totals)
    lost, old = points[2], points[5]
    write(url, [point for point in points if point not in (lost, old)] + [old._replace(value=99)])
    assert awaited(step) == [lost, old]
    assert step.snapshot()["unread"].keys() == {MINUTE}
    write(url, [lost, old])
    until(lambda: all_read(step))
    assert "unread" not in step.snapshot()
    counts = telemetry.take().counts
    assert (counts["monitor.repaired"], "monitor.unread" in counts) == (2, False)


def test_a_sum_of_squares_of_a_double_is_right_where_the_store_has_the_double(url: str) -> None:
    """The exact total is rounded once; the next double is not it."""
    totals = {f"rb-{time.time_ns()}.visit.fm.red.order.sumsq|experiment=e": 31_000_000_00**2 + 1}
    step, (point,) = sealed_step(url, Telemetry(), totals)
    write(url, [point._replace(value=float(point.value))])
    until(lambda: all_read(step))


def test_what_is_not_read_back_is_read_back_after_a_restart(tmp_path: Path) -> None:
    """The state holds it, without a class of ours."""
    (port,) = free_ports(1)
    step, points = sealed_step(f"http://127.0.0.1:{port}", Telemetry())
    data = pickle.dumps(step.snapshot())
    assert b"monitor" not in data
    with devstore.running(tmp_path / "store.sqlite3") as url:
        write(url, points[1:])
        again = TotalsStep(pickle.loads(data), telemetry=Telemetry(), readback=readback(url))
        assert awaited(again) == points[:1]


def test_a_store_that_does_not_answer_holds_nothing_up(tmp_path: Path) -> None:
    """Questions wait until it does; the flow gets no error."""
    (port,) = free_ports(1)
    step, points = sealed_step(f"http://127.0.0.1:{port}", Telemetry())
    assert emitted(step) == []
    with devstore.running(tmp_path / "store.sqlite3", port=port) as url:
        write(url, points)
        until(lambda: all_read(step))


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_store_that_cannot_answer_leaves_the_minute_unread(status: int) -> None:
    """After some tries it is forgotten, and counted as unread."""
    telemetry = Telemetry()
    with FaultyServer() as server:
        server.script(*[refuse(status)] * reading_back.QUERY_TRIES)
        step, _ = sealed_step(server.url, telemetry)
        until(lambda: all_read(step))
        assert telemetry.take().counts == {"monitor.unread": len(TOTALS)}


def test_a_store_that_forgets_for_ever_is_given_up(tmp_path: Path) -> None:
    """Each repair is lost as well: after REPAIRS_MAX of them the minute counts as unread."""
    telemetry = Telemetry()
    with devstore.running(tmp_path / "store.sqlite3") as url:
        step, points = sealed_step(url, telemetry)
        for _ in range(reading_back.REPAIRS_MAX):
            assert awaited(step) == points
        until(lambda: all_read(step))
    repaired = len(TOTALS) * reading_back.REPAIRS_MAX
    assert telemetry.take().counts == {"monitor.repaired": repaired, "monitor.unread": len(TOTALS)}


@pytest.mark.parametrize(("points_a_minute", "share"), [(16_000, 1), (15_999, 2), (8_000, 2), (7_999, 4)])
def test_of_many_totals_a_share_of_the_minutes_is_read(points_a_minute: int, share: int) -> None:
    """Whole minutes, the same ones in all metric key groups; the others are told."""
    telemetry, asked = Telemetry(), list[Sequence[DataPoint]]()
    final = FinalMinutes(Ledger(), Noting(points_a_minute, asked.append), {}, telemetry)
    of_group = 16_000 // METRIC_GROUPS
    for minute in range(8):
        final.add({minute: {f"s{number}": 1 for number in range(of_group)}})
    assert [points[0].timestamp_ms // MINUTE_MS for points in asked] == list(range(0, 8, share))
    left_out = 8 - len(asked)
    forgotten = len(asked) - len(final.state())  # those that waited, at the bound of totals
    assert telemetry.take().counts.get("monitor.unread", 0) == (left_out + forgotten) * of_group


def test_what_waits_is_bounded() -> None:
    """In minutes and in totals; the oldest counts as unread. One minute alone may be larger."""
    telemetry = Telemetry()
    final = FinalMinutes(Ledger(), Noting(10**6, lambda points: None), {}, telemetry)
    for minute in range(200):
        final.add({minute: {"s": 1}})
    assert len(final.state()) == reading_back.UNREAD_MINUTES_MAX
    assert telemetry.take().counts == {"monitor.unread": 140}
    few = FinalMinutes(Ledger(), Noting(METRIC_GROUPS * 10, lambda points: None), {}, telemetry)
    for minute in range(20):
        few.add({minute: {"a": 1, "b": 1, "c": 1}})
    assert len(few.state()) == 3


def test_where_it_is_switched_off_minutes_are_forgotten() -> None:
    """As they become final; nothing is asked and nothing told."""
    telemetry = Telemetry()
    step = TotalsStep(None, telemetry=telemetry)
    step.on_batch([flushed(TOTALS, BASE_MS + MINUTE_MS)])
    assert (step.notify_at(), emitted(step), telemetry.take().counts) == (None, [], {})


def test_lost_points_are_found_by_all_of_their_tags(url: str) -> None:
    """Of one metric in two experiments, and with other tags than before, each series is itself."""
    name = f"rb-{time.time_ns()}.visit.fm.red.beta"
    points = [
        DataPoint(f"{name}|{tags}", BASE_MS, value)
        for value, tags in enumerate(["experiment=a|device=m", "experiment=b|device=m", "experiment=a", "experiment=b"])
    ]
    write(url, [*points, DataPoint(f"{name}|experiment=c", BASE_MS, 7)])
    with Reader(url, 30) as reader:
        assert list(reading_back.differing(reader, DC, points)) == []
        changed = [points[0], points[1]._replace(value=8), points[2], DataPoint(f"{name}|experiment=d", BASE_MS, 1)]
        assert list(reading_back.differing(reader, DC, changed)) == [changed[1], changed[3]]
    assert len(stored_points(url, name)) == 5


class Noting(Readback):
    """A readback that only notes what it is asked."""

    def __init__(self, points_a_minute: int, note: Callable[[Sequence[DataPoint]], object]) -> None:
        super().__init__("http://127.0.0.1:1", DC, points_a_minute)
        self._note = note

    def ask(self, points: Sequence[DataPoint]) -> reading_back.Question:
        self._note(points)
        return reading_back.Question(points, 0)
