"""The commands that make, replay and record traffic: `monitor simulate`, `monitor replay`, `monitor record`.

A fault of the input or of Kafka is one line on stderr and exit status 2.
"""

from __future__ import annotations

import math
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from monitor.config.errors import ConfigError
from monitor.config.reader import load
from monitor.runtime.console import ERR, OUT, faults_told, moment
from monitor.simulate import (
    DEFAULT_RATE,
    KINDS,
    RATE_MAX,
    Incident,
    SimulatedMessage,
    Traffic,
    Truth,
    parse_incident,
    truth,
)
from monitor.simulate.console_tables import truth_tables
from monitor.simulate.incidents import IncidentError
from monitor.simulate.traffic import DAILY_SWING
from monitor.simulate.true_totals import TruthError
from monitor.topics import recorded
from monitor.topics.kafka import Publisher, TopicError, partitions_of, read_topic
from monitor.topics.recorded import Record

app = typer.Typer(no_args_is_help=True)

_LOG_START = "2026-01-05T12:00:00Z"
_SHOW_EVERY = 500
_SHORTEST_WAIT_S = 0.002

Brokers = Annotated[str, typer.Option(help="Kafka's bootstrap servers, HOST:PORT[,HOST:PORT...].")]
KafkaOption = Annotated[
    list[str] | None, typer.Option("--option", help="A librdkafka property, NAME=VALUE (SASL, TLS, ...); repeatable.")
]
ToTopic = Annotated[str | None, typer.Option(help="Write to this Kafka topic, which must exist.")]
ToLog = Annotated[Path | None, typer.Option(help="Write to this recorded log (NDJSON; gzipped if it ends in .gz).")]
Seed = Annotated[int, typer.Option(help="The same seed and settings give the same traffic.")]
Rate = Annotated[
    str,
    typer.Option(
        help=f"Events a second, mean over a day, up to {RATE_MAX:g}; a topic is written at that pace. max: "
        f"{DEFAULT_RATE:g} events a second of the traffic's own time, and a topic is written as fast as it takes them."
    ),
]
Minutes = Annotated[float, typer.Option(min=0.01, help="Length of the traffic, minutes of its own time.")]
Messages = Annotated[int | None, typer.Option(min=1, help="Stop after so many messages, whatever --minutes says.")]
Start = Annotated[
    str | None,
    typer.Option(
        help="Where the traffic begins, ISO 8601 (UTC unless it says otherwise). Default for a topic: now, or with "
        f"--rate max so that it has ended by now. Default without a topic: {_LOG_START}, so that files repeat."
    ),
]
Incidents = Annotated[
    list[str] | None,
    typer.Option(
        help="KIND[:SETTING=VALUE,...][@MINUTE[-MINUTE]], minutes after the start; repeatable. "
        f"Kinds: {', '.join(KINDS)}. Example: payment_broken@10-40."
    ),
]
Partitions = Annotated[
    int | None, typer.Option(min=1, help="Use so many partitions. Default: those of the topic; 4 without one.")
]
ShowTruth = Annotated[bool, typer.Option("--truth", help="Print what the traffic must add up to.")]
TruthJson = Annotated[Path | None, typer.Option(help="Write what it must add up to, as JSON, to this file.")]
CountedBy = Annotated[
    Path, typer.Option(envvar="MONITOR_CONFIG", help="The configuration that --truth and --truth-json count by.")
]

_Rows = Iterable[tuple[int, bytes | None, bytes, int]]


@app.command()
def simulate(
    topic: ToTopic = None,
    brokers: Brokers = "127.0.0.1:9092",
    option: KafkaOption = None,
    log: ToLog = None,
    seed: Seed = 1,
    rate: Rate = f"{DEFAULT_RATE:g}",
    minutes: Minutes = 10.0,
    messages: Messages = None,
    start: Start = None,
    incident: Incidents = None,
    partitions: Partitions = None,
    show_truth: ShowTruth = False,
    truth_json: TruthJson = None,
    config: CountedBy = Path("examples/shop/monitor.toml"),
) -> None:
    """Make seeded, realistic traffic of a shop with eight tenants, for a Kafka topic or a file, and its true totals.

    With neither a topic nor a file it only counts. The truth holds for a topic that keeps the messages' timestamps.
    """
    with _faults():
        count_truth = _counting(config) if show_truth or truth_json else _counting_nothing
        density, paced = _density(rate)
        quietest = density * (1.0 - DAILY_SWING)
        length_s = 60 * minutes if messages is None else messages / quietest
        start_ms = _start_ms(start, topic is not None, paced, length_s)
        incidents = _incidents(incident, start_ms)
        traffic = Traffic(seed, start_ms, density, incidents, _width(partitions, brokers, topic, option))
        tally = _Tally()
        with ExitStack() as stack:
            records: Iterable[Record] = _numbered(_messages(traffic, None if messages else length_s, messages))
            if log is not None:
                records = stack.enter_context(closing(recorded.tee(log, records)))
            if topic is not None:
                publisher = stack.enter_context(Publisher(brokers, topic, _options(option)))
                records = _published(_paced(records, start_ms, 1.0 if paced else math.inf), publisher)
            length, done = (messages, tally.count) if messages else (1000 * length_s, tally.span_ms)
            records = stack.enter_context(closing(_shown(records, tally, "simulating", length, done)))
            totals = count_truth((r.partition, r.key, r.value or b"", r.timestamp_ms) for r in records)
        _say(tally, traffic.partitions, *[f"topic {topic}"] * bool(topic), *[str(log)] * bool(log))
        if totals is not None:
            _give_truth(totals, show_truth, truth_json)


