"""`monitor rehearse`: over history it says at each moment what the service would have said then."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor import devstore
from monitor.serve.service import Service
from monitor.serve.spans import Span, moment
from monitor.serve.verdict_models import CheckAnswer
from monitor.serve.verdicts import verdicts
from monitor.topics import recorded
from monitor.topics.recorded import Record
from monitor.verdicts.families import Thresholds
from monitor.verdicts.judge import Kind, State
from monitor.watch.histories import EmptyLogError, LoggedHistory, StoredHistory
from monitor.watch.rehearsal import FACTORS, Alarms, Rehearsal, rehearsed
from tests.support.messages import BASE_MS, message, shop
from tests.support.strategies import Config, to_toml
from tests.support.verdict_case import CONFIG, LATENESS_S, broken_ms, config_with, fill, serving

PRESENT_MS = time.time_ns() // 1_000_000
"""The command has no other clock."""
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
BROKEN_MS = broken_ms(PRESENT_MS)
AROUND = Span(BROKEN_MS - HOUR_MS, BROKEN_MS + HOUR_MS)
HARM, NAMES = "guardrail order on", [("t", "checkout")]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store with harm in one experiment."""
    with devstore.running(tmp_path_factory.mktemp("rehearsal") / "store.sqlite3") as url:
        fill(url, PRESENT_MS)
        yield url


def of_store(url: str, span: Span = AROUND, every: int = 10, config: Config = CONFIG) -> Rehearsal:
    with serving(url, config, PRESENT_MS) as client:
        return rehearsed(client.service, StoredHistory(client.service), NAMES, span, every)


def test_it_says_what_the_service_would_have_said(url: str) -> None:
    """Each change at its minute: the service of then says the same of it, and of the minute before the state before."""
    found = of_store(url)
    said = [of for of in found.said if of.is_alarm]
    assert [of.check for of in said] == [HARM] * len(said)
    assert said[-1].state is State.STOP
    assert all(BROKEN_MS < of.at_ms < BROKEN_MS + HOUR_MS for of in said)
    for of in said:
        now, before = (then(url, at_ms) for at_ms in (of.at_ms, of.at_ms - MINUTE_MS))
        assert (now.state, now.words, before.state) == (of.state, of.words, of.previous)


