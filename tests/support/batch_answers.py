"""The batch answer of a log, as the oracle writes its own."""

from collections.abc import Sequence
from typing import Any

from monitor.batch import Batch, workspace
from monitor.config.reader import parse
from monitor.topics.recorded import Record
from tests.support.oracle import Key, Message
from tests.support.strategies import Config

Answered = tuple[dict[Key, int | float], dict[str, int], dict[Any, int]]


def batch_answer(config: Config, log: Sequence[Message]) -> Answered:
    """Totals as they are stored (`.sumsq` as the nearest double), accepted and rejected, as the oracle writes them."""
    with workspace() as work:
        batch = Batch(work, parse(config))
        batch.read(Record(*message) for message in log)
        batch.judge()
        batch.compute()
        totals = {
            (cell.name, cell.minute_ms, tags_of(config["dc"], cell.experiment, cell.tags)): float(value)
            if cell.name.endswith(".sumsq")
            else value
            for cell, value in batch.totals()
        }
        return totals, dict(batch.accepted()), dict(batch.rejected())


def tags_of(dc: str, experiment: str, text: str) -> tuple[tuple[str, str], ...]:
    """The tags of a cell, sorted, with dc and experiment."""
    pairs = [tuple(part.split("=", 1)) for part in text.split("|") if part]
    return tuple(sorted([("dc", dc), ("experiment", experiment), *((name, value) for name, value in pairs)]))
