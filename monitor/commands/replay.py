"""`monitor replay`: a recorded log, written to a Kafka topic."""

import math
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from monitor.commands.options import BROKERS, Brokers, KafkaOption, kafka_properties
from monitor.commands.progress import Tally, exhaust, with_progress
from monitor.commands.publishing import now_ms, paced, published
from monitor.topics import recorded
from monitor.topics.kafka import Publisher, TopicError, partitions_of


def replay(
    log: Annotated[Path, typer.Argument(help="The recorded log.", exists=True, dir_okay=False)],
    topic: Annotated[str, typer.Option(help="The Kafka topic to write to; it must exist.")],
    brokers: Brokers = BROKERS,
    option: KafkaOption = None,
    shift_to_now: Annotated[
        bool,
        typer.Option(
            "--shift-to-now/--own-timestamps",
            help="Move timestamps and event times together, by whole minutes, so that the log ends when the last "
            "message is sent; or keep them. (A topic with LogAppendTime sets timestamps itself.)",
        ),
    ] = False,
    speed: Annotated[float, typer.Option(min=0.001, help="How many times as fast as it was recorded.")] = 1.0,
    at_once: Annotated[bool, typer.Option("--at-once", help="Write as fast as the topic takes it.")] = False,
) -> None:
    """Partitions, keys and values are those of the log."""
    properties = kafka_properties(option)
    partitions = partitions_of(brokers, topic, properties)
    extent = recorded.survey(recorded.read(log))
    if extent.partition_max >= partitions:
        message = f"topic {topic!r} has {partitions} partitions; {log} uses partition {extent.partition_max}"
        raise TopicError(message)
    pace = math.inf if at_once else speed
    shift_ms = recorded.shift_for_replay(extent, now_ms(), pace) if shift_to_now else 0
    tally = Tally()
    with Publisher(brokers, topic, properties) as publisher:
        records = paced(recorded.read(log), extent.first_ms, extent.last_ms, pace)
        shifted = (recorded.shifted(record, shift_ms) for record in records) if shift_ms else records
        sent = published(shifted, publisher)
        with closing(with_progress(sent, tally, "replaying", extent.messages, tally.count)) as counted:
            exhaust(counted)
    tally.print_summary(partitions, f"topic {topic}")
