"""A restart: from the start of a job on a recovery store with many live visits to its first message from Kafka."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import psutil

from bench import kafka, load, null_server
from bench.first_read import MARK
from bench.process import JobFolder

TOPIC = "restart"
FEW = 2_000
FIRST_READ_S_MAX = 600.0
POLL_S = 0.05


def measure(states: Mapping[str, bytes], now_ms: int) -> dict[str, float]:
    """Has a job make a store, puts these states of its sessions into it, and starts it again."""
    with kafka.broker() as (broker, folder), null_server.running() as url:
        kafka.fill(broker, TOPIC, load.make(FEW, start_ms=now_ms).messages)
        job = JobFolder(folder / "job")
        job.configure(broker.bootstrap, TOPIC, url)
        job.to_the_end()
        _replace(job.recovery, states)
        kafka.append(broker, TOPIC, load.make(FEW, load.SEED + 2, now_ms + 600_000).messages)
        return _first_read(job, folder / "mark")


def _replace(recovery: Path, states: Mapping[str, bytes]) -> None:
    """Puts states of sessions in the place of those in a recovery store."""
    replaced = set()
    for file in sorted(recovery.glob("part-*.sqlite3")):
        with closing(sqlite3.connect(file)) as store, store:
            found = store.execute("SELECT DISTINCT state_key FROM snaps WHERE step_id LIKE '%.sessions%'").fetchall()
            for (key,) in found:
                store.execute(
                    "UPDATE snaps SET ser_change = ? WHERE state_key = ? AND step_id LIKE '%.sessions%'",
                    (states[key], key),
                )
                replaced.add(key)
    assert replaced == set(states), f"{len(states)} key groups wanted in the store; got {len(replaced)}"


def _first_read(job: JobFolder, mark: Path) -> dict[str, float]:
    os.environ[MARK] = str(mark)
    began_s = time.monotonic()
    process = job.start(command=(sys.executable, "-m", "bench.first_read", "dataflow:flow"))
    try:
        memory_bytes = _await(process, mark, job, began_s)
        return {"restart_s": float(mark.read_text()) - began_s, "restart_memory_bytes": memory_bytes}
    finally:
        process.kill()
        process.wait()


def _await(process: subprocess.Popen[bytes], mark: Path, job: JobFolder, began_s: float) -> int:
    memory_bytes = 0
    while not mark.exists():
        if process.poll() is not None or time.monotonic() - began_s > FIRST_READ_S_MAX:
            msg = f"the job has read nothing; it said:\n{job.said()}"
            raise RuntimeError(msg)
        memory_bytes = max(memory_bytes, psutil.Process(process.pid).memory_info().rss)
        time.sleep(POLL_S)
    return memory_bytes