def then(url: str, at_ms: int) -> Any:
    """What the service said of the check when minutes up to this one were final."""
    with serving(url, now_ms=at_ms + LATENESS_S * 1_000 + MINUTE_MS // 2) as client:
        answer = verdicts(client.service, "t", "checkout")
    assert answer.phase is not None
    assert answer.phase.sealed_until == moment(at_ms)
    return next(check for check in answer.checks if check.check == HARM)


def test_every_minute_is_found_by_every_step(url: str) -> None:
    """A change is refined to its minute; the end of the range is a moment whatever the step is."""
    fine = of_store(url, Span(BROKEN_MS - 12 * MINUTE_MS, BROKEN_MS + 27 * MINUTE_MS), every=1)
    coarse = of_store(url, Span(BROKEN_MS - 12 * MINUTE_MS, BROKEN_MS + 27 * MINUTE_MS), every=14)
    assert coarse.said == fine.said
    assert coarse.moments < fine.moments == 40
    assert coarse.alarms.rises == fine.alarms.rises


def test_another_configuration(url: str) -> None:
    """It says what that one would have: nothing, where a harm by less than all is tolerated."""
    assert not [of for of in of_store(url, config=config_with(smallest_effect=0.999)).said if of.is_alarm]


def test_a_phase_has_its_own_evidence(url: str) -> None:
    """After a change of weights each check begins anew."""
    phases = [{"from": BROKEN_MS + 40 * MINUTE_MS, "weights": {"off": 1, "on": 1}}]
    found = of_store(url, config=config_with(phases=phases, settle_s=0))
    of_harm = [(of.previous, of.state) for of in found.said if of.check == HARM]
    assert (State.HEALTHY, State.NOTE) in of_harm
    assert of_harm[-1] == (State.TOO_EARLY, State.NO_DATA)
    assert len(found.gone) == 0


def test_what_cannot_be_judged(url: str) -> None:
    """An experiment without visits; a phase whose beginning the store no longer has."""
    with serving(url, now_ms=PRESENT_MS) as client:
        names = [("t", "young")]
        found = rehearsed(client.service, StoredHistory(client.service), names, AROUND, 10)
    assert (found.moments, found.gone) == (0, ["t young: no visit was assigned"])
    old = config_with(started=PRESENT_MS - round(29.5 * 24 * HOUR_MS))
    found = of_store(url, config=old)
    assert (found.moments, len(found.gone)) == (0, 1)
    assert "no longer has the beginning" in found.gone[0]


def test_only_final_minutes_are_judged(url: str) -> None:
    """Up to the present, however far the range goes."""
    found = of_store(url, Span(PRESENT_MS // MINUTE_MS * MINUTE_MS - HOUR_MS, PRESENT_MS // MINUTE_MS * MINUTE_MS), 1)
    assert 45 <= found.moments <= 51


def test_alarms_of_changed_thresholds() -> None:
    """Each rise through a threshold is one, of a threshold that is a factor higher fewer; a withheld check has none."""
    alarms, limits = Alarms(), Thresholds()
    for e, state in ((1, "healthy"), (120, "hold"), (60, "warn"), (101, "hold"), (9_999, "withheld"), (1, "healthy")):
        alarms.add(("t",), check(math.log(e), State(state)), limits)
    by_factor = {state: [alarms.rises[state, factor] for factor in FACTORS] for state in (State.WARN, State.HOLD)}
    assert by_factor == {State.WARN: [1, 1, 2, 0, 0], State.HOLD: [1, 2, 0, 0, 0]}
    assert alarms.rises[State.STOP, 0.5] == 0


def check(ln_e: float, state: State) -> CheckAnswer:
    """What a check of share 1 says."""
    said: dict[str, Any] = {"point": None, "variation": None, "since": None, "place": {}, "effect": None, "words": ""}
    numbers: dict[str, Any] = {"ln_e": ln_e, "note_from": math.log(20), "counts": {}, "counts_since": {}}
    return CheckAnswer(check="c", kind=Kind.CROSSED, state=state, **said, **numbers)


LOG_CONFIG = shop(lateness_s=60, gap_s=300)
STOPS_MINUTE, MINUTES = 70, 130


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Visits of a minute, half of them in each variation; all order, but in red none from a minute on."""
    path = tmp_path_factory.mktemp("log") / "log.ndjson"
    recorded.write(path, sorted(messages(), key=lambda record: record.timestamp_ms))
    return path


def messages() -> Iterator[Record]:
    for minute in range(MINUTES):
        for number in range(6):
            variation = "red" if number % 2 else "blue"
            session, at_ms = f"s-{minute}-{number}", minute * MINUTE_MS + number * 7_000
            common: dict[str, Any] = {"sessionId": session, "assignments": {"button_color": variation}}
            events = [message(at_ms, "home", **common)]
            if variation == "blue" or minute < STOPS_MINUTE:
                order: dict[str, Any] = {"event": "order", "attributes": {"total": 1}, "eventId": f"o-{session}"}
                events.append(message(at_ms + 1_000, **order, **common))
            yield from (Record(0, 0, of.timestamp, of.key, of.value) for of in events)


@pytest.fixture
def service(url: str) -> Iterator[Service]:
    with serving(url, LOG_CONFIG) as client:
        yield client.service


def test_a_recorded_log(service: Service, log: Path) -> None:
    """No store is asked: what is wrong in the log is found, and when."""
    span = Span(0, BASE_MS + 24 * HOUR_MS)
    found = rehearsed(service, LoggedHistory(service, log), [("uswm", "button_color")], span, 10)
    assert {of.check.partition(" ")[2] for of in found.said if of.is_alarm} == {"order red"}
    alarms = [of for of in found.said if of.check == "guardrail order red" and of.is_alarm]
    assert alarms[-1].state is State.STOP
    assert STOPS_MINUTE + 3 < (alarms[0].at_ms - BASE_MS) / MINUTE_MS < STOPS_MINUTE + 30
    assert max(of.at_ms for of in found.said) < BASE_MS + MINUTES * MINUTE_MS


def test_a_log_without_messages(service: Service, tmp_path: Path) -> None:
    """Is an error that names it."""
    (tmp_path / "empty.ndjson").touch()
    with pytest.raises(EmptyLogError, match=r"empty\.ndjson has no messages"):
        LoggedHistory(service, tmp_path / "empty.ndjson")


def test_the_command(url: str, tmp_path: Path) -> None:
    """Tables for people, JSON for machines; what is wrong with the range or the names is an error."""
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml({**CONFIG, "kairosdb": {"url": url}}))
    span = ["--from", moment(AROUND.start_ms).isoformat(), "--to", moment(AROUND.end_ms).isoformat()]
    ended = run(file, *span)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert any("t checkout" in line and HARM in line and "stop" in line for line in lines)
    assert any(line.split("│")[1].strip() == "stop 1000" for line in lines if line.startswith("│"))
    assert "not judged: t young: no visit was assigned" in lines
    printed = json.loads(run(file, *span, "--json", "--experiment", "checkout").stdout)
    assert {of["check"] for of in printed["changes"]} == {HARM}
    assert [of["state"] for of in printed["thresholds"]] == ["note", "warn", "hold", "stop"]
    assert printed["thresholds"][3]["alarms"] == {"0.5": 1, "1": 1, "2": 1, "5": 1, "10": 1}
    for arguments, why in (
        (["--experiment", "gone"], "no such experiment"),
        (["--from", "2026-01-01"], "14 days"),
        (["--from", "2100-01-01"], "--from must be before --to"),
    ):
        ended = run(file, *arguments)
        assert (ended.returncode, why in ended.stderr) == (2, True), ended.stderr


def run(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitor", "rehearse", "--config", str(config), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MONITOR_")}
    return subprocess.run(command, env={**environment, "COLUMNS": "200"}, capture_output=True, text=True, check=False)
