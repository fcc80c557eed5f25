"""The file of counts: verdicts are the same with it as without, and outlive the points; a bad file is told."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from monitor import devstore
from monitor.config.reader import parse
from monitor.serve import count_file
from monitor.serve.app import create_app
from monitor.serve.count_file import Beginning, CountFile, CountFileError
from monitor.serve.problems import ProblemError
from monitor.serve.service import open_service
from monitor.serve.spans import Span
from monitor.serve.tally import Tally
from monitor.serve.verdict_models import VerdictsAnswer
from monitor.serve.verdicts import verdicts
from monitor.verdicts.judge import State
from tests.support import served
from tests.support.count_case import BEGINS_MS, config, fill, judged, points, service
from tests.support.served import HOUR_MS, MINUTE_MS
from tests.support.verdict_case import LATENESS_S, NOW_MS

SHORT = config(ttl_days=2)
"""Points live two days; a verdict trusts the store for one of them."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store with the whole phase; tests do not change it."""
    with devstore.running(tmp_path_factory.mktemp("counts") / "store.sqlite3") as url:
        fill(url)
        yield url


@pytest.fixture
def own_url(tmp_path: Path) -> Iterator[str]:
    """A store of a test's own."""
    with devstore.running(tmp_path / "store.sqlite3") as url:
        yield url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "watch/counts.sqlite3"


def counts_of(answer: VerdictsAnswer) -> dict[str, dict[str, int]]:
    return {check.check: check.counts for check in answer.checks}


def test_a_phase_outlives_the_points_of_the_store(url: str, own_url: str, file: Path) -> None:
    """Watchers that start again every twenty hours; at last a store that has no more than its ttl says it must."""
    for hours_ago in (40, 20):
        judged(url, SHORT, NOW_MS - hours_ago * HOUR_MS, file)
    fill(own_url, NOW_MS - 26 * HOUR_MS)
    expected = judged(url, config(), NOW_MS)
    assert expected.state in (State.HOLD, State.STOP)
    assert judged(own_url, SHORT, NOW_MS, file) == expected
    assert judged(own_url, SHORT, NOW_MS, file, is_writer=False) == expected
    without = judged(own_url, SHORT, NOW_MS)
    assert (without.state, without.phase, "no longer" in without.words) == (State.NO_DATA, None, True)


PAID = {"points": {"order": {"event": "order", "value": {"attribute": "total", "scale": 100}}}}
UNIT = 2**30
"""Of values: so large that sums of their squares do not fit 64 bits, and a power of 2, so that doubles hold them."""


def more_points(since_ms: int) -> Iterator[tuple[str, int, dict[str, str], float]]:
    """The sums of values and the tardy visits beside the other counts."""
    for name, at_ms, tags, count in points(since_ms, NOW_MS):
        if name.endswith(".order.beta"):
            units = 3 if at_ms // MINUTE_MS % 2 else 1
            yield name.replace(".beta", ".sum"), at_ms, tags, count * units * UNIT
            yield name.replace(".beta", ".sumsq"), at_ms, tags, float(count * (units * UNIT) ** 2)
        elif ".assigned." in name:
            yield name.replace("assigned", "tardy"), at_ms, tags, count // 20


def test_sums_of_values_tardy_visits_and_traffic_outlive_the_points_too(own_url: str, file: Path) -> None:
    """Sums of squares are whole numbers of more than 64 bits."""
    fill(own_url)
    served.post(own_url, more_points(BEGINS_MS))
    short = config(ttl_days=2, tenant=PAID)
    for hours_ago in (40, 20):
        judged(own_url, short, NOW_MS - hours_ago * HOUR_MS, file)
    expected = judged(own_url, config(tenant=PAID), NOW_MS)
    counts = counts_of(expected)
    assert counts["mean order on"]["on.sumsq"] > 2**70
    assert min(counts["lateness"].values()) > 0
    assert counts["traffic_dropped"] == counts["split_of_assigned"]
    with service(own_url, config(tenant=PAID), NOW_MS) as opened:
        assert verdicts(opened, "t", "e", "dal") == expected
    with devstore.running(file.parent / "late.sqlite3") as late_url:
        fill(late_url, NOW_MS - 26 * HOUR_MS)
        served.post(late_url, more_points(NOW_MS - 26 * HOUR_MS))
        assert judged(late_url, short, NOW_MS, file) == expected


