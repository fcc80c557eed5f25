"""Plays a scenario: the whole job, in processes of its own, on real Kafka and a failing KairosDB, against the oracle.

`play` raises `Found`, which says what came and how to play it again, unless in the end

* each total that KairosDB holds is the oracle's for the log as it lies in the topic,
* the dead letters hold points that KairosDB was told to refuse, and no others,
* each process that was asked to stop, or had read all, ended with status 0.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event as Flag
from typing import TypeAlias
from zlib import crc32

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from monitor.runtime.signals import RESTART_STATUS
from tests.support import oracle, shifted_clock
from tests.support.driver import Key, tags_of
from tests.support.faulty_server import ACCEPT, Answer, FaultyServer, Received, Stored
from tests.support.golden import LOG_APPEND_TIME
from tests.support.job import COMMAND, ROOT, SLOW, configured, expected, log_of
from tests.support.scenario import POISONED_ONE_IN, Round, Scenario, Traffic, Trigger, draw
from tests.support.servers import Kafka, free_ports
from tests.support.shifted_clock import ShiftedClock
from tests.support.strategies import to_toml, toml_value

POLL_S = 0.002
STATUS_POLL_S = 0.2
END_S = 180.0
"""The longest that a process may take to its end, from when all is well again."""
TRIGGER_S = 8.0
"""A request or snapshot that has not come by then does not come."""
REQUEST_S = 30.0
ORPHANED_S = 3.0
"""How long the others of a cluster may go on when one has ended with an error; while connecting they would for ever."""
SAID_CHARACTERS = 3_000
SHOWN = 8
LONG_END = 2**63
"""What KairosDB can hold is below it; a larger total is given up unsent."""
NO_KAIROSDB = "KairosDB must answer GET"
BEGUN = '"job_started"'
SET_BACK = '"clock_set_back"'
PEER_GONE = "Send thread panic"
"""What the engine says where a process of a cluster ends while another is still connecting to it."""

Event: TypeAlias = tuple[float, Callable[[], None]]
"""What happens during a round, and how many seconds after its start."""


class Found(AssertionError):
    """A scenario that did not end as it should."""


def play(seed: int, kafka: Kafka, folder: Path, package: Path = ROOT) -> str:
    """Plays a seed's scenario with the job as it lies in `package`; a line on what happened. Raises Found."""
    scenario = draw(seed)
    try:
        with Simulation(scenario, kafka, folder, package) as simulation:
            return simulation.play()
    except Found as found:
        msg = f"seed {seed}: {found}\nagain: .venv/bin/python -m tests.support.faults --seed {seed}"
        raise Found(msg) from None


class Store(FaultyServer):
    """KairosDB, which has good days, and fails with points only: a job is not started while it is seen to be out."""

    def recover(self) -> None:
        """Forgets what it was told to do wrong; keeps what is stored."""
        with self._changed:
            self._script.clear()
            self._poison = None
        self.release()

    def _take(self, received: Received) -> tuple[Answer, Flag]:
        if received.method == "GET":
            return ACCEPT, Flag()
        return super()._take(received)