@app.command()
def replay(
    log: Annotated[Path, typer.Argument(help="The recorded log.", exists=True, dir_okay=False)],
    topic: Annotated[str, typer.Option(help="Write to this Kafka topic, which must exist.")],
    brokers: Brokers = "127.0.0.1:9092",
    option: KafkaOption = None,
    shift_to_now: Annotated[
        bool,
        typer.Option(
            "--shift-to-now/--own-timestamps",
            help="Move timestamps and event times together, by whole minutes, so that the log ends as it is sent; "
            "or keep them. (A topic with LogAppendTime stamps messages itself.)",
        ),
    ] = False,
    speed: Annotated[float, typer.Option(min=0.001, help="So many times as fast as it was recorded.")] = 1.0,
    at_once: Annotated[bool, typer.Option("--at-once", help="As fast as the topic takes it.")] = False,
) -> None:
    """Put a recorded log on a topic: the same partitions, keys and values."""
    with _faults():
        width = partitions_of(brokers, topic, _options(option))
        extent = recorded.survey(recorded.read(log))
        if extent.partition_max >= width:
            message = f"topic {topic!r} has {width} partitions; {log} uses partition {extent.partition_max}"
            raise TopicError(message)
        pace = math.inf if at_once else speed
        by_ms = recorded.shift_for_replay(extent, _now_ms(), pace) if shift_to_now else 0
        tally = _Tally()
        with Publisher(brokers, topic, _options(option)) as publisher:
            paced = _paced(recorded.read(log), extent.first_ms, pace)
            moved = (recorded.shifted(record, by_ms) for record in paced) if by_ms else paced
            sent = _published(moved, publisher)
            with closing(_shown(sent, tally, "replaying", extent.messages, tally.count)) as shown:
                _exhaust(shown)
        _say(tally, width, f"topic {topic}")


@app.command()
def record(
    topic: Annotated[str, typer.Argument(help="The Kafka topic to read, from its beginning.")],
    out: Annotated[Path, typer.Option(help="The file to write; gzipped if its name ends in .gz.")],
    brokers: Brokers = "127.0.0.1:9092",
    option: KafkaOption = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop at the present end of the topic; so it does without --seconds.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop after so many seconds.")] = None,
) -> None:
    """Write a topic to a recorded log, in order of the messages' timestamps as far as the order of reading permits."""
    if until_end and seconds is not None:
        message = "either --until-end or --seconds"
        raise typer.BadParameter(message)
    with _faults():
        options = _options(option)
        width = partitions_of(brokers, topic, options)
        tally = _Tally()
        source = read_topic(brokers, topic, options, seconds)
        with closing(source), closing(recorded.tee(out, _shown(source, tally, "recording"))) as records:
            _exhaust(records)
        _say(tally, width, str(out))


class _Tally:
    """How much went through, and from when to when."""

    def __init__(self) -> None:
        self.messages = 0
        self.first_ms = self.last_ms = 0
        self.began_at = time.monotonic()

    def add(self, record: Record) -> None:
        if self.messages == 0:
            self.first_ms = record.timestamp_ms
        self.messages += 1
        self.last_ms = record.timestamp_ms

    def count(self) -> float:
        return self.messages

    def span_ms(self) -> float:
        return self.last_ms - self.first_ms


def _faults() -> AbstractContextManager[None]:
    """Tells what can go wrong with topics, logs and what is asked for."""
    return faults_told(TopicError, recorded.RecordedLogError, TruthError, ConfigError, OSError)


def _counting(path: Path) -> Callable[[_Rows], Truth]:
    """The truth under a configuration, which is checked at once."""
    settings = load(path)
    tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    tables |= {"time": settings.time.model_dump(), "limits": settings.limits.model_dump()}
    return lambda messages: truth(messages, tables)


