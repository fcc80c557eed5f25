"""The choice of the data center for each minute: the preferred one while it is healthy, otherwise another. Pure.

The choice follows from the content of the store alone, so two processes, or one after a restart, choose the same:

* **Health.** Each data center reports its watermark with every flush: the heartbeat. A data center is *stale* from
  `stale_after_ms` after a report until the next one, *missing* before its first, and *behind* while its watermark is
  more than `behind_ms` below another's. Afterwards it is *recovering* for `return_after_ms`; this hysteresis prevents
  flapping.
* **The active data center of a moment.** The first in order of preference that is healthy; otherwise the first that is
  recovering; otherwise the one with the highest watermark. One that is recovering and active stays active.
* **The data center of a minute.** At first the active one, until the minute is final there; from then on that one,
  whatever happens to it. It loses the minute only if its watermark falls back below it: its job has then lost its
  state, reads the topic again, and writes the minute again.
* **Completeness.** If the chosen data center has clearly fewer assigned visits of the experiment than another, although
  it had the time to count them, the most complete one serves the minute, and continues to for `return_after_ms`.
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
    """From start to before end: the data center, and the reason."""

    start_ms: int
    end_ms: int
    dc: str
    reason: ServingReason


class Evidence:
    """The reports of all data centers up to a moment, and the choices that follow from them.

    `reports` are in order of time: those since `lookback_ms` before the first moment of interest, and the last one
    before that.
    """

    def __init__(
        self, order: Sequence[str], reports: Mapping[str, Sequence[Report]], now_ms: int, rules: Rules
    ) -> None:
        self.order = tuple(order)
        self.now_ms = now_ms
        self.rules = rules
        self._reports = {dc: [report for report in reports.get(dc, ()) if report.at_ms <= now_ms] for dc in order}
        self._times = {dc: [report.at_ms for report in of_dc] for dc, of_dc in self._reports.items()}
        self._standing = {dc: _standing(of_dc) for dc, of_dc in self._reports.items()}
        delays = self._delays()
        self._spells = {dc: _flattened([*self._silences(dc), *delays[dc]]) for dc in order}
        self._ranges: dict[tuple[int, int], list[Stretch]] = {}
        self._minutes: dict[int, Stretch] = {}
        self.moments = list(self._moments())
        """The active data centers up to now, in order of time; the last stretch is open-ended."""
        self._starts = [stretch.start_ms for stretch in self.moments]

    def present(self) -> Stretch:
        """The active data center."""
        return self.moments[-1]

    def last(self, dc: str) -> Report | None:
        """The last report of a data center."""
        return self._reports[dc][-1] if self._reports[dc] else None

    def lowest_ms(self, since_ms: int) -> int:
        """The lowest watermark that any data center has reported since a moment."""
        since = {dc: bisect_left(times, since_ms) for dc, times in self._times.items()}
        return min((r.watermark_ms for dc, of_dc in self._reports.items() for r in of_dc[since[dc] :]), default=EVER_MS)

    def state(self, dc: str, at_ms: int) -> DcState:
        """The state of a data center at a moment."""
        spells = self._spells[dc]
        before = bisect_right(spells, at_ms, key=lambda spell: spell.start_ms)
        if not before:
            return DcState.HEALTHY
        spell = spells[before - 1]
        if at_ms < spell.end_ms:
            return spell.state
        return DcState.RECOVERING if at_ms < spell.end_ms + self.rules.return_after_ms else DcState.HEALTHY

    def final_since_ms(self, dc: str, end_ms: int) -> int | None:
        """The moment since which minutes that end by `end_ms` are final in a data center; None: they are not."""
        at = bisect_left(self._standing[dc], end_ms)
        return self._times[dc][at] if at < len(self._times[dc]) else None

    def minute(self, start_ms: int) -> Stretch:
        """The data center of a minute, by health alone."""
        stretch = self._minutes.get(start_ms)
        if stretch is None:
            stretch = self._minutes[start_ms] = self._minute(start_ms)
        return stretch

    def _minute(self, start_ms: int) -> Stretch:
        end_ms = start_ms + MINUTE_MS
        for stretch in self.moments[max(0, bisect_right(self._starts, end_ms) - 1) :]:
            final_ms = self.final_since_ms(stretch.dc, end_ms)
            if final_ms is not None and max(final_ms, stretch.start_ms) < stretch.end_ms:
                return Stretch(start_ms, end_ms, stretch.dc, stretch.reason)
        return Stretch(start_ms, end_ms, self.present().dc, self.present().reason)

    def minutes(self, start_ms: int, end_ms: int) -> list[Stretch]:
        """The data center of each minute of a range, by health alone; neighbours differ."""
        if (start_ms, end_ms) not in self._ranges:
            starts_ms = range(start_ms, end_ms, MINUTE_MS) if len(self.moments) > 1 else ()
            self._ranges[start_ms, end_ms] = list(merged(self.minute(minute_ms) for minute_ms in starts_ms)) or [
                self.present()._replace(start_ms=start_ms, end_ms=end_ms)
            ]
        return self._ranges[start_ms, end_ms]

    def has_had_time(self, dc: str, end_ms: int) -> bool:
        """True if a data center should have counted the minute that ends then: the minute is final, or long past.

        Long past: `stale_after_ms`, and the time that this data center is behind another, have passed since its end.
        """
        last = self.last(dc)
        if last is None:
            return False
        highest_ms = max(of_dc[-1].watermark_ms for of_dc in self._reports.values() if of_dc)
        settled_ms = end_ms + self.rules.stale_after_ms + highest_ms - last.watermark_ms
        return settled_ms <= last.at_ms or self.final_since_ms(dc, end_ms) is not None

    def _silences(self, dc: str) -> Iterator[Spell]:
        """The spells without a report in time."""
        times, after_ms = self._times[dc], self.rules.stale_after_ms
        yield Spell(-EVER_MS, times[0] if times else EVER_MS, DcState.MISSING)
        for at_ms, next_ms in pairwise([*times, EVER_MS] if times else []):
            if next_ms - at_ms > after_ms and at_ms + after_ms < self.now_ms:
                yield Spell(at_ms + after_ms, next_ms, DcState.STALE)

    def _delays(self) -> dict[str, list[Spell]]:
        """The spells in which a data center's watermark was too far below the highest of all."""
        in_order = merge(*([(*report, dc) for report in reports] for dc, reports in self._reports.items()))
        delays: dict[str, list[Spell]] = {dc: [] for dc in self.order}
        since_ms: dict[str, int] = {}
        watermarks_ms: dict[str, int] = {}
        behind_ms = self.rules.behind_ms
        for at_ms, watermark_ms, of_dc in in_order:
            watermarks_ms[of_dc] = watermark_ms
            enough_ms = max(watermarks_ms.values()) - behind_ms
            if not since_ms and min(watermarks_ms.values()) >= enough_ms:
                continue
            for dc, reached_ms in watermarks_ms.items():
                if reached_ms < enough_ms:
                    since_ms.setdefault(dc, at_ms)
                elif dc in since_ms:
                    delays[dc].append(Spell(since_ms.pop(dc), at_ms, DcState.BEHIND))
        for dc, from_ms in since_ms.items():
            delays[dc].append(Spell(from_ms, EVER_MS, DcState.BEHIND))
        return {dc: [spell for spell in spells if spell.start_ms < spell.end_ms] for dc, spells in delays.items()}

    def _moments(self) -> Iterator[Stretch]:
        """The active data centers over time, with the reason; neighbours differ."""
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
        """The active data center from a moment on, after `dc`."""
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
    """The time before the first moment of interest of which reports are needed."""
    return rules.return_after_ms + 2 * rules.stale_after_ms


