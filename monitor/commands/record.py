"""`monitor record`: a Kafka topic, written to a recorded log."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from monitor.commands.options import BROKERS, Brokers, KafkaOption, kafka_properties
from monitor.commands.progress import Tally, exhaust, with_progress
from monitor.topics import recorded
from monitor.topics.kafka import partitions_of, read_topic


def record(
    topic: Annotated[str, typer.Argument(help="The Kafka topic to read, from its beginning.")],
    out: Annotated[Path, typer.Option(help="The file to write; gzipped if its name ends in .gz.")],
    brokers: Brokers = BROKERS,
    option: KafkaOption = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop at the present end of the topic, as without --seconds.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop after this many seconds.")] = None,
) -> None:
    """Messages are in the order of their timestamps, as far as the order of reading permits."""
    if until_end and seconds is not None:
        message = "either --until-end or --seconds"
        raise typer.BadParameter(message)
    properties = kafka_properties(option)
    partitions = partitions_of(brokers, topic, properties)
    tally = Tally()
    source = read_topic(brokers, topic, properties, seconds)
    with closing(source), closing(recorded.tee(out, with_progress(source, tally, "recording"))) as records:
        exhaust(records)
    tally.print_summary(partitions, str(out))
