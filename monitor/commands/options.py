"""Options that several commands have, each defined once."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from monitor.config.example import example_file

EXAMPLE = example_file()
EXAMPLE_SHOWN = "the example shop's"
"""In a command's help in place of the example's path, which depends on where the package is installed."""

ConfigFile = Annotated[
    Path, typer.Option(envvar="MONITOR_CONFIG", help="The configuration file.", show_default=EXAMPLE_SHOWN)
]
KairosDbUrl = Annotated[str | None, typer.Option(help="The KairosDB to read. Default: the configuration's.")]
LogFile = Annotated[
    Path | None,
    typer.Option(help="Read this recorded log, a file or a folder of parts. Default: the configuration's topics."),
]
FromRun = Annotated[
    Path | None,
    typer.Option("--run", help="Read what the `monitor run` with this folder has recorded."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything, as one JSON object.")]
Brokers = Annotated[str, typer.Option(help="Kafka's bootstrap servers: HOST:PORT, separated by commas.")]
BROKERS = "127.0.0.1:9092"
KafkaOption = Annotated[
    list[str] | None,
    typer.Option("--option", help="A librdkafka property (SASL, TLS, ...), as NAME=VALUE; repeatable."),
]
Since = Annotated[str | None, typer.Option("--from", help="From this time on, ISO 8601.")]
Until = Annotated[str | None, typer.Option("--to", help="Up to before this time, ISO 8601.")]
RunFolder = Annotated[Path, typer.Option(help="The folder of the store, the recovery store and the logs of a run.")]
RUN_FOLDER = Path("var")
COUNTS_FILE = "counts.sqlite3"
"""The counts of running phases, in the folder of `monitor watch`."""
SWITCHES_FILE = "incidents.ndjson"
"""The file in the folder of a run in which `monitor incident` writes what was turned on and off."""


def kafka_properties(texts: list[str] | None) -> dict[str, str]:
    """The librdkafka properties of `--option`, by name."""
    pairs = [text.partition("=") for text in texts or ()]
    for name, equals, value in pairs:
        if not (name and equals):
            message = f"--option must be NAME=VALUE; got {name + equals + value!r}"
            raise typer.BadParameter(message)
    return {name: value for name, _, value in pairs}


def option_ms(text: str, option: str) -> int:
    """The time in an option, ms; one without a zone is in UTC. Raises BadParameter."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        message = f"{option} must be a time such as 2026-11-25T10:00Z; got {text!r}"
        raise typer.BadParameter(message) from None
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1_000)