def minutes(evidence: Evidence, start_ms: int, end_ms: int, visits: Mapping[str, Mapping[int, int]]) -> list[Stretch]:
    """The data center of each minute from start to before end; neighbours differ.

    `visits`: data center -> start of a minute -> assigned visits of the experiment, for those minutes and for
    `return_after_ms` before them. If empty, completeness is not compared.
    """
    if not visits or all(of_dc == visits[evidence.order[0]] for of_dc in visits.values()):
        return evidence.minutes(start_ms, end_ms)
    lookback = range(start_ms - _whole_minutes_ms(evidence.rules.return_after_ms), start_ms, MINUTE_MS)
    lacked_ms = {dc: -EVER_MS for dc in evidence.order}
    """Data center -> the last minute in which it was less complete."""
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


def final_until_ms(evidence: Evidence, served: Iterable[Stretch]) -> int:
    """The start of the first provisional one of these minutes, or their end."""
    end_ms = 0
    for stretch in served:
        for end_ms in range(stretch.start_ms + MINUTE_MS, stretch.end_ms + 1, MINUTE_MS):
            if evidence.final_since_ms(stretch.dc, end_ms) is None:
                return end_ms - MINUTE_MS
    return end_ms


def merged(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """The same stretches, with neighbours of one data center and reason joined."""
    joined: Stretch | None = None
    for stretch in stretches:
        if joined is not None and joined[2:] == stretch[2:]:
            joined = joined._replace(end_ms=stretch.end_ms)
            continue
        if joined is not None:
            yield joined
        joined = stretch
    if joined is not None:
        yield joined


def _whole_minutes_ms(duration_ms: int) -> int:
    return -(-duration_ms // MINUTE_MS) * MINUTE_MS


def _standing(reports: Sequence[Report]) -> list[int]:
    """For each report the smallest watermark from then on: minutes up to it have been final since."""
    standing = [report.watermark_ms for report in reports]
    for at in range(len(standing) - 2, -1, -1):
        standing[at] = min(standing[at], standing[at + 1])
    return standing


def _flattened(spells: list[Spell]) -> list[Spell]:
    """Spells without overlaps; of two that overlap, the one that began first continues."""
    flat: list[Spell] = []
    for spell in sorted(spells):
        start_ms = max(spell.start_ms, flat[-1].end_ms) if flat else spell.start_ms
        if start_ms < spell.end_ms:
            flat.append(spell._replace(start_ms=start_ms))
    return flat