def test_whole_numbers_beyond_64_bits_come_back_as_they_are(file: Path) -> None:
    """Of both signs, beside others."""
    series = [(name, ()) for name in "abcdef"]
    counts = [2**70, -(2**70) - 1, 2**64, 2**63 - 1, -(2**63), 0.5]
    tally = Tally("1", 0, ())
    tally.restore(series, [])
    tally.take(HOUR_MS, {Span(0, HOUR_MS): dict(zip(series, counts, strict=True))}, {HOUR_MS: ()}, {})
    tally.changed_ms = 0
    kept = CountFile(file, is_writer=True)
    kept.begin("t", "e", Beginning(1, 0, 0, False, {}), 1)
    kept.keep("t", {"e": tally}, {"e": HOUR_MS})
    again = Tally("1", 0, ())
    CountFile(file, is_writer=False).restore("t", "e", again)
    (row,) = again.rows()
    assert row.counts == counts
    assert [type(count) for count in row.counts] == [int] * 5 + [float]


def test_a_watcher_that_was_away_too_long_says_so(url: str, file: Path) -> None:
    """Hours that neither the file nor the store has make no verdict."""
    judged(url, SHORT, NOW_MS - 40 * HOUR_MS, file)
    assert judged(url, SHORT, NOW_MS, file).state is State.NO_DATA


def test_at_each_minute_the_verdict_is_that_of_a_service_that_has_just_started(url: str, file: Path) -> None:
    """One that goes on reads only what is new."""
    now_ms = NOW_MS - 80 * MINUTE_MS
    counts = CountFile(file, is_writer=True)
    with open_service(parse(config()), url, lambda: now_ms, counts) as opened:
        for minutes in (0, 1, 1, 4, 30, 44):
            now_ms += minutes * MINUTE_MS
            found = verdicts(opened, "t", "e")
            assert found == judged(url, config(), now_ms)
            assert found == verdicts(opened, "t", "e", "dal")


def test_what_the_store_says_later_corrects_the_file(own_url: str, file: Path) -> None:
    """After a start all that the store holds is read again; it replaces what was counted, and is not added."""
    fill(own_url)
    for hours_ago in (40, 25, 10):
        judged(own_url, SHORT, NOW_MS - hours_ago * HOUR_MS, file)
    changed = list(points(NOW_MS - 20 * HOUR_MS, NOW_MS - 12 * HOUR_MS, times=2))
    served.post(own_url, changed)
    expected = judged(own_url, config(), NOW_MS)
    for _ in range(2):
        assert judged(own_url, SHORT, NOW_MS, file) == expected
    judged(own_url, config(), NOW_MS, file.with_name("new.sqlite3"))
    assert rows(file) == rows(file.with_name("new.sqlite3"))


def test_a_job_that_lost_its_state_is_counted_again_by_a_watcher_that_goes_on(own_url: str, file: Path) -> None:
    """Its watermark has fallen and risen again, and its minutes are others."""
    fill(own_url, until_ms=NOW_MS - HOUR_MS)
    now_ms = NOW_MS - HOUR_MS
    counts = CountFile(file, is_writer=True)
    with open_service(parse(config()), own_url, lambda: now_ms, counts) as opened:
        before = verdicts(opened, "t", "e")
        served.post(own_url, points(NOW_MS - 30 * HOUR_MS, NOW_MS, times=2))
        fallen = NOW_MS // 1_000 - 30 * 3_600
        served.post(own_url, [("monitor.watermark_s", now_ms + 30_000, {"dc": "dal"}, fallen)])
        served.report(own_url, "dal", now_ms + 60_000, NOW_MS, lateness_s=LATENESS_S)
        now_ms += 40_000
        during = verdicts(opened, "t", "e")
        now_ms = NOW_MS
        after = verdicts(opened, "t", "e")
    assert during.phase is not None
    assert during.phase.sealed_until.timestamp() == fallen // 60 * 60
    assert counts_of(during)["split_of_assigned"]["off"] < counts_of(before)["split_of_assigned"]["off"]
    assert after == judged(own_url, config(), NOW_MS)


