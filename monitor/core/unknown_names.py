"""Unknown names: the most frequent experiments and variations in events that are not configured. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence

from monitor.core.classify import UnknownName
from monitor.core.metrics import Series, health_series
from monitor.core.sessions import UNKNOWN_NAMES_MAX, Tally
from monitor.core.tags import sanitised

UNKNOWN_NAMES_SHOWN = 20
"""Names of a tenant that are written with one flush, the most frequent ones."""
NAME_CHARACTERS_MAX = 64
"""A longer name is cut."""


class UnknownNames:
    """Counts the unknown names of one tenant; at most UNKNOWN_NAMES_MAX, further ones are left out until `take`."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._counts: Counter[UnknownName] = Counter()

    def add(self, tallies: Sequence[Tally]) -> None:
        """Adds those of some tallies."""
        for tally in tallies:
            for name, events in tally.unknown.items():
                if name in self._counts or len(self._counts) < UNKNOWN_NAMES_MAX:
                    self._counts[name] += events

    def take(self) -> dict[Series, int]:
        """The most frequent since the last call, as counters `monitor.unknown`."""
        counts: Counter[Series] = Counter()
        for (experiment, name), events in self._counts.most_common(UNKNOWN_NAMES_SHOWN):
            counts[_series(self._tenant, experiment, name)] += events
        self._counts.clear()
        return dict(counts)


def most_frequent(counts: Mapping[Series, int]) -> dict[Series, int]:
    """Counters of health series, with only the most frequent unknown names of each tenant."""
    kept: dict[Series, int] = {}
    unknown: dict[str, Counter[Series]] = {}
    prefix = health_series("unknown") + "|"
    for series, events in counts.items():
        if series.startswith(prefix):
            unknown.setdefault(series.split("|")[1], Counter())[series] = events
        else:
            kept[series] = events
    for of_tenant in unknown.values():
        kept |= dict(of_tenant.most_common(UNKNOWN_NAMES_SHOWN))
    return kept


def _series(tenant: str, experiment: str, name: str) -> Series:
    """The counter of a name, with what cannot be a tag value replaced."""
    text = sanitised(name[:NAME_CHARACTERS_MAX]) or "_"
    if experiment:
        return health_series("unknown", tenant=tenant, kind="variation", experiment=experiment, name=text)
    return health_series("unknown", tenant=tenant, kind="experiment", name=text)
