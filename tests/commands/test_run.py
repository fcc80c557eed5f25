"""`monitor run`, as its users have it: all parts come, all go, and what is in the store is exact whatever ended it.

What goes wrong in the traffic is seen on its page.

The traffic is seeded, so that the oracle can say what the store has to hold: the snapshot tells how far it was read.
"""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import expect

from monitor import devstore
from monitor.commands.options import SWITCHES_FILE
from monitor.commands.run_folder import MESSAGES_FOLDER
from monitor.flow import recovery_store, simulated_source
from monitor.kairosdb.errors import Unreachable
from monitor.runtime.errors import JobError
from monitor.simulate import Switchboard, Traffic
from monitor.topics import recorded
from tests.support import browser, oracle, reading, scraped
from tests.support.servers import free_ports

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "examples/shop/monitor.toml"
SEED, RATE = 7, 50
START_S = 60
"""How long parts may take until they do what they are for, on a busy machine."""
STOP_S = 90
"""How long all parts together may take to end, on a busy machine."""
FAULT = 2
ASK_EVERY_S = 0.1


@pytest.fixture(scope="module", autouse=True)
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, "_Run"]]:
    """A run that had taken snapshots when it was killed, and its folder. Its parts may take a while to end.

    For every test of the module: while they run, the time passes.
    """
    folder = tmp_path_factory.mktemp("killed")
    with _run(folder) as run:
        _until(lambda: _seconds(folder) > 0 and _events(run.url) > 0, run)
        run.process.kill()
        run.process.wait()
        yield folder, run


def test_it_shows_what_happens_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    """`monitor top` has events and visits within seconds; without a terminal the run prints its page's address only.

    Ctrl-C and SIGTERM stop all parts, with status 0.

    Started again it goes on: the store holds exactly what the oracle makes of the traffic from its first second on.
    """
    with _run(tmp_path) as run:
        _until(lambda: "page http" in run.output(), run)
        _until(lambda: (view := _top(run.page)) and _shown_events(view) > 0 and _shown_visits(view) > 0, run)
        assert sum(one.value for one in scraped.scrape(run.page)["monitor_events"]) > 0
        assert scraped.value(scraped.scrape(run.watch), "monitor_watch_success_age_s") < START_S
        run.end(signal.SIGINT)
        assert run.output().splitlines() == [f"page {run.page}, logs in {tmp_path}; Ctrl-C stops all"]
    assert run.errors() == "stopped; run it again to resume\n"
    seconds, events = _check_store(tmp_path)
    _check_commands(tmp_path)
    with _run(tmp_path) as again:
        _until(lambda: _events(again.url) > events, again)
        again.end(signal.SIGTERM)
    assert _check_store(tmp_path)[0] > seconds


def test_a_folder_whose_store_is_in_use_is_refused(tmp_path: Path) -> None:
    """One message, exit status 2, nothing left running; whoever uses the folder keeps its log and its store."""
    logs = [tmp_path / "store.log", tmp_path / "job.log"]
    for log in logs:
        log.write_text("what the run before has to tell")
    with devstore.running(tmp_path / "store.sqlite3") as url, _run(tmp_path) as run:
        _until(lambda: run.process.poll() is not None)
        assert _events(url) == 0
    assert run.process.returncode == FAULT
    assert run.errors().startswith("monitor: the store has ended ")
    assert str(tmp_path / "store.sqlite3") in run.errors()
    assert "Traceback" not in run.errors()
    assert all(log.read_text().startswith("what the run before has to tell") for log in logs)


def test_a_folder_whose_recovery_store_is_in_use_is_refused(tmp_path: Path) -> None:
    """One message, exit status 2, and the store that was started is stopped again."""
    recovery_folder = tmp_path / "recovery"
    recovery_folder.mkdir()
    with (recovery_folder / ".worker-0").open("w") as lock, _run(tmp_path) as run:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _until(lambda: run.process.poll() is not None, run, may_end=True)
        assert not run.parts_left()
    assert run.process.returncode == FAULT
    assert run.errors().startswith("monitor: the job has ended ")
    assert "another job uses the recovery directory" in run.errors()
    assert "Traceback" not in run.errors()


def test_nothing_stays_when_it_is_killed(killed: tuple[Path, "_Run"]) -> None:
    """SIGKILL ends the parts too, within a bound; started again, the job makes up for what was cut off.

    A closed terminal (SIGHUP) then stops it like Ctrl-C.
    """
    folder, run = killed
    _until(lambda: not run.parts_left())
    with devstore.running(folder / "store.sqlite3") as url:
        events = _events(url)
    with _run(folder) as again:
        _until(lambda: _events(again.url) > events, again)
        again.end(signal.SIGHUP)
    _check_store(folder, counts=False)