def test_a_watcher_that_goes_on_finds_in_time_what_the_store_says_later(own_url: str, file: Path) -> None:
    """Though no watermark has fallen: a phase is counted as a whole every six hours."""
    fill(own_url)
    now_ms = NOW_MS - 7 * HOUR_MS
    with open_service(parse(config()), own_url, lambda: now_ms, CountFile(file, is_writer=True)) as opened:
        verdicts(opened, "t", "e")
        served.post(own_url, points(NOW_MS - 40 * HOUR_MS, NOW_MS - 20 * HOUR_MS, times=3))
        for hours_ago in (6, 5, 4, 3, 2, 1, 0):
            now_ms = NOW_MS - hours_ago * HOUR_MS
            found = verdicts(opened, "t", "e")
    assert found == judged(own_url, config(), NOW_MS)
    judged(own_url, config(), NOW_MS, file.with_name("new.sqlite3"))
    assert rows(file) == rows(file.with_name("new.sqlite3"))


def rows(file: Path) -> list[tuple[int, bytes]]:
    connection = sqlite3.connect(file)
    found = connection.execute("SELECT at_ms, counts FROM counts ORDER BY at_ms").fetchall()
    connection.close()
    return found


def test_the_file_holds_hours_and_ten_minutes_of_the_last_six_hours(url: str, file: Path) -> None:
    """Nothing else, also after a later look."""
    for hours_ago in (9, 0):
        judged(url, config(), NOW_MS - hours_ago * HOUR_MS, file)
    marks = [at_ms for at_ms, _ in rows(file)]
    hours = range(BEGINS_MS // HOUR_MS * HOUR_MS + HOUR_MS, NOW_MS - 600_000, HOUR_MS)
    tens = [mark for mark in marks if mark % HOUR_MS]
    assert [mark for mark in marks if not mark % HOUR_MS] == list(hours)
    assert min(tens) >= NOW_MS - 8 * HOUR_MS
    assert 6 * 5 <= len(tens) <= 7 * 5
    assert file.stat().st_size < 100_000


@pytest.mark.parametrize("damage", ["text", "foreign", "format", "cut", "row"])
def test_a_file_that_is_damaged_or_another_program_s(url: str, file: Path, damage: str) -> None:
    """The message says what to do; without the file all is as before."""
    judged(url, SHORT, NOW_MS - 38 * HOUR_MS, file)
    if damage == "text":
        file.write_text("no database\n" * 1_000)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:5_000])
    else:
        if damage == "foreign":
            file.unlink()
        connection = sqlite3.connect(file)
        connection.execute(
            {"foreign": "CREATE TABLE t (x)", "format": "PRAGMA user_version = 9"}.get(
                damage, "UPDATE counts SET counts = x'ff00'"
            )
        )
        connection.commit()
        connection.close()
    with pytest.raises((CountFileError, ProblemError), match=r"damaged or no file of counts.*delete it"):
        judged(url, SHORT, NOW_MS - 30 * HOUR_MS, file)
    file.unlink()
    assert judged(url, config(), NOW_MS, file) == judged(url, config(), NOW_MS)


def test_a_reader_waits_for_no_file(url: str, file: Path) -> None:
    """The service may start before the watcher."""
    assert judged(url, config(), NOW_MS, file, is_writer=False) == judged(url, config(), NOW_MS)
    assert not file.exists()


