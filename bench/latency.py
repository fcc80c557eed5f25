"""Latency: from an event appended to Kafka until a point that it changed can be read from the embedded store.

The job flushes every second. Under a background of the reference load, probes are sent at random moments, each with a
tag value of its own, so that its point is a series of its own; the store is asked for all of them every 20 ms.

With `--idle` only: the CPU that a job uses while nothing comes.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import quantiles
from threading import Event, Thread
from typing import Annotated

import psutil
import requests
import typer
from confluent_kafka import Producer

from bench import kafka, load, null_server
from bench.figures import Figures, details_of, report
from bench.process import JobFolder
from bench.sink import store
from tests.support.servers import Kafka

TOPIC = "latency"
BACKGROUND_EVENTS_PER_S = 500
BACKGROUND_S_MAX = 120
TICK_S = 0.01
PROBE_PAUSE_S = (0.05, 0.25)
POLL_S = 0.02
ARRIVES_S_MAX = 30.0
REQUEST_S = 30.0
SETTLE_S, IDLE_S = 15.0, 20.0
METRIC = "probe.visit.assigned.probed.beta"


def measure(probes: int) -> Figures:
    """Sends probes and waits for their points."""
    config = load.config()
    names = [f"p{i}" for i in range(probes)]
    config["tenants"] = config["tenants"] | {"probe": _tenant(names)}
    with kafka.broker() as (broker, folder), store(folder) as (url, _):
        broker.create_topic(TOPIC, kafka.PARTITIONS, {"message.timestamp.type": "LogAppendTime"})
        job = JobFolder(folder / "job")
        job.configure(broker.bootstrap, TOPIC, url, config, flush_s=1)
        with job.running() as process, _background(broker):
            took_s = _probe(broker, url, names)
            cpu = process.pid, psutil.Process(process.pid).cpu_times()
    cuts = quantiles(took_s, n=100)
    cpu_s = cpu[1].user + cpu[1].system
    details = details_of(p50_s=cuts[49], p99_s=cuts[98], max_s=max(took_s))
    return Figures("latency", probes, cpu_s, sum(took_s), 0, "", details)


def measure_idle(seconds: float = IDLE_S) -> Figures:
    """What a job that has read its topic to the end uses while nothing comes; defaults for all settings."""
    with kafka.broker() as (broker, folder), null_server.running() as url:
        kafka.fill(broker, TOPIC, load.make(2_000).messages)
        job = JobFolder(folder / "job")
        job.configure(broker.bootstrap, TOPIC, url)
        with job.running() as process:
            watched = psutil.Process(process.pid)
            time.sleep(SETTLE_S)
            before, began_s = watched.cpu_times(), time.perf_counter()
            time.sleep(seconds)
            after, wall_s = watched.cpu_times(), time.perf_counter() - began_s
            memory_bytes = watched.memory_info().rss
    cpu_s = after.user + after.system - before.user - before.system
    details = details_of(percent_of_a_core=100 * cpu_s / wall_s)
    return Figures("idle", 1, cpu_s, wall_s, memory_bytes, "", details)


def _probe(broker: Kafka, url: str, names: list[str]) -> list[float]:
    """Seconds from the sending of each probe until it was read; the first is sent to warm up and not counted."""
    chance = random.Random(load.SEED)
    sent_s: dict[str, float] = {}
    took_s: dict[str, float] = {}
    due_s, waiting = time.monotonic(), [*names]
    with requests.Session() as session:
        while len(took_s) < len(names):
            now_s = time.monotonic()
            if waiting and now_s >= due_s and (len(sent_s) != 1 or took_s):
                name = waiting.pop(0)
                broker.produce(TOPIC, [(0, name, _event(name), None)])
                sent_s[name] = time.monotonic()
                due_s = sent_s[name] + chance.uniform(*PROBE_PAUSE_S)
            for name in _readable(session, url) - took_s.keys():
                took_s[name] = time.monotonic() - sent_s[name]
            late = [name for name in sent_s if name not in took_s and now_s - sent_s[name] > ARRIVES_S_MAX]
            assert not late, f"no points for {late} after {ARRIVES_S_MAX} s"
            time.sleep(POLL_S)
    return [took_s[name] for name in names[1:]]


def _readable(session: requests.Session, url: str) -> set[str]:
    metric = {"name": METRIC, "group_by": [{"name": "tag", "tags": ["probe"]}]}
    query = {"start_relative": {"value": 1, "unit": "hours"}, "metrics": [metric]}
    answer = session.post(f"{url}/api/v1/datapoints/query", json=query, timeout=REQUEST_S)
    answer.raise_for_status()
    results = answer.json()["queries"][0]["results"]
    return {group["group"]["probe"] for result in results for group in result.get("group_by", ()) if "group" in group}


def _event(name: str) -> bytes:
    return (
        f'{{"tenant":"probe","sessionId":"{name}","time":{time.time_ns() // 1_000_000},"event":"probe",'
        f'"assignments":{{"probing":"probed"}},"attributes":{{"probe":"{name}"}}}}'
    ).encode()


def _tenant(names: list[str]) -> load.Config:
    experiment = {"control": "probed", "variations": {"probed": 1}, "qualified_when": {"event": "never"}}
    return {"tags": {"probe": names}, "points": {}, "experiments": {"probing": experiment}}


@contextmanager
def _background(broker: Kafka) -> Iterator[None]:
    """Sends the reference load at its own pace while the context lasts."""
    ended = Event()
    thread = Thread(target=_send, args=(broker, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _send(broker: Kafka, ended: Event) -> None:
    start_ms = time.time_ns() // 1_000_000
    made = load.make(BACKGROUND_S_MAX * BACKGROUND_EVENTS_PER_S, load.SEED, start_ms, BACKGROUND_EVENTS_PER_S)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for key, value, at_ms in made.messages:
        while not ended.is_set() and time.time_ns() // 1_000_000 < at_ms:
            producer.poll(0)
            ended.wait(TICK_S)
        if ended.is_set():
            break
        producer.produce(TOPIC, value, key)
    producer.flush()


def main(
    probes: Annotated[int, typer.Option(help="How many events are followed.")] = 300,
    idle: Annotated[bool, typer.Option("--idle", help="Measure the CPU of an idle job instead.")] = False,
) -> None:
    """Measures latency, or an idle job, and prints the figures as JSON."""
    report(measure_idle() if idle else measure(probes))


if __name__ == "__main__":
    typer.run(main)