class Processes:
    """The processes of one start of the job."""

    def __init__(self, commands: list[list[str]], cwd: Path, environment: Mapping[str, str], logs: list[Path]) -> None:
        self.logs = logs
        self._all: list[subprocess.Popen[bytes]] = []
        for command, log in zip(commands, logs, strict=True):
            with log.open("wb") as output:
                self._all.append(
                    subprocess.Popen(
                        command,
                        cwd=cwd,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )

    def statuses(self) -> list[int | None]:
        """The exit statuses, None for those that run."""
        return [process.poll() for process in self._all]

    def are_ready_to_stop(self) -> bool:
        """Whether all that run listen to SIGTERM, as /proc tells; before that no line of the job has run."""
        return all(_catches(process.pid, signal.SIGTERM) for process in self._all if process.poll() is None)

    def have_begun(self) -> bool:
        """Whether all have read the clock, as their logs tell, or have ended: once is enough for the job."""
        return all(
            status is not None or BEGUN in text for status, text in zip(self.statuses(), self.said(), strict=True)
        )

    def send(self, number: signal.Signals) -> None:
        """Sends all a signal."""
        for process in self._all:
            process.send_signal(number)

    def kill(self) -> None:
        """Ends all, one after the other, as a crash does."""
        for process in self._all:
            process.kill()
        for process in self._all:
            process.wait()

    def said(self) -> list[str]:
        """What each has written to standard output and error."""
        return [log.read_text(errors="replace") for log in self.logs]


class Simulation:
    """One scenario being played; a context manager."""

    def __init__(self, scenario: Scenario, kafka: Kafka, folder: Path, package: Path) -> None:
        self._scenario = scenario
        self._kafka = kafka
        self._folder = folder
        self._package = package
        self._topic = f"simulated-{scenario.seed}-{time.time_ns()}"
        self._traffic = Traffic(scenario)
        self._partitions = scenario.partitions
        self._producer = _producer(kafka)
        self._letters: dict[tuple[str, int], int] = {}
        self._happened: list[str] = []
        self._open = ExitStack()

    def __enter__(self) -> "Simulation":
        self._folder.mkdir(parents=True, exist_ok=True)
        self._kafka.create_topic(self._topic, self._partitions, LOG_APPEND_TIME)
        self._store = self._open.enter_context(Store())
        self._clock = None if shifted_clock.unavailable() else ShiftedClock(self._folder)
        self._config = configured(
            {"dc": "sim", **self._scenario.config}, "sim", self._kafka, [self._topic], self._store.url, self._folder
        )
        (self._folder / "monitor.toml").write_text(to_toml(self._config))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def play(self) -> str:
        """All rounds, and the comparison."""
        for number, one in enumerate(self._scenario.rounds):
            self._store.recover()
            if one.adds:
                self._add_partitions(one.adds)
            self._append(one.backlog, one)
            self._play_round(number, one)
            self._read_letters(number)
        return self._compare()

    def _play_round(self, number: int, one: Round) -> None:
        self._store.script(*one.answers)
        if one.poison is not None:
            which, says = one.poison
            self._store.poison(lambda point: _is_poisoned(point, which), says)
        with self._running(number, one) as processes:
            recovery = self._folder / "recovery"
            ended = Watch(one, processes, self._store, recovery, self._events(one), self._jumps(one)).until_ended()
            self._happened.append(f"{one.processes} x {ended}")
            if one.ending != "kill":
                self._judge(number, one, processes)

    @contextmanager
    def _running(self, number: int, one: Round) -> Iterator[Processes]:
        """The job, started; nothing of it is left at the end."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MONITOR_", "BYTEWAX_"))}
        environment = {
            **inherited,
            **(self._clock.environment if self._clock is not None else {}),
            "PYTHONPATH": str(self._package),
            "MONITOR_CONFIG": str(self._folder / "monitor.toml"),
            "MONITOR_KAIROSDB__DEAD_LETTERS": str(self._folder / f"letters-{number}.jsonl"),
            "MONITOR_KAFKA__TAIL": "false" if one.ending == "end" else "true",
            "MONITOR_KAFKA__OPTIONS": toml_value(SLOW if one.slow else {}),
        }
        recovery = ["-r", str(self._folder / "recovery"), "-s", "1", "-b", "0"]
        commands = [[*COMMAND, *recovery]]
        if one.processes > 1:
            addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(one.processes))
            commands = [[*COMMAND, *recovery, "-i", str(i), "-a", addresses] for i in range(one.processes)]
        if self._clock is not None:
            self._clock.set(one.clock[0].shift_ms)
        logs = [self._folder / f"run-{number}-{i}.log" for i in range(one.processes)]
        processes = Processes(commands, self._package, environment, logs)
        try:
            yield processes
        finally:
            processes.kill()

    def _events(self, one: Round) -> list[Event]:
        """What happens besides the end of a round, and when."""
        events: list[Event] = [
            (burst.at_s, lambda burst=burst: self._append(burst.messages, one))  # type: ignore[misc]  # bound early
            for burst in one.bursts
        ]
        if one.outage is not None:
            events += [(one.outage[0], self._store.down), (one.outage[1], self._store.up)]
        return sorted(events, key=lambda event: event[0])

    def _jumps(self, one: Round) -> list[Event]:
        """When the clock is set while the job runs."""
        if (clock := self._clock) is None:
            return []
        return [(jump.at_s, lambda jump=jump: clock.set(jump.shift_ms)) for jump in one.clock[1:]]  # type: ignore[misc]

    def _append(self, messages: int, one: Round) -> None:
        now_ms = time.time_ns() // 1_000_000
        for partition, key, value in self._traffic.burst(messages, self._partitions, one.stalled, now_ms):
            self._producer.produce(self._topic, value, key, partition)
        left = self._producer.flush(REQUEST_S)
        assert not left, "Kafka is up"

    def _add_partitions(self, adds: int) -> None:
        self._partitions += adds
        admin = AdminClient({"bootstrap.servers": self._kafka.bootstrap})
        admin.create_partitions([NewPartitions(self._topic, self._partitions)])[self._topic].result(REQUEST_S)
        deadline = time.monotonic() + REQUEST_S
        while len(self._kafka.end_offsets(self._topic)) < self._partitions and time.monotonic() < deadline:
            time.sleep(STATUS_POLL_S)
        self._producer = _producer(self._kafka)  # one that knows the topic would not learn of them soon

    def _read_letters(self, number: int) -> None:
        for path in self._folder.glob(f"letters-{number}*.jsonl"):
            for line in path.read_text().splitlines():
                letter = json.loads(line)
                self._letters[letter["series"], letter["timestamp"]] = letter["value"]

    def _judge(self, number: int, one: Round, processes: Processes) -> None:
        """Fails unless all have ended in order, or KairosDB was down when one of them started."""
        said, statuses = processes.said(), processes.statuses()
        if one.outage is not None and any(NO_KAIROSDB in text for text in said):
            self._happened[-1] += " (found no KairosDB)"
            return
        if one.processes > 1 and one.ending != "end" and any(PEER_GONE in text for text in said):
            self._happened[-1] += " (while its processes were still connecting to each other)"
            return
        if any(SET_BACK in text for text in said):
            self._happened[-1] += " (its clock was set back)"
            assert RESTART_STATUS in statuses
            return
        in_order = all(status == 0 for status in statuses)
        if not in_order or any("Traceback" in text or "panicked" in text for text in said):
            shown = "\n---\n".join(text[-SAID_CHARACTERS:] for text in said)
            what = "went on for too long" if None in statuses else "did not end in order"
            msg = f"round {number} ({self._happened[-1]}, {one}) {what}: {statuses}; it said:\n{shown}"
            raise Found(msg)

    def _compare(self) -> str:
        log = log_of(self._kafka, [self._topic])
        answer = oracle.answer(self._config, log)
        want = expected(answer, "sim")
        poisons = {one.poison[0] for one in self._scenario.rounds if one.poison is not None}
        strangers = [
            cell
            for cell, value in self._letters.items()
            if _is_storable(value) and not any(_is_poisoned(Stored(*cell, value), which) for which in poisons)
        ]
        got, given_up = _totals(self._store.cells()), _totals(self._letters)
        wrong = sorted(
            key
            for key in got.keys() | want.keys()
            if got.get(key, 0) != want.get(key, 0) and given_up.get(key) != want.get(key, 0)
        )
        if wrong or strangers:
            shown = "\n".join(f"  {key}: {got.get(key)} stored, {want.get(key)} wanted" for key in wrong[:SHOWN])
            msg = (
                f"{len(wrong)} of {len(want)} totals differ, {len(strangers)} dead letters should not be there "
                f"({strangers[:SHOWN]})\n{shown}\n"
                f"after: {'; '.join(self._happened)}\nconfig: {self._config['time']} {self._config.get('limits')}\n"
                f"rounds:\n" + "\n".join(map(str, self._scenario.rounds))
            )
            raise Found(msg)
        if not want:
            msg = "the log comes to nothing: it tests nothing"
            raise Found(msg)
        return f"{len(log)} messages, {len(want)} totals, {len(self._letters)} given up: {'; '.join(self._happened)}"


def _is_storable(value: object) -> bool:
    """Whether KairosDB could hold a total; a double, of a sum of squares, always."""
    return isinstance(value, float) or (isinstance(value, int) and -LONG_END <= value < LONG_END)


class Watch:
    """Watches over one round: lets happen what is due, and ends it at its trigger."""

    def __init__(
        self,
        one: Round,
        processes: Processes,
        store: FaultyServer,
        recovery: Path,
        events: list[Event],
        jumps: list[Event],
    ) -> None:
        self._round = one
        self._processes = processes
        self._store = store
        self._recovery = recovery
        self._events, self._jumps = events, jumps
        self._requests = len(store.requests)
        self._changes, self._wals = 0, self._look_at_wals()
        self._start_s = time.monotonic()
        self._release_s = self._start_s
        self._orphaned_s: float | None = None

    def until_ended(self) -> str:
        """Returns when all processes have ended, or may not go on for longer; says how the round was ended."""
        one, ended = self._round, "by itself"
        asked = one.ending == "end"
        while None in self._processes.statuses() and self._now_s() < self._latest_s():
            self._let_happen()
            if not asked and self._is_due(one.trigger) and self._end():
                asked, ended = True, f"{one.ending} at {self._now_s():.2f} s"
            time.sleep(POLL_S)
        while self._events:  # KairosDB is back, the rest of the traffic has come
            self._events.pop(0)[1]()
        return ended

    def _now_s(self) -> float:
        return time.monotonic() - self._start_s

    def _latest_s(self) -> float:
        one = self._round
        return END_S + (one.outage[1] if one.outage is not None else 0.0) + one.hang_s * len(one.answers)

    def _let_happen(self) -> None:
        while self._events and self._events[0][0] <= self._now_s():
            self._events.pop(0)[1]()
        while self._jumps and self._jumps[0][0] <= self._now_s() and self._processes.have_begun():
            self._jumps.pop(0)[1]()
        if time.monotonic() - self._release_s >= self._round.hang_s:
            self._release_s = time.monotonic()
            self._store.release()
        statuses = self._processes.statuses()
        if None in statuses and any(status for status in statuses):
            self._orphaned_s = self._orphaned_s or time.monotonic()
            if time.monotonic() - self._orphaned_s > ORPHANED_S:
                self._processes.kill()

    def _is_due(self, trigger: Trigger) -> bool:
        wals = self._look_at_wals()
        self._changes, self._wals = self._changes + (wals != self._wals), wals
        if trigger.kind == "seconds":
            return self._now_s() >= trigger.amount
        seen = self._changes if trigger.kind == "snapshot" else len(self._store.requests) - self._requests
        return seen >= trigger.amount or self._now_s() >= TRIGGER_S

    def _end(self) -> bool:
        """Ends the round, if it can be ended yet."""
        if self._round.ending == "kill":
            self._processes.kill()
            return True
        if not self._processes.are_ready_to_stop():
            return False
        self._processes.send(signal.Signals[self._round.ending])
        return True

    def _look_at_wals(self) -> list[tuple[str, int, int]]:
        found = []
        for path in self._recovery.glob("part-*.sqlite3-wal"):
            with suppress(FileNotFoundError):
                at = path.stat()
                found.append((path.name, at.st_size, at.st_mtime_ns))
        return sorted(found)


def _producer(kafka: Kafka) -> Producer:
    return Producer({"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True, "log_level": 2})


def _is_poisoned(point: Stored, which: int) -> bool:
    return ".visit." in point.series and crc32(point.series.encode()) % POISONED_ONE_IN == which


def _totals(cells: Mapping[tuple[str, int], int]) -> dict[Key, int]:
    """The contributions among cells, as the oracle writes them."""
    return {
        (series.partition("|")[0], minute_ms, tags_of(series, "sim")): value
        for (series, minute_ms), value in cells.items()
        if ".visit." in series
    }


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    with suppress(FileNotFoundError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
