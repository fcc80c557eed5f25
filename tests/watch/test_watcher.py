"""`monitor watch`: changes of verdicts are found once, recorded with their evidence, written and told."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitor import devstore
from monitor.core.metrics import DataPoint
from monitor.serve.count_file import CountFile
from monitor.serve.service import Service
from monitor.serve.stored_verdicts import STATES
from monitor.verdicts.judge import State
from monitor.watch import audit as audit_module
from monitor.watch.audit import Audit, AuditError, Latest, Recorded
from monitor.watch.watcher import Change, Watcher
from tests.support import reading
from tests.support.alert_receiver import AlertReceiver, answer
from tests.support.strategies import to_toml
from tests.support.verdict_case import CONFIG, NOW_MS, config_with, fill, serving

MINUTE_MS = 60_000
HARM = "guardrail order on"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store with harm in one experiment."""
    with devstore.running(tmp_path_factory.mktemp("watch") / "store.sqlite3") as url:
        fill(url)
        yield url


@pytest.fixture
def service(url: str) -> Iterator[Service]:
    with serving(url) as client:
        yield client.service


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    trail = Audit(tmp_path / "a/watch.sqlite3")
    yield trail
    trail.close()


class Heard:
    """What a watcher writes and tells."""

    def __init__(self) -> None:
        self.points: list[DataPoint] = []
        self.changes: list[Change] = []

    def write(self, points: Sequence[DataPoint]) -> None:
        self.points += points

    def tell(self, changes: Sequence[Change]) -> None:
        self.changes += changes


def watcher(service: Service, audit: Audit, heard: Heard) -> Watcher:
    return Watcher(service, "abc", audit, heard.write, heard.tell)


def test_a_change_is_told_and_recorded_once(service: Service, audit: Audit) -> None:
    """With its evidence; not again at the next look, nor after a restart."""
    heard = Heard()
    watching = watcher(service, audit, heard)
    assert watching.once() == 1
    (told,) = heard.changes
    assert (told.recorded.name, told.recorded.previous, told.recorded.state) == (HARM, State.TOO_EARLY, State.STOP)
    recorded = {change.name: change for change in audit.changes()}
    assert recorded[HARM] == told.recorded
    assert recorded["crossed"].state is State.HEALTHY
    bundle = json.loads(told.recorded.bundle)
    assert bundle["check"]["counts_since"]["on"] == 0
    assert bundle["phase"]["weights"] == {"off": 1, "on": 1}
    assert (bundle["config_hash"], bundle["dcs"]) == ("abc", ["dal", "cdc"])
    assert watching.once() == 0
    again = Heard()
    assert watcher(service, audit, again).once() == 1
    assert (again.changes, len(list(audit.changes()))) == ([], len(recorded))


def test_a_bundle_has_the_budget_that_is_configured(audit: Audit, url: str) -> None:
    """Thresholds, shares, and the worst that it may say."""
    heard = Heard()
    guard = {"thresholds": {"note": 30}, "shares": {"crossed": 0.1, "slices": 0.1}, "highest": {"guardrail": "hold"}}
    with serving(url, {**CONFIG, "guard": guard}) as client:
        watcher(client.service, audit, heard).once()
    (told,) = heard.changes
    bundle = json.loads(told.recorded.bundle)
    assert told.recorded.state is State.HOLD
    assert bundle["thresholds"] == {"note": 30, "warn": 50, "hold": 100, "stop": 1_000}
    assert bundle["shares"]["crossed"] == bundle["shares"]["slices"] == 0.1
    assert bundle["guard"]["highest"]["guardrail"] == "hold"


def test_another_watcher_finds_it_under_the_same_id(service: Service, audit: Audit, tmp_path: Path) -> None:
    """So do those of two data centers."""
    one, other, mine = Heard(), Heard(), Audit(tmp_path / "other.sqlite3")
    watcher(service, audit, one).once()
    watcher(service, mine, other).once()
    mine.close()
    assert [change.recorded.id for change in one.changes] == [change.recorded.id for change in other.changes]


def test_what_was_not_told_is_told_at_the_next_look(service: Service, audit: Audit) -> None:
    """It is recorded after it was told, so nothing is lost when the process dies in between."""
    heard = Heard()

    def fails(_: Sequence[Change]) -> None:
        msg = "the disk is full"
        raise OSError(msg)

    with pytest.raises(OSError, match="full"):
        Watcher(service, "abc", audit, heard.write, fails).once()
    assert list(audit.changes()) == []
    watcher(service, audit, heard).once()
    assert [change.recorded.name for change in heard.changes] == [HARM]


