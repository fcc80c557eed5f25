"""`monitor simulate`: seeded traffic of a shop, for a Kafka topic or a file, and what it must add up to."""

import math
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from monitor.commands.options import (
    BROKERS,
    EXAMPLE,
    EXAMPLE_SHOWN,
    Brokers,
    KafkaOption,
    kafka_properties,
)
from monitor.commands.progress import Tally, exhaust, with_progress
from monitor.commands.publishing import now_ms, paced, published
from monitor.config.reader import load
from monitor.runtime.console import OUT
from monitor.simulate import (
    DEFAULT_RATE,
    KINDS,
    RATE_MAX,
    Incident,
    IncidentError,
    SimulatedMessage,
    Traffic,
    Truth,
    parse_incident,
    truth,
)
from monitor.simulate.console_tables import truth_tables
from monitor.simulate.traffic import DAILY_SWING
from monitor.topics import recorded
from monitor.topics.kafka import Publisher, TopicError, partitions_of
from monitor.topics.recorded import Record

_LOG_START = "2026-01-05T12:00:00Z"
_DEFAULT_PARTITIONS = 4

_Messages = Iterable[tuple[int, bytes | None, bytes, int]]

ToTopic = Annotated[str | None, typer.Option(help="The Kafka topic to write to; it must exist.")]
ToLog = Annotated[
    Path | None, typer.Option(help="The recorded log to write (NDJSON); gzipped if its name ends in .gz.")
]
Seed = Annotated[int, typer.Option(help="The same seed and settings give the same traffic.")]
Rate = Annotated[
    str,
    typer.Option(
        help=f"Events a second, mean over a day, up to {RATE_MAX:g}; a topic is written at that pace. max: "
        f"{DEFAULT_RATE:g} events a second of the traffic's own time, and a topic is written as fast as it takes them."
    ),
]
Minutes = Annotated[float, typer.Option(min=0.01, help="Length of the traffic, minutes of its own time.")]
MessageCount = Annotated[
    int | None, typer.Option(min=1, help="Stop after this many messages, whatever --minutes says.")
]
Start = Annotated[
    str | None,
    typer.Option(
        help="When the traffic begins, ISO 8601 (UTC unless it says otherwise). Default for a topic: now, or with "
        f"--rate max so that it ends now. Default without a topic: {_LOG_START}, so that files repeat."
    ),
]
Incidents = Annotated[
    list[str] | None,
    typer.Option(
        help="KIND, or KIND:SETTING=VALUE,...; followed by @MINUTE or @MINUTE-MINUTE (minutes after the start) to "
        f"limit it; repeatable. Kinds: {', '.join(KINDS)}. Example: payment_broken@10-40."
    ),
]
Partitions = Annotated[
    int | None,
    typer.Option(
        min=1, help=f"How many partitions to use. Default: those of the topic; {_DEFAULT_PARTITIONS} without one."
    ),
]
ShowTruth = Annotated[bool, typer.Option("--truth", help="Print what the traffic must add up to.")]
TruthJson = Annotated[Path | None, typer.Option(help="Write what it must add up to, as JSON, to this file.")]
CountedBy = Annotated[
    Path,
    typer.Option(
        envvar="MONITOR_CONFIG",
        help="The configuration that --truth and --truth-json count by.",
        show_default=EXAMPLE_SHOWN,
    ),
]