def test_an_incident_is_switched_on_and_seen_on_the_page(tmp_path: Path) -> None:
    """Within a minute, by whoever looks at the page; and switched off. The store is exact then too."""
    browser.require()
    with _run(tmp_path) as run, browser.running() as chromium, browser.page(chromium) as page:
        _until(lambda: "page http" in run.output(), run)
        assert run.page in run.output()
        page.goto(run.page)
        hint = page.get_by_role("note").get_by_text(f"monitor incident variation_missing --folder {tmp_path}")
        expect(hint).to_be_visible()
        expect(page.get_by_role("link", name="button_color").first).to_be_visible()
        warning = page.locator("strong", has_text="High rejection rate")  # of all: a tenant may have some by chance
        expect(warning).to_have_count(0)
        assert "on: garbage:share=1" in _incident(tmp_path, "garbage:share=1")
        expect(warning).to_be_visible(timeout=60_000)
        assert "on: none" in _incident(tmp_path, "garbage", "--off")
        run.end(signal.SIGINT)
    _check_store(tmp_path)


def _incident(folder: Path, *arguments: str) -> str:
    """What `monitor incident` says."""
    command = [sys.executable, "-m", "monitor", "incident", *arguments, "--folder", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _top(page: str) -> str:
    """What `monitor top` shows."""
    command = [sys.executable, "-m", "monitor", "top", "--once", "--url", page]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


class _Run:
    """A `monitor run` without a terminal."""

    def __init__(self, folder: Path) -> None:
        port, page_port, watch_port = free_ports(3)
        self.url, self.page, self.watch = (f"http://127.0.0.1:{number}" for number in (port, page_port, watch_port))
        self._output = folder.parent / f"{folder.name}-{port}.out"
        self._errors = folder.parent / f"{folder.name}-{port}.err"
        command = [sys.executable, "-m", "monitor", "run", "--folder", str(folder)]
        command += ["--port", str(port), "--page-port", str(page_port), "--watch-port", str(watch_port)]
        command += ["--rate", str(RATE), "--seed", str(SEED), "--config", str(CONFIG)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MONITOR_")}
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment | {"COLUMNS": "200"},
                stdout=output,
                stderr=errors,
                preexec_fn=_as_in_the_background,
            )
        self._parts: set[psutil.Process] = set()

    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text()

    def errors(self) -> str:
        """What it has said on stderr so far."""
        return self._errors.read_text()

    def notice_parts(self) -> None:
        """Remembers the children that it has now."""
        if self.process.poll() is None:
            self._parts.update(psutil.Process(self.process.pid).children(recursive=True))

    def parts_left(self) -> list[psutil.Process]:
        """The children that were noticed and still run."""
        return [part for part in self._parts if part.is_running() and part.status() != psutil.STATUS_ZOMBIE]

    def end(self, number: signal.Signals) -> None:
        """Sends a signal; all has to end, with status 0."""
        self.notice_parts()
        assert len(self.parts_left()) == 4, "the store, the job, the page and the watcher"
        self.process.send_signal(number)
        assert self.process.wait(STOP_S) == 0, self.errors()
        assert not self.parts_left()


def _as_in_the_background() -> None:
    """A shell has what it starts with `&` ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _run(folder: Path) -> Iterator[_Run]:
    """A run that is gone, with its children, at the end of the block."""
    run = _Run(folder)
    try:
        yield run
    finally:
        run.notice_parts()
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait()
        for part in run.parts_left():
            part.kill()


def _until(condition: Callable[[], object], run: _Run | None = None, may_end: bool = False) -> None:
    """Waits for a condition, and meanwhile notices the parts of a run, which must not end before it is told."""
    end_s = time.monotonic() + START_S
    while not condition():
        if run is not None:
            run.notice_parts()
            assert may_end or run.process.poll() is None, run.errors()
        assert time.monotonic() < end_s, run and run.output() + run.errors()
        time.sleep(ASK_EVERY_S)
    if run is not None:
        run.notice_parts()


def _seconds(folder: Path) -> int:
    """The seconds of traffic that a snapshot covers; 0 without one."""
    try:
        states = recovery_store.source_states(folder / "recovery")
    except JobError:  # the job is making it
        return 0
    state: simulated_source.TrafficState = states.get(simulated_source.PARTITION, (0, 0, 0))
    return state[2]


def _events(url: str) -> int:
    """The accepted events that the store tells of; 0 while it is not there."""
    try:
        return sum(int(value) for value in reading.points(url, "monitor.events").values())
    except Unreachable:
        return 0


def _shown_events(output: str) -> float:
    """The most events a second that a view has shown of the largest tenant."""
    found = re.findall(r"^│ uswm +│ +([\d.]+) │ +[\d,]+ │", output, re.MULTILINE)
    return max(map(float, found), default=0.0)


def _shown_visits(output: str) -> int:
    """The most assigned visits that a view has shown of a variation."""
    found = re.findall(r"^│.*│ \w+ +│ +\d+ │ +(\d+) │ +\d+ │ +[-\d.%]+ order │$", output, re.MULTILINE)
    return max(map(int, found), default=0)


def _check_store(folder: Path, counts: bool = True) -> tuple[int, int]:
    """Holds the store of a run that has ended to the oracle; the seconds of traffic, and the accepted events."""
    version, start_ms, seconds = recovery_store.source_states(folder / "recovery")[simulated_source.PARTITION]
    assert version == simulated_source.STATE_VERSION
    config = tomllib.loads(CONFIG.read_text())
    switches = Switchboard(folder / SWITCHES_FILE)
    switches.look()
    traffic = Traffic(SEED, start_ms, RATE, on_at=switches.on_at)
    log = _recorded(folder, traffic, seconds)
    wanted = oracle.answer(config, log)
    with devstore.running(folder / "store.sqlite3") as url:
        stored = reading.points(url)
    totals = {key: value for key, value in stored.items() if value and not key[0].startswith("monitor.")}
    assert totals == wanted.totals
    assert wanted.totals
    if counts:
        assert _counted(stored, "monitor.events", "tenant") == {(t,): n for t, n in wanted.accepted.items()}
        assert _counted(stored, "monitor.rejected", "tenant", "reason") == wanted.rejected
    assert not (folder / "dead-letters.jsonl").exists()
    return seconds, wanted.accepted.total()


def _recorded(folder: Path, traffic: Traffic, seconds: int) -> list[oracle.Message]:
    """The recorded log of a run, which holds its traffic up to a second, but for a pause too long to catch up with."""
    records = recorded.read(folder / MESSAGES_FOLDER)
    log = [oracle.Message(r.partition, r.offset, r.timestamp_ms, r.key, r.value or b"") for r in records]
    assert [message.offset for message in log] == list(range(len(log)))
    arrived: dict[int, list[tuple[bytes | None, bytes | None, int]]] = {}
    for message in log:
        second = (message.timestamp - traffic.start_ms) // 1_000
        arrived.setdefault(second, []).append((message.key, message.value, message.timestamp))
    missing = 0
    for second in range(seconds):
        sent = [(m.key, m.value, m.timestamp_ms) for m in traffic.second(second)]
        found = arrived.pop(second, [])
        assert found in (sent, []), second
        missing += found != sent
    assert not arrived, "nothing is in it that the snapshot does not cover"
    assert missing == 0 or missing > simulated_source.CATCH_UP_S
    return log


def _check_commands(folder: Path) -> None:
    """`monitor rejects` and `explain` read the messages of the run, without a topic and without its store."""
    log = list(recorded.read(folder / MESSAGES_FOLDER))
    rejects = json.loads(_monitor("rejects", "--run", str(folder), "--json"))
    assert rejects["scanned"] == len(log)
    assert {tuple(count[:2]) for count in rejects["counts"]} == {
        (f["reason"], f["tenant"]) for f in rejects["findings"]
    }
    values = (
        json.loads(record.value or b"{}") for record in log if (record.value or b"").startswith(b'{"tenant":"uswm"')
    )
    session = next(values)["sessionId"]
    explained = json.loads(_monitor("explain", "uswm", session, "--run", str(folder), "--json"))
    assert explained["session_id"] == session
    assert explained["events"]


def _monitor(*arguments: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "monitor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _counted(stored: dict[reading.PointKey, Any], name: str, *tags: str) -> Counter[tuple[str, ...]]:
    counted: Counter[tuple[str, ...]] = Counter()
    for (found, _, pairs), value in stored.items():
        if found == name:
            counted[tuple(dict(pairs)[tag] for tag in tags)] += int(value)
    return counted
