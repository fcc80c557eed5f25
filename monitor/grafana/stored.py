"""The names under which the store holds an experiment and its variations: those of before a rename are added.

A panel asks for each name, and adds the series of one variation: KairosDB cannot add two metrics.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monitor.config.stored_names import STORABLE
from monitor.core.definitions import Experiment, Tenant
from monitor.grafana import transformations
from monitor.grafana.targets import Json

STORED = "stored"
"""The word behind a name, in the names of series that are only added."""


class StoredNames(NamedTuple):
    """`experiments`: values of the tag. `variations`: variation to the names in its metrics, its own first."""

    experiments: tuple[str, ...]
    variations: Mapping[str, Sequence[str]]

    @property
    def called(self) -> str:
        """What follows a name in the name of a series that is shown as it is, or added to others."""
        return STORED if any(len(names) > 1 for names in self.variations.values()) else ""

    def added(self, renamed: Sequence[Json] = (transformations.PLAIN,), values: Sequence[str] = ()) -> list[Json]:
        """The transformations that make one series of each variation; of each of its `values` of a tag."""
        return transformations.added(self.names(values), STORED, renamed) if self.called else list(renamed)

    def names(self, values: Sequence[str] = ()) -> Mapping[str, Sequence[str]]:
        """The names that are shown, to those that are stored; with `values` of a tag, one for each of these."""
        if not values:
            return self.variations
        return {
            f"{variation} · {value}": [f"{name} · {value}" for name in names]
            for value in values
            for variation, names in self.variations.items()
        }


def stored_names(running: Sequence[tuple[Tenant, Experiment]]) -> StoredNames:
    """Those of an experiment that these tenants run under one name.

    A name that means something else at one of the tenants is left out.
    """
    name = running[0][1].name
    control = running[0][1].control
    variations = dict.fromkeys([control, *(v for _, e in running for v, _ in e.variations)])
    others = {experiment.name for tenant, _ in running for experiment in tenant.experiments}
    old = dict.fromkeys(name for _, e in running for name in e.names if STORABLE.fullmatch(name) and name not in others)
    aliases: dict[str, set[str]] = {}
    for _, experiment in running:
        for alias, variation in experiment.aliases:
            aliases.setdefault(alias, set()).add(variation)
    of_variations = {variation: [variation] for variation in variations}
    for alias, meant in aliases.items():
        if STORABLE.fullmatch(alias) and alias not in variations and len(meant) == 1:
            of_variations[meant.pop()].append(alias)
    return StoredNames((name, *old), of_variations)