def simulate(
    topic: ToTopic = None,
    brokers: Brokers = BROKERS,
    option: KafkaOption = None,
    log: ToLog = None,
    seed: Seed = 1,
    rate: Rate = f"{DEFAULT_RATE:g}",
    minutes: Minutes = 10.0,
    messages: MessageCount = None,
    start: Start = None,
    incident: Incidents = None,
    partitions: Partitions = None,
    show_truth: ShowTruth = False,
    truth_json: TruthJson = None,
    config: CountedBy = EXAMPLE,
) -> None:
    """The shop has eight tenants. With neither a topic nor a file, messages are only counted. The truth holds for a
    topic that keeps the messages' timestamps.
    """
    count_truth = _truth_counter(config) if show_truth or truth_json else exhaust
    density, at_pace = _density(rate)
    quietest = density * (1.0 - DAILY_SWING)
    length_s = 60 * minutes if messages is None else messages / quietest
    start_ms = _start_ms(start, topic is not None, at_pace, length_s)
    incidents = _incidents(incident, start_ms)
    properties = kafka_properties(option)
    traffic = Traffic(seed, start_ms, density, incidents, _partitions(partitions, brokers, topic, properties))
    tally = Tally()
    with ExitStack() as stack:
        records: Iterable[Record] = _numbered(_messages(traffic, None if messages else length_s, messages))
        if log is not None:
            records = stack.enter_context(closing(recorded.tee(log, records)))
        if topic is not None:
            publisher = stack.enter_context(Publisher(brokers, topic, properties))
            records = published(paced(records, start_ms, math.inf, 1.0 if at_pace else math.inf), publisher)
        length, done = (messages, tally.count) if messages else (1000 * length_s, tally.span_ms)
        records = stack.enter_context(closing(with_progress(records, tally, "simulating", length, done)))
        totals = count_truth((r.partition, r.key, r.value or b"", r.timestamp_ms) for r in records)
    tally.print_summary(traffic.partitions, *[f"topic {topic}"] * bool(topic), *[str(log)] * bool(log))
    if totals is not None:
        _give_truth(totals, show_truth, truth_json)


def _truth_counter(path: Path) -> Callable[[_Messages], Truth | None]:
    """A function that counts the truth under a configuration, which is read and checked at once."""
    settings = load(path)
    tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    tables |= {"time": settings.time.model_dump(), "limits": settings.limits.model_dump()}
    return lambda messages: truth(messages, tables)


def _partitions(asked: int | None, brokers: str, topic: str | None, properties: dict[str, str]) -> int:
    """How many partitions the traffic uses; raises TopicError if the topic has fewer than were asked for."""
    if topic is None:
        return asked or _DEFAULT_PARTITIONS
    existing = partitions_of(brokers, topic, properties)
    if asked is not None and asked > existing:
        message = f"topic {topic!r} has {existing} partitions; --partitions is {asked}"
        raise TopicError(message)
    return asked or existing


def _density(rate: str) -> tuple[float, bool]:
    """Events a second of the traffic's own time, and if a topic is written at that pace."""
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


def _start_ms(start: str | None, to_topic: bool, at_pace: bool, length_s: float) -> int:
    if start is None and to_topic:
        return now_ms() if at_pace else now_ms() - math.ceil(1000 * length_s)
    try:
        time = datetime.fromisoformat(start or _LOG_START)
    except ValueError as error:
        message = f"--start must be a moment in ISO 8601; got {start!r}"
        raise typer.BadParameter(message) from error
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def _incidents(texts: list[str] | None, start_ms: int) -> list[Incident]:
    try:
        return [parse_incident(text, start_ms) for text in texts or ()]
    except IncidentError as error:
        raise typer.BadParameter(str(error)) from error


def _messages(traffic: Traffic, length_s: float | None, count: int | None) -> Iterator[SimulatedMessage]:
    """The traffic of a number of seconds, or a number of messages of it."""
    seconds = islice(traffic.from_second(0), None if length_s is None else math.ceil(length_s))
    end_ms = math.inf if length_s is None else traffic.start_ms + 1000 * length_s
    return islice((m for second in seconds for m in second if m.timestamp_ms < end_ms), count)


def _numbered(messages: Iterable[SimulatedMessage]) -> Iterator[Record]:
    """The messages with the offsets that an empty topic would give them."""
    ends: Counter[int] = Counter()
    for partition, key, value, timestamp_ms in messages:
        yield Record(partition, ends[partition], timestamp_ms, key, value)
        ends[partition] += 1


def _give_truth(totals: Truth, show: bool, path: Path | None) -> None:
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(totals._asdict(), order="sorted")) + b"\n")
    if show:
        OUT.print(*truth_tables(totals), sep="\n")
