"""The verdicts of all experiments as `monitor top` shows them: the worst first, in 80 columns. Pure."""

import textwrap
from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from monitor.serve.verdict_models import VerdictsAnswer
from monitor.serve.verdicts import rank
from monitor.verdicts.judge import State

ALARMS_SHOWN = 6
WORDS_SHOWN = 100
"""Characters of a verdict in words; it is cut between words."""
QUIET = (State.HEALTHY, State.TOO_EARLY, State.NO_DATA)
"""States that are only counted."""
_STYLES = {State.STOP: "bold red", State.HOLD: "red", State.WARN: "yellow"}


def verdict_table(answers: Sequence[VerdictsAnswer]) -> RenderableType:
    """A row for each experiment with an alarm, the worst first, and a line that counts the states of all of them."""
    ranked = sorted(answers, key=rank)
    alarms = [answer for answer in ranked if answer.state not in QUIET]
    counts = Counter(answer.state for answer in ranked)
    line = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items())
    summary = Text(f"Verdicts: {line or 'no experiments'}")
    return Group(summary, _alarms(alarms[:ALARMS_SHOWN])) if alarms else summary


def first_sentence(words: str) -> str:
    """What is wrong, without how often chance alone would do so; at most WORDS_SHOWN characters."""
    return textwrap.shorten(words.split(". ", 1)[0].rstrip("."), WORDS_SHOWN, placeholder=" …")


def _alarms(answers: Sequence[VerdictsAnswer]) -> Table:
    table = Table(show_edge=True)
    table.add_column("state", no_wrap=True)
    for column in ("tenant", "experiment"):
        table.add_column(column, overflow="fold")
    table.add_column("since", no_wrap=True)
    table.add_column("what", overflow="fold", ratio=1)
    for answer in answers:
        worst = answer.checks[0]
        since = "" if worst.since is None else f"{worst.since:%d. %H:%M}"
        state = Text(answer.state, style=_STYLES.get(answer.state, ""))
        table.add_row(state, answer.tenant, answer.experiment, since, first_sentence(answer.words))
    return table