def test_the_points_of_a_verdict(service: Service, audit: Audit) -> None:
    """The state by its number, the evidence now and at most, at the end of the final minutes."""
    heard = Heard()
    watcher(service, audit, heard).once()
    by_series = {point.series: point for point in heard.points}
    tags = "tenant=t|experiment=checkout|check=guardrail/order/on"
    assert len(by_series) == len(heard.points) == 3 * 9
    (state,) = [point for series, point in by_series.items() if series == f"monitor.verdict.state|{tags}"]
    (most,) = [point for series, point in by_series.items() if series == f"monitor.verdict.ln_e_max|{tags}"]
    assert (state.value, STATES[int(state.value)]) == (5, State.STOP)
    assert isinstance(most.value, float)
    assert most.value > 100
    assert {point.timestamp_ms % MINUTE_MS for point in heard.points} == {0}
    assert NOW_MS - 13 * MINUTE_MS < state.timestamp_ms <= NOW_MS - 10 * MINUTE_MS


def test_a_new_phase_has_fresh_evidence(service: Service, audit: Audit, url: str) -> None:
    """The largest evidence of the phase before does not count; the change says from which state it came."""
    watcher(service, audit, Heard()).once()
    before = audit.latest("t", "checkout")[HARM]
    heard = Heard()
    phases = [{"from": NOW_MS - 55 * MINUTE_MS, "weights": {"off": 1, "on": 1}}]
    with serving(url, config_with(phases=phases)) as client:
        watcher(client.service, audit, heard).once()
    after = audit.latest("t", "checkout")[HARM]
    assert before.ln_e_max > 100 > after.ln_e_max
    assert after.phase_ms > before.phase_ms


def test_the_audit_trail_is_bounded(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest changes make room; a change with a known id is kept once."""
    monkeypatch.setattr(audit_module, "CHANGES_MAX", 5)
    for number in range(9):
        for _ in range(2):
            change = Recorded(str(number), number, "t", "e", "c", State.HEALTHY, State.NOTE, "{}")
            audit.record("t", "e", [("c", Latest(0, State.NOTE, 5.0))], [change])
    assert [change.id for change in audit.changes()] == ["4", "5", "6", "7", "8"]
    assert audit.change("3") is None
    assert audit.latest("t", "e") == {"c": Latest(0, State.NOTE, 5.0)}


def test_a_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    """With its name and the reason."""
    file = tmp_path / "watch.sqlite3"
    file.write_bytes(b"something else" * 100)
    with pytest.raises(AuditError, match=r"watch\.sqlite3 cannot be opened: file is not a database"):
        Audit(file)


def test_the_command_judges_writes_tells_and_stops(tmp_path: Path) -> None:
    """On its own, with a webhook that refuses at first and a kill in between: told at least once, always under one id.

    Points are in the store, the audit trail prints, and SIGTERM ends it with status 0.
    """
    now_ms = time.time_ns() // 1_000_000
    with devstore.running(tmp_path / "store.sqlite3") as url, AlertReceiver() as receiver:
        fill(url, now_ms)
        receiver.script(answer(503))
        config = {**CONFIG, "kairosdb": {"url": url}, "alerts": {"webhooks": {"team": {"url": receiver.url}}}}
        file = tmp_path / "monitor.toml"
        file.write_text(to_toml(config))
        command = [
            sys.executable,
            "-m",
            "monitor",
            "watch",
            "--config",
            str(file),
            "--folder",
            str(tmp_path / "w"),
            "--port",
            "0",
        ]
        with running(command) as process:
            receiver.wait_for(1)
            process.kill()
        with running(command) as process:
            receiver.wait_for(2)
            wait_for(url, "monitor.verdict.state")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        bodies = [received.document for received in receiver.requests]
        assert {received.key for received in receiver.requests} == {bodies[0]["changes"][0]["id"]}
        assert HARM in json.dumps(bodies[0])
        printing = [sys.executable, "-m", "monitor", "audit", "--folder", str(tmp_path / "w")]
        printed = subprocess.run(printing, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        lines = [json.loads(line) for line in printed.stdout.splitlines()]
        assert [line["check"] for line in lines if line["kind"] == "change"].count(HARM) == 1
        assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
        deliveries = [line for line in lines if line["kind"] == "delivery"]
        # of the first attempt the kill may have come before its answer
        assert [line["outcome"] for line in deliveries] in (["failed", "accepted"], ["accepted"])
        assert {(line["target"], line["experiment"]) for line in deliveries} == {("team", "checkout")}
        assert {line["id"] for line in deliveries} == {line["id"] for line in lines if line.get("check") == HARM}
        assert CountFile(tmp_path / "w/counts.sqlite3", is_writer=False).beginning("t", "checkout") is not None


ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MONITOR_")}


@contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process, ended with the block."""
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(url: str, name: str) -> dict[Any, Any]:
    """The points of a metric, once there are some."""
    until_s = time.monotonic() + 30
    while not (found := reading.points(url, name)):
        assert time.monotonic() < until_s, f"no {name}"
        time.sleep(0.1)
    return dict(found)
