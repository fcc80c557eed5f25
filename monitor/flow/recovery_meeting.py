"""The meeting of a job's processes in their recovery directory, before any of them changes what is stored there.

Each process has a *seat*: the file `.worker-N`, locked until the process ends. In it stand a token that is new at each
start, and the tokens of the others that it has read. A process whose token stands in the seats of all others has met
them: they are of the same start and use the same directory. A process of an earlier start that still runs, and still
writes, knows no new token, so it is waited for; so is a process that uses another directory, in vain.
"""

import fcntl
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from monitor.runtime import signals
from monitor.runtime.errors import JobError
from monitor.runtime.waiting import WaitLog

LOCK_S = 1.0
"""How long a seat may be taken: an old process may be about to end, or another one may be looking at its lock."""
MEETING_S = 60.0
"""How long the processes of a job wait for one another at their start."""
TELL_S = 2.0
"""A wait for so long is logged: processes never start at the very same moment."""
POLL_S = 0.05


class Seat:
    """The place of one process in a recovery directory."""

    def __init__(self, directory: Path, worker: str) -> None:
        """Takes it until this process ends; raises JobError if another process has it."""
        self._directory = directory
        self._worker = worker
        self._token = secrets.token_hex(8)
        self._met: dict[str, str] = {}
        """The tokens of the others; an entry for each process of the job at most."""
        path = _path(directory, worker)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        until_s = time.monotonic() + LOCK_S
        while not _locked(self._file):
            if time.monotonic() > until_s:
                os.close(self._file)
                msg = (
                    f"another job uses the recovery directory {directory}: stop that one first; "
                    "the processes of one cluster need different -i"
                )
                raise JobError(msg)
            time.sleep(POLL_S)
        self._write()

    def meet(self, processes: int, patience_s: float = MEETING_S, stopping: threading.Event = signals.stopping) -> bool:
        """Waits until all processes of the job have met here; False if the job was asked to stop meanwhile.

        Raises JobError after `patience_s`: two jobs on parts of one store would each go on with half of the state.
        """
        waits = WaitLog("processes", every_s=patience_s / 3)
        began_s = time.monotonic()
        while missing := self._missing(processes):
            if stopping.is_set():
                return False
            waited_s = time.monotonic() - began_s
            if waited_s > patience_s:
                raise _alone(self._directory, self._worker, processes, missing)
            if waited_s >= TELL_S:
                waits.goes_on(f"no process {' and '.join(missing)} in {self._directory}")
            time.sleep(POLL_S)
        waits.over()
        return True

    def _missing(self, processes: int) -> list[str]:
        """The numbers of the processes that have not met this one, and of those that the job no longer has."""
        others = [str(number) for number in range(processes) if str(number) != self._worker]
        seats = {number: _read(_path(self._directory, number)) for number in others}
        tokens = {number: token for number, (token, _) in seats.items() if token}
        if tokens != self._met:
            self._met = tokens
            self._write()
        unmet = [number for number, (_, met) in seats.items() if met.get(self._worker) != self._token]
        return unmet + _taken_beyond(self._directory, processes)

    def _write(self) -> None:
        text = json.dumps([self._token, self._met]).encode()
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))


def _path(directory: Path, worker: str) -> Path:
    return directory / f".worker-{worker}"


def _read(path: Path) -> tuple[str, Mapping[str, str]]:
    """The token in a seat and the tokens that its process has met; nothing if nobody has written it, or writes it."""
    try:
        token, met = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return "", {}
    return token, met


def _taken_beyond(directory: Path, processes: int) -> list[str]:
    """The numbers of seats that a job of more processes has left, and that are still taken."""
    numbers = [int(found[1]) for path in directory.iterdir() if (found := re.fullmatch(r"\.worker-(\d+)", path.name))]
    return [
        str(number) for number in sorted(numbers) if number >= processes and _is_taken(_path(directory, str(number)))
    ]


def _is_taken(path: Path) -> bool:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return not _locked(file)
    finally:
        os.close(file)


def _locked(file: int) -> bool:
    """Locks an open file if nobody else has; the lock ends with the last of its descriptors."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alone(directory: Path, worker: str, processes: int, missing: list[str]) -> JobError:
    return JobError(
        f"process {worker} of {processes} has not met process {' and '.join(missing)} in the recovery directory "
        f"{directory}: all processes of a job must share one recovery directory, on a local disk of one machine, and "
        "start together; a directory for each process is not supported. "
        "If they do share it, stop all of them and start them again"
    )
