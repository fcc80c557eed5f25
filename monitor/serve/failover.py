"""Which data center serves a minute: the preferred one while it is in order, else another; never two. Pure.

Everything follows from what the store holds, so that two processes, or one after a restart, come to the same:

* **Health.** Each data center reports its watermark with every flush. It is *stale* from `stale_after_ms` after a
  report until the next one, *missing* before its first, and *behind* while its watermark is more than `behind_ms` below
  another's. Afterwards it is *recovering* for `return_after_ms`: the hysteresis that keeps the picture from flapping.
* **Who serves a moment.** The first in order of preference that is in order; else the first that is recovering; else,
  where none is in order, the one whose watermark is highest. One that is recovering and serves goes on to.
* **Who serves a minute.** From its first seconds on, whoever serves the present, until that one has sealed the minute.
  From then on that one for good, whatever becomes of it. It loses the minute only if its watermark falls back below it:
  then it has lost its state, reads the topic again, and writes the minute anew.
* **Completeness.** Where the data center so chosen has clearly fewer assigned visits of the experiment than another,
  though it had the time to count them, the most complete one serves, and goes on to for `return_after_ms`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import pairwise
from typing import NamedTuple

from monitor.core.codes import MINUTE_MS
from monitor.serve.models import DcState, ServingReason

EVER_MS = 2**62
_AILING = {
    DcState.STALE: ServingReason.STALE,
    DcState.MISSING: ServingReason.MISSING,
    DcState.BEHIND: ServingReason.BEHIND,
}


class Rules(NamedTuple):
    """The settings of the choice."""

    stale_after_ms: int
    behind_ms: int
    return_after_ms: int
    fewer_share: float
    fewer_visits: int


class Report(NamedTuple):
    """The watermark that a data center's job wrote at a moment."""

    at_ms: int
    watermark_ms: int


class Spell(NamedTuple):
    """From start to before end: a data center is in a state."""

    start_ms: int
    end_ms: int
    state: DcState


class Stretch(NamedTuple):
    """From start to before end: who serves, and why."""

    start_ms: int
    end_ms: int
    dc: str
    reason: ServingReason