def test_a_file_that_is_full_stops_nothing(url: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict is that of the store; the file keeps to its bound."""
    monkeypatch.setattr(count_file, "BYTES_MAX", 7 * 4_096)
    assert judged(url, config(), NOW_MS, file) == judged(url, config(), NOW_MS)
    assert file.stat().st_size <= 7 * 4_096


def test_experiments_beyond_the_bound_are_deleted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were judged last the longest ago."""
    monkeypatch.setattr(count_file, "EXPERIMENTS_MAX", 2)
    counts = CountFile(file, is_writer=True)
    beginning = Beginning(1, 0, 0, False, {"rule": "a"})
    for number in range(4):
        counts.begin("t", f"e{number}", beginning, number)
        tally = Tally("1", 0, ())
        tally.restore([("m", ())], [])
        tally.take(2 * HOUR_MS, {}, {}, {})
        counts.keep("t", {f"e{number}": tally}, {f"e{number}": number})
    assert [counts.beginning("t", f"e{number}") for number in range(4)] == [None, None, beginning, beginning]


def test_a_tag_that_has_gone_adds_up(url: str, file: Path) -> None:
    """What the file has by its values is added; nothing of the phase is lost."""
    for hours_ago in (40, 20):
        judged(url, SHORT, NOW_MS - hours_ago * HOUR_MS, file)
    without_tags = {**SHORT, "tenants": {"t": {**SHORT["tenants"]["t"], "tags": {}}}}
    expected = judged(url, config(tenant={"tags": {}}), NOW_MS)
    assert judged(url, without_tags, NOW_MS, file) == expected


def test_the_api_says_that_the_file_is_damaged(url: str, file: Path) -> None:
    """As a problem, with what to do."""
    file.parent.mkdir()
    file.write_text("no database\n" * 1_000)
    with service(url, config(), NOW_MS, file, is_writer=False) as opened, served.http(create_app(opened)) as at:
        answer = requests.get(f"{at}/api/tenants/t/experiments/e/verdicts", timeout=30)
    assert (answer.status_code, answer.json()["type"]) == (503, "counts_unavailable")
    assert str(file) in answer.json()["detail"]


def test_with_two_data_centers_it_is_that_of_a_service_that_has_just_started(own_url: str) -> None:
    """One stops for an hour and catches up; the other lacks visits for a while, and later has them after all."""
    begun_ms = NOW_MS // HOUR_MS * HOUR_MS - 9 * HOUR_MS
    silent = range(NOW_MS - 150 * MINUTE_MS, NOW_MS - 90 * MINUTE_MS)
    lacking = range(NOW_MS - 80 * MINUTE_MS, NOW_MS - 50 * MINUTE_MS)

    def points_of(dc: str, *, is_late: bool) -> Iterator[tuple[str, int, dict[str, str], int]]:
        for name, at_ms, tags, count in points(begun_ms, NOW_MS):
            if dc == "dal" or is_late == (at_ms in lacking):
                yield name, at_ms, {**tags, "dc": dc}, count if dc == "dal" else count + 1

    reports = range(begun_ms - HOUR_MS, NOW_MS, served.REPORT_MS)
    for dc in ("dal", "cdc"):
        served.post(own_url, points_of(dc, is_late=False))
        marks = [at for at in reports if dc == "cdc" or at not in silent]
        served.post(own_url, [("monitor.watermark_s", at, {"dc": dc}, at // 1_000 - LATENESS_S) for at in marks])
    now_ms, of = NOW_MS - 200 * MINUTE_MS, {**config(), "serve": {"dcs": ["dal", "cdc"]}}
    serving = set()
    with open_service(parse(of), own_url, lambda: now_ms) as opened:
        for number in range(20):
            if number == 17:
                served.post(own_url, points_of("cdc", is_late=True))
            found = verdicts(opened, "t", "e")
            assert found == judged(own_url, of, now_ms), (NOW_MS - now_ms) // MINUTE_MS
            serving.add(counts_of(found) == counts_of(verdicts(opened, "t", "e", "dal")))
            now_ms += 10 * MINUTE_MS + 20_000 * (number % 2)
    assert serving == {True, False}