def _counting_nothing(messages: _Rows) -> None:
    _exhaust(messages)


def _exhaust(items: Iterable[object]) -> None:
    for _ in items:
        pass


def _width(partitions: int | None, brokers: str, topic: str | None, option: list[str] | None) -> int:
    if topic is None:
        return partitions or 4
    there = partitions_of(brokers, topic, _options(option))
    if partitions is not None and partitions > there:
        message = f"topic {topic!r} has {there} partitions; --partitions is {partitions}"
        raise TopicError(message)
    return partitions or there


def _density(rate: str) -> tuple[float, bool]:
    """Events a second of the traffic's own time, and whether a topic is written at that pace."""
    if rate == "max":
        return DEFAULT_RATE, False
    try:
        density = float(rate)
    except ValueError:
        density = math.nan
    if not 0 < density <= RATE_MAX:
        message = f"--rate must be max, or above 0 and at most {RATE_MAX:g}; got {rate!r}"
        raise typer.BadParameter(message)
    return density, True


def _start_ms(start: str | None, to_topic: bool, paced: bool, length_s: float) -> int:
    if start is None and to_topic:
        return _now_ms() if paced else _now_ms() - math.ceil(1000 * length_s)
    try:
        moment = datetime.fromisoformat(start or _LOG_START)
    except ValueError as fault:
        message = f"--start must be a moment in ISO 8601; got {start!r}"
        raise typer.BadParameter(message) from fault
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _incidents(texts: list[str] | None, start_ms: int) -> list[Incident]:
    try:
        return [parse_incident(text, start_ms) for text in texts or ()]
    except IncidentError as fault:
        raise typer.BadParameter(str(fault)) from fault


def _options(texts: list[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts or ()]
    for name, equals, value in pairs:
        if not (name and equals):
            message = f"--option must be NAME=VALUE; got {name + equals + value!r}"
            raise typer.BadParameter(message)
    return {name: value for name, _, value in pairs}


def _messages(traffic: Traffic, length_s: float | None, count: int | None) -> Iterator[SimulatedMessage]:
    """The traffic of so many seconds, or so many messages of it."""
    seconds = islice(traffic.from_second(0), None if length_s is None else math.ceil(length_s))
    end_ms = math.inf if length_s is None else traffic.start_ms + 1000 * length_s
    return islice((m for second in seconds for m in second if m.timestamp_ms < end_ms), count)


def _numbered(messages: Iterable[SimulatedMessage]) -> Iterator[Record]:
    """The messages with the offsets that an empty topic would give them."""
    ends: Counter[int] = Counter()
    for partition, key, value, timestamp_ms in messages:
        yield Record(partition, ends[partition], timestamp_ms, key, value)
        ends[partition] += 1


def _paced(records: Iterable[Record], first_ms: int, speed: float) -> Iterator[Record]:
    """Hands each message on no sooner than its timestamp says, so many times as fast; what is behind is not held up."""
    began_at = time.monotonic()
    for record in records:
        due_at = began_at + (record.timestamp_ms - first_ms) / 1000 / speed
        if (wait_s := due_at - time.monotonic()) > _SHORTEST_WAIT_S:
            time.sleep(wait_s)
        yield record


def _published(records: Iterable[Record], publisher: Publisher) -> Iterator[Record]:
    for record in records:
        publisher.send(record)
        yield record


def _shown(
    records: Iterable[Record],
    tally: _Tally,
    doing: str,
    total: float | None = None,
    done: Callable[[], float] = lambda: 0,
) -> Generator[Record, None, None]:
    """Counts messages on their way, with a progress bar on stderr that is full when `done` gives `total`."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[messages]:,} messages"),
        TimeElapsedColumn(),
        console=ERR,
        transient=True,
    )
    with progress:
        task = progress.add_task(doing, total=total, messages=0)
        for record in records:
            tally.add(record)
            if tally.messages % _SHOW_EVERY == 0:
                progress.update(task, completed=done(), messages=tally.messages)
            yield record


def _say(tally: _Tally, partitions: int, *places: str) -> None:
    took_s = time.monotonic() - tally.began_at
    span = f"{moment(tally.first_ms)} to {moment(tally.last_ms)}" if tally.messages else "empty"
    to = f" -> {', '.join(places)}" if places else ""
    OUT.print(
        f"{tally.messages:,} messages in {partitions} partitions, {span}{to}; "
        f"{took_s:.1f} s, {tally.messages / max(took_s, 0.001):,.0f} messages/s",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _give_truth(totals: Truth, show: bool, path: Path | None) -> None:
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(totals._asdict(), order="sorted")) + b"\n")
    if show:
        OUT.print(*truth_tables(totals), sep="\n")
