"""The names under which the store holds an experiment: the configured ones, and those of before a rename. Pure.

A rename that keeps the old name as an alias keeps the history readable: the series of both names are added. Either
alone may be negative, since a correction takes back under the new name what the old one had counted; the sum is exact.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from monitor.config.settings import ExperimentTable

STORABLE = re.compile(r"(?!aa-(0[0-9]|1[0-5])$)[A-Za-z0-9_-]+")
"""A text that can have been the name of an experiment or a variation; no metric was ever named by another one.

The sixteenths of live A/A are none: an alias of such a name is a text in events only."""
VARIATION_AT = 3
"""The place of the variation among the parts of a metric's name, which are separated by dots."""


def stored_experiments(name: str, table: ExperimentTable) -> tuple[str, ...]:
    """The values of the tag `experiment`: the configured name, then the old ones."""
    return tuple(dict.fromkeys([name, *(old for old in table.names if STORABLE.fullmatch(old))]))


def stored_metrics(metrics: Iterable[str], table: ExperimentTable) -> dict[str, str]:
    """Every name under which these metrics of the experiment are stored -> the metric, by its configured variation."""
    stored = {metric: metric for metric in metrics}
    for alias, variation in table.aliases.items():
        if STORABLE.fullmatch(alias) and alias not in table.variations:
            for metric in list(dict.fromkeys(stored.values())):
                parts = metric.split(".")
                if parts[VARIATION_AT:][:1] == [variation]:
                    stored[".".join([*parts[:VARIATION_AT], alias, *parts[VARIATION_AT + 1 :]])] = metric
    return stored


def configured_name(experiments: Mapping[str, ExperimentTable]) -> Callable[[str, str], tuple[str, str]]:
    """A function that gives, of a stored metric and its tag `experiment`, the configured ones: those of a tenant."""
    names = {old: name for name, table in experiments.items() for old in stored_experiments(name, table)}
    aliases = {
        (name, alias): variation
        for name, table in experiments.items()
        for alias, variation in table.aliases.items()
        if STORABLE.fullmatch(alias) and alias not in table.variations
    }

    def configured(metric: str, experiment: str) -> tuple[str, str]:
        name = names.get(experiment, experiment)
        parts = metric.split(".")
        if len(parts) > VARIATION_AT:
            parts[VARIATION_AT] = aliases.get((name, parts[VARIATION_AT]), parts[VARIATION_AT])
        return ".".join(parts), name

    return configured


def by_configured_name(
    sums: Counter[tuple[str, tuple[str, ...], int]], stored: Mapping[str, str]
) -> Counter[tuple[str, tuple[str, ...], int]]:
    """The sums of (metric, group, time), with those of old names added to those of the configured ones."""
    if len(stored) == len(set(stored.values())):
        return sums
    added: Counter[tuple[str, tuple[str, ...], int]] = Counter()
    for (metric, group, at_ms), count in sums.items():
        added[stored[metric], group, at_ms] += count
    return added