class Evidence:
    """The reports of all data centers up to a moment, and what follows from them.

    `reports` are in order of time: from `lookback_ms` before the first moment that is asked for, and the last one
    before that too.
    """

    def __init__(
        self, order: Sequence[str], reports: Mapping[str, Sequence[Report]], now_ms: int, rules: Rules
    ) -> None:
        self.order = tuple(order)
        self.now_ms = now_ms
        self.rules = rules
        self._reports = {dc: [report for report in reports.get(dc, ()) if report.at_ms <= now_ms] for dc in order}
        self._times = {dc: [report.at_ms for report in told] for dc, told in self._reports.items()}
        self._standing = {dc: _standing(told) for dc, told in self._reports.items()}
        delays = self._delays()
        self._spells = {dc: _flattened([*self._silences(dc), *delays[dc]]) for dc in order}
        self._ranges: dict[tuple[int, int], list[Stretch]] = {}
        self._minutes: dict[int, Stretch] = {}
        self.moments = list(self._moments())
        """Who served each moment up to now, in order of time, the last one open-ended."""
        self._starts = [stretch.start_ms for stretch in self.moments]

    def present(self) -> Stretch:
        """Who serves now."""
        return self.moments[-1]

    def last(self, dc: str) -> Report | None:
        """The last report of a data center."""
        return self._reports[dc][-1] if self._reports[dc] else None

    def state(self, dc: str, at_ms: int) -> DcState:
        """How a data center was at a moment."""
        spells = self._spells[dc]
        before = bisect_right(spells, at_ms, key=lambda spell: spell.start_ms)
        if not before:
            return DcState.HEALTHY
        spell = spells[before - 1]
        if at_ms < spell.end_ms:
            return spell.state
        return DcState.RECOVERING if at_ms < spell.end_ms + self.rules.return_after_ms else DcState.HEALTHY

    def sealed_since_ms(self, dc: str, end_ms: int) -> int | None:
        """Since when minutes that end by then are sealed in a data center without interruption; None: they are not."""
        at = bisect_left(self._standing[dc], end_ms)
        return self._times[dc][at] if at < len(self._times[dc]) else None

    def minute(self, start_ms: int) -> Stretch:
        """Who serves a minute, going by health alone."""
        known = self._minutes.get(start_ms)
        if known is None:
            known = self._minutes[start_ms] = self._minute(start_ms)
        return known

    def _minute(self, start_ms: int) -> Stretch:
        end_ms = start_ms + MINUTE_MS
        for stretch in self.moments[max(0, bisect_right(self._starts, end_ms) - 1) :]:
            sealed_ms = self.sealed_since_ms(stretch.dc, end_ms)
            if sealed_ms is not None and max(sealed_ms, stretch.start_ms) < stretch.end_ms:
                return Stretch(start_ms, end_ms, stretch.dc, stretch.reason)
        return Stretch(start_ms, end_ms, self.present().dc, self.present().reason)

    def minutes(self, start_ms: int, end_ms: int) -> list[Stretch]:
        """Who serves each minute of a range, going by health alone; neighbours differ."""
        if (start_ms, end_ms) not in self._ranges:
            starts_ms = range(start_ms, end_ms, MINUTE_MS) if len(self.moments) > 1 else ()
            self._ranges[start_ms, end_ms] = list(merged(self.minute(minute_ms) for minute_ms in starts_ms)) or [
                self.present()._replace(start_ms=start_ms, end_ms=end_ms)
            ]
        return self._ranges[start_ms, end_ms]

    def has_had_time(self, dc: str, end_ms: int) -> bool:
        """Whether a data center should have counted the minute that ends then: sealed it, or come well beyond it.

        Beyond it, it is when that long ago that another flush came, and what it is behind another was made up for.
        """
        last = self.last(dc)
        if last is None:
            return False
        highest_ms = max(told[-1].watermark_ms for told in self._reports.values() if told)
        settled_ms = end_ms + self.rules.stale_after_ms + highest_ms - last.watermark_ms
        return settled_ms <= last.at_ms or self.sealed_since_ms(dc, end_ms) is not None

    def _silences(self, dc: str) -> Iterator[Spell]:
        """When it did not report in time."""
        times, after_ms = self._times[dc], self.rules.stale_after_ms
        yield Spell(-EVER_MS, times[0] if times else EVER_MS, DcState.MISSING)
        for at_ms, next_ms in pairwise([*times, EVER_MS] if times else []):
            if next_ms - at_ms > after_ms and at_ms + after_ms < self.now_ms:
                yield Spell(at_ms + after_ms, next_ms, DcState.STALE)

    def _delays(self) -> dict[str, list[Spell]]:
        """When the watermarks of data centers were too far below the highest of all."""
        told = merge(*([(*report, dc) for report in reports] for dc, reports in self._reports.items()))
        found: dict[str, list[Spell]] = {dc: [] for dc in self.order}
        since_ms: dict[str, int] = {}
        known: dict[str, int] = {}
        behind_ms = self.rules.behind_ms
        for at_ms, watermark_ms, of_dc in told:
            known[of_dc] = watermark_ms
            enough_ms = max(known.values()) - behind_ms
            if not since_ms and min(known.values()) >= enough_ms:
                continue
            for dc, reached_ms in known.items():
                if reached_ms < enough_ms:
                    since_ms.setdefault(dc, at_ms)
                elif dc in since_ms:
                    found[dc].append(Spell(since_ms.pop(dc), at_ms, DcState.BEHIND))
        for dc, from_ms in since_ms.items():
            found[dc].append(Spell(from_ms, EVER_MS, DcState.BEHIND))
        return {dc: [spell for spell in spells if spell.start_ms < spell.end_ms] for dc, spells in found.items()}

    def _moments(self) -> Iterator[Stretch]:
        """Who served when, and why; neighbours differ."""
        again_ms = self.rules.return_after_ms
        changes = {-EVER_MS}
        for spell in (spell for spells in self._spells.values() for spell in spells):
            changes |= {spell.start_ms, spell.end_ms, spell.end_ms + again_ms}
        ordered = sorted(at_ms for at_ms in changes if at_ms <= self.now_ms)
        yield from merged(self._served(ordered))

    def _served(self, ordered: Sequence[int]) -> Iterator[Stretch]:
        first, dc = self.order[0], ""
        for start_ms, end_ms in pairwise([*ordered, EVER_MS]):
            states = {dc: self.state(dc, start_ms) for dc in self.order}
            dc = self._next(dc, states, start_ms)
            reason = ServingReason.PREFERRED if dc == first else _AILING.get(states[first], ServingReason.RECOVERING)
            yield Stretch(start_ms, end_ms, dc, reason)

    def _next(self, dc: str, states: Mapping[str, DcState], at_ms: int) -> str:
        """Who serves from a moment on, after `dc`."""
        healthy = [dc for dc, state in states.items() if state is DcState.HEALTHY]
        recovering = [dc for dc, state in states.items() if state is DcState.RECOVERING]
        if dc in recovering and (not healthy or self.order.index(dc) < self.order.index(healthy[0])):
            return dc
        fit = healthy or recovering
        return fit[0] if fit else max(self.order, key=lambda dc: self._watermark_ms(dc, at_ms))

    def _watermark_ms(self, dc: str, at_ms: int) -> int:
        before = bisect_right(self._times[dc], at_ms)
        return self._reports[dc][before - 1].watermark_ms if before else -EVER_MS


