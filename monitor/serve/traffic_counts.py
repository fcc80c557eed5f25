"""The assigned visits of a phase for the checks of its traffic, from the sums that all checks read (`phase_counts`)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from monitor.core.codes import MINUTE_MS
from monitor.serve.spans import HOUR_MS
from monitor.serve.sums import Sums
from monitor.verdicts.judge import Place
from monitor.verdicts.silent_variations import Unseen
from monitor.verdicts.traffic import Traffic

Cells = Mapping[tuple[str, ...], Mapping[int, Sequence[int]]]
"""Values of the tags -> start of an hour or a minute -> visits by variation."""


class Visits(NamedTuple):
    """Assigned visits from `from_ms` to before `sealed_ms`: hours before `recent_ms`, minutes from there on."""

    from_ms: int
    recent_ms: int
    sealed_ms: int
    cells: Cells


def assigned(metrics: Sequence[str], read: Iterable[Sums]) -> Cells:
    """The visits of these metrics, one a variation, among the sums."""
    number = {metric: at for at, metric in enumerate(metrics)}
    cells: defaultdict[tuple[str, ...], defaultdict[int, list[int]]] = defaultdict(
        lambda: defaultdict(lambda: [0] * len(number))
    )
    for sums in read:
        for (metric, group, at_ms), count in sums.items():
            if (at := number.get(metric)) is not None:
                cells[group][at_ms][at] += count
    return cells


def traffic(visits: Visits) -> Traffic:
    """All of them over time."""
    minutes = [0] * max(0, (visits.sealed_ms - visits.recent_ms) // MINUTE_MS)
    hours: defaultdict[int, int] = defaultdict(int)
    for by_time in visits.cells.values():
        for at_ms, counts in by_time.items():
            if at_ms >= visits.recent_ms:
                minutes[(at_ms - visits.recent_ms) // MINUTE_MS] += sum(counts)
            else:
                hours[at_ms // HOUR_MS * HOUR_MS] += sum(counts)
    return Traffic(visits.from_ms, visits.recent_ms, minutes, hours)


class Unseens:
    """Where and since when each variation has had no visit."""

    def __init__(self, visits: Visits, tags: Sequence[str], variations: int) -> None:
        self._visits, self._tags = visits, list(tags)
        self._times = sorted({at_ms for by_time in visits.cells.values() for at_ms in by_time})
        self._last: dict[tuple[str, ...], list[int]] = {}
        """By group, the number of the first time after the last visit of each variation."""
        self._before: dict[tuple[str, ...], list[list[int]]] = {}
        """By group and variation, the visits before each time, and all."""
        for group, by_time in visits.cells.items():
            of_variations = list(zip(*(by_time.get(at, (0,) * variations) for at in self._times), strict=True))
            self._before[group] = [list(accumulate(of, initial=0)) for of in of_variations]
            self._last[group] = [max((i + 1 for i, n in enumerate(of) if n), default=0) for of in of_variations]

    def of(self, variation: int, place: Place) -> Unseen:
        """Those of a variation within a slice; () is everywhere."""
        wanted = [(self._tags.index(tag), value) for tag, value in place]
        groups = [group for group in self._before if all(group[i] == value for i, value in wanted)]
        last = max((self._last[group][variation] for group in groups), default=0)
        counts = [[of[-1] - of[last] for of in self._before[group]] for group in groups]
        return Unseen(place, self._end_ms(last), tuple(sum(of) for of in zip(*counts, strict=True)))

    def _end_ms(self, last: int) -> int:
        """The end of the hour or minute before a time; of the first one the beginning."""
        if last == 0:
            return self._visits.from_ms
        at_ms = self._times[last - 1]
        return at_ms + MINUTE_MS if at_ms >= self._visits.recent_ms else at_ms // HOUR_MS * HOUR_MS + HOUR_MS