def lookback_ms(rules: Rules) -> int:
    """How long before the first moment that is asked for reports have to be known."""
    return rules.return_after_ms + 2 * rules.stale_after_ms


def minutes(evidence: Evidence, start_ms: int, end_ms: int, visits: Mapping[str, Mapping[int, int]]) -> list[Stretch]:
    """Who serves each minute from start to before end; neighbours differ.

    `visits`: data center -> start of a minute -> assigned visits of the experiment, for those minutes and for
    `return_after_ms` before them. None at all: completeness is not looked at.
    """
    if not visits or all(of_dc == visits[evidence.order[0]] for of_dc in visits.values()):
        return evidence.minutes(start_ms, end_ms)
    lookback = range(start_ms - _whole_minutes_ms(evidence.rules.return_after_ms), start_ms, MINUTE_MS)
    lacked_ms = {dc: -EVER_MS for dc in evidence.order}
    """Data center -> the last minute that it was less complete in."""
    for minute_ms in lookback:
        for dc in _lacking(evidence, minute_ms, visits):
            lacked_ms[dc] = minute_ms
    return list(merged(_minutes(evidence, range(start_ms, end_ms, MINUTE_MS), visits, lacked_ms)))


def _minutes(
    evidence: Evidence, starts_ms: range, visits: Mapping[str, Mapping[int, int]], lacked_ms: dict[str, int]
) -> Iterator[Stretch]:
    return_after_ms = _whole_minutes_ms(evidence.rules.return_after_ms)
    for start_ms in starts_ms:
        chosen = evidence.minute(start_ms)
        lacking = _lacking(evidence, start_ms, visits)
        for dc in lacking:
            lacked_ms[dc] = start_ms
        if chosen.dc in lacking:
            most = max(evidence.order, key=lambda dc: visits[dc].get(start_ms, 0))
            yield chosen._replace(dc=most, reason=ServingReason.LESS_COMPLETE)
        elif start_ms - lacked_ms[chosen.dc] < return_after_ms and (
            steady := [
                dc
                for dc in evidence.order
                if start_ms - lacked_ms[dc] >= return_after_ms and evidence.has_had_time(dc, chosen.end_ms)
            ]
        ):
            yield chosen._replace(dc=steady[0], reason=ServingReason.LESS_COMPLETE)
        else:
            yield chosen


def _lacking(evidence: Evidence, start_ms: int, visits: Mapping[str, Mapping[int, int]]) -> set[str]:
    """The data centers that are clearly less complete in a minute than the most complete one."""
    rules = evidence.rules
    most = max(visits[dc].get(start_ms, 0) for dc in evidence.order)
    allowed = max(rules.fewer_visits, rules.fewer_share * most)
    return {
        dc
        for dc in evidence.order
        if most - visits[dc].get(start_ms, 0) > allowed and evidence.has_had_time(dc, start_ms + MINUTE_MS)
    }


def sealed_until_ms(evidence: Evidence, served: Iterable[Stretch]) -> int:
    """Up to where nothing in these minutes can change any more: the first open one, or their end."""
    end_ms = 0
    for stretch in served:
        for end_ms in range(stretch.start_ms + MINUTE_MS, stretch.end_ms + 1, MINUTE_MS):
            if evidence.sealed_since_ms(stretch.dc, end_ms) is None:
                return end_ms - MINUTE_MS
    return end_ms


def merged(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """The same, with neighbours of one data center and reason put together."""
    held: Stretch | None = None
    for stretch in stretches:
        if held is not None and held[2:] == stretch[2:]:
            held = held._replace(end_ms=stretch.end_ms)
            continue
        if held is not None:
            yield held
        held = stretch
    if held is not None:
        yield held


def _whole_minutes_ms(duration_ms: int) -> int:
    return -(-duration_ms // MINUTE_MS) * MINUTE_MS


def _standing(reports: Sequence[Report]) -> list[int]:
    """For each report the smallest watermark from then on: what has been sealed since."""
    standing = [report.watermark_ms for report in reports]
    for at in range(len(standing) - 2, -1, -1):
        standing[at] = min(standing[at], standing[at + 1])
    return standing


def _flattened(spells: list[Spell]) -> list[Spell]:
    """Spells without overlaps; where two overlap, the one that began first goes on."""
    flat: list[Spell] = []
    for spell in sorted(spells):
        start_ms = max(spell.start_ms, flat[-1].end_ms) if flat else spell.start_ms
        if start_ms < spell.end_ms:
            flat.append(spell._replace(start_ms=start_ms))
    return flat
