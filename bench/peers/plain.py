"""The work in plain Python: one process, no framework, from a file.

It knows the whole log, so it has it easier than any job on a stream: events are gathered by visit first and counted
once, in order; nothing is ever corrected, forgotten or saved. It is written for speed all the same: attributes become a
*signature* that is judged once, counters lie in lists.

    python -m bench.peers.plain LOG
"""

import gc
import hashlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec
import typer

from bench import load
from bench.figures import Figures, Meter, details_of, most_memory_bytes, report
from bench.totals import Key, Totals, digest
from tests.support.oracle import Event as Plain
from tests.support.oracle import holds, listed, setting, tags_of, value_of

PARTS = ("", ".beta", ".sum", ".sumsq")
NEVER = float("inf")


class Wire(msgspec.Struct, gc=False):
    """An event as it is on the wire."""

    tenant: str
    sessionId: str
    time: int
    event: str
    eventId: str | None = None
    assignments: msgspec.Raw = msgspec.Raw(b"null")
    attributes: dict[str, Any] | None = None


class Symbol(NamedTuple):
    """What an event comes to for one tenant: points that it matches, predicates of rules that it meets, its tags."""

    points: tuple[int, ...]
    met: tuple[int, ...]
    tags: str
    compiled: bool


Arms: TypeAlias = tuple[tuple[int, int], ...]
"""(experiment, variation), by number; variations are numbered through."""
Kept: TypeAlias = tuple[int, str, Symbol, Arms, tuple[int, ...], bool]
"""Time, id, symbol, arms, value of each value point, whether it is tardy: an accepted event."""
Place: TypeAlias = dict[int, list[int]]
"""Variation -> counters of both scopes, and crossed and tardy as the last; of one minute and combination of tags."""
Counter: TypeAlias = tuple[int, str, int, int]
"""Minute, tags, variation, and which of its counters."""
Counting: TypeAlias = tuple[int, tuple[int, ...], Place, tuple[int, ...]]
"""Time, points, place, values: an event that counts."""


class Tenant:
    """A tenant's definitions, compiled from the configuration's tables."""

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        self._config, self._tables = config, config["tenants"][name]
        self.name = name
        self.points = list(self._tables["points"].items())
        self.nths = {i: point["nth"] for i, (_, point) in enumerate(self.points) if "nth" in point}
        self.values = [(i, point["value"]) for i, (_, point) in enumerate(self.points) if "value" in point]
        self.value_at = {i: position for position, (i, _) in enumerate(self.values)}
        self.predicates: list[Mapping[str, Any]] = []
        experiments = self._tables["experiments"]
        self._numbers = {name: number for number, name in enumerate(experiments)}
        self.arms = [(name, variation) for name, table in experiments.items() for variation in table["variations"]]
        self.rules = [self._rule(table["qualified_when"]) for table in experiments.values()]
        self.width = 1 + len(PARTS) * len(self.points)
        wanted = [pair for found in (*self._tables["points"].values(), *self.predicates) for pair in _where(found)]
        tags = [t["attribute"] if isinstance(t, Mapping) else tag for tag, t in self._tables["tags"].items()]
        compared = {name for name, condition in wanted if isinstance(condition, Mapping)} - {*tags}
        self._names = tuple(dict.fromkeys([*tags, *[name for name, _ in wanted if name not in compared]]))
        self._compared = [(name, [c for of, c in wanted if of == name]) for name in sorted(compared)]
        self._symbols: dict[tuple[Any, ...], Symbol] = {}
        self._carried: dict[bytes, Arms] = {}
        self.places: dict[tuple[int, str], Place] = {}

    def keep(self, event: Wire, event_id: str, is_tardy: bool) -> Kept:
        """An event as it is kept until all of its visit are known."""
        attributes = event.attributes or {}
        signature = (event.event, *map(attributes.get, self._names))
        for name, conditions in self._compared:  # each price would be a signature of its own
            if name in attributes:
                signature += (name, *[holds(condition, attributes[name]) for condition in conditions])
        symbol = self._symbols.get(signature)
        if symbol is None:
            symbol = self._symbols[signature] = self._judge(event, attributes)
        raw = bytes(event.assignments)
        arms = self._carried.get(raw)
        if arms is None:
            arms = self._carried[raw] = self._read_arms(raw)
        values: tuple[int, ...] = ()
        if symbol.compiled:
            plain = Plain(self.name, event.sessionId, event.time, event_id, event.event, {}, attributes)
            values = tuple(value_of(value, plain) or 0 for _, value in self.values)
        return event.time, event_id, symbol, arms, values, is_tardy

    def count(self, visit: Sequence[Kept]) -> None:
        """Adds what a visit, in order, contributes."""
        assigned, crossed = _assignments(visit)
        if not assigned:
            return
        firsts, counting = self._counting(visit)
        for experiment, (since, arm) in assigned.items():
            self._open(visit, since, arm, 0)
            self._count_scope(counting, since, arm, 0)
            qualified = max(since, self.rules[experiment](firsts))
            if qualified != NEVER:
                self._open(visit, qualified, arm, self.width)
                self._count_scope(counting, qualified, arm, self.width)
        for experiment, (time, tags) in crossed.items():
            self._cell(self._place(time, tags), assigned[experiment][1])[2 * self.width] += 1
        if tardy := [(time, symbol.tags) for time, _, symbol, _, _, is_tardy in visit if is_tardy]:
            for since, arm in assigned.values():
                first = next((event for event in tardy if event[0] >= since), None)
                if first is not None:
                    self._cell(self._place(*first), arm)[2 * self.width + 1] += 1

    def _open(self, visit: Sequence[Kept], begin: float, arm: int, scope: int) -> None:
        """Counts the visit itself, at its first event from `begin` on."""
        time, _, symbol, *_ = visit[bisect_left(visit, (begin,))]
        self._cell(self._place(time, symbol.tags), arm)[scope] += 1

    def _count_scope(self, counting: Sequence[Counting], begin: float, arm: int, scope: int) -> None:
        """Counts the points of the events from `begin` on."""
        sums: dict[int, int] = {}
        seen, value_at, new = 0, self.value_at, 2 * self.width + 2
        for time, points, place, values in counting:
            if time < begin:
                continue
            cell = place.get(arm)
            if cell is None:
                cell = place[arm] = [0] * new
            for point in points:
                at = scope + 1 + 4 * point
                cell[at] += 1
                if not seen >> point & 1:
                    seen |= 1 << point
                    cell[at + 1] += 1
                if point in value_at:
                    x, s = values[value_at[point]], sums.get(point, 0)
                    cell[at + 2] += x
                    cell[at + 3] += x * (2 * s + x)
                    sums[point] = s + x

    def _counting(self, visit: Sequence[Kept]) -> tuple[dict[int, float], list[Counting]]:
        """When each predicate (i) and point (~i) was first met, and the events that count, `nth` applied."""
        firsts: dict[int, float] = {}
        counts = dict.fromkeys(self.nths, 0)
        counting: list[Counting] = []
        for time, _, symbol, _, values, _ in visit:
            for met in symbol.met:
                firsts.setdefault(met, time)
            points = symbol.points
            for i, nth in self.nths.items():
                if i in points:
                    counts[i] += 1
                    if counts[i] != nth:
                        points = tuple([p for p in points if p != i])
            if points:
                for point in points:
                    firsts.setdefault(~point, time)
                counting.append((time, points, self._place(time, symbol.tags), values))
        return firsts, counting

    def _place(self, time: int, tags: str) -> Place:
        key = time // 60_000, tags
        place = self.places.get(key)
        if place is None:
            place = self.places[key] = {}
        return place

    def _cell(self, place: Place, arm: int) -> list[int]:
        cell = place.get(arm)
        if cell is None:
            cell = place[arm] = [0] * (2 * self.width + 2)
        return cell

    def counters(self) -> dict[Counter, int]:
        """All counters that are not 0."""
        return {
            (minute, tags, arm, i): value
            for (minute, tags), place in self.places.items()
            for arm, cell in place.items()
            for i, value in enumerate(cell)
            if value
        }

    def key(self, counter: Counter) -> Key:
        """The total that a counter is."""
        minute, tags, arm, i = counter
        experiment, variation = self.arms[arm]
        text = "|".join(sorted([f"experiment={experiment}", *(tags.split("|") if tags else ())]))
        return f"{self.name}.visit.{self._what(i, variation)}", minute, text

    def _what(self, i: int, arm: str) -> str:
        if i >= 2 * self.width:
            return f"{('crossed', 'tardy')[i - 2 * self.width]}.{arm}.beta"
        scope, rest = ("assigned", i) if i < self.width else ("fm", i - self.width)
        if rest == 0:
            return f"{scope}.{arm}.beta"
        point, part = divmod(rest - 1, len(PARTS))
        return f"{scope}.{arm}.{self.points[point][0]}{PARTS[part]}"

    def _judge(self, event: Wire, attributes: Mapping[str, Any]) -> Symbol:
        def meets(predicate: Mapping[str, Any]) -> bool:
            if "event" in predicate and event.event not in listed(predicate["event"]):
                return False
            return all(holds(wanted, attributes.get(name)) for name, wanted in predicate.get("where", {}).items())

        points = tuple(i for i, (_, point) in enumerate(self.points) if meets(point))
        met = tuple(i for i, predicate in enumerate(self.predicates) if meets(predicate))
        plain = Plain(self.name, "", event.time, "", event.event, {}, dict(attributes))
        tags = "|".join(f"{k}={v}" for k, v in tags_of(self._config, "", plain) if k not in ("dc", "experiment"))
        return Symbol(points, met, tags, any(i in self.value_at for i in points))

    def _read_arms(self, raw: bytes) -> Arms:
        carried = (msgspec.json.decode(raw) or {}).items()
        return tuple((self._numbers[arm[0]], self.arms.index(arm)) for arm in carried if arm in self.arms)

    def _rule(self, rule: Mapping[str, Any]) -> Callable[[Mapping[int, float]], float]:
        """When a rule is met, from when each predicate (i) and point (~i) was first met."""
        if "all" in rule:
            parts = [self._rule(part) for part in rule["all"]]
            return lambda firsts: max(part(firsts) for part in parts)
        if "any" in rule:
            parts = [self._rule(part) for part in rule["any"]]
            return lambda firsts: min(part(firsts) for part in parts)
        if "point" in rule:
            number = ~[name for name, _ in self.points].index(rule["point"])
        else:
            number = len(self.predicates)
            self.predicates.append(rule)
        return lambda firsts: firsts.get(number, NEVER)


def _where(predicate: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    where: Mapping[str, Any] = predicate.get("where", {})
    return where.items()


def _assignments(visit: Sequence[Kept]) -> tuple[dict[int, tuple[int, int]], dict[int, tuple[int, str]]]:
    """Experiment -> (since, variation), and of those that crossed (time, tags)."""
    assigned: dict[int, tuple[int, int]] = {}
    crossed: dict[int, tuple[int, str]] = {}
    before: Arms = ()
    for time, _, symbol, arms, *_ in visit:
        if arms is before:
            continue
        before = arms
        for experiment, variation in arms:
            known = assigned.setdefault(experiment, (time, variation))
            if known[1] != variation and experiment not in crossed:
                crossed[experiment] = time, symbol.tags
    return assigned, crossed


class Gathered:
    """Events by session, accepted as far as a single event tells; duplicates and visits are found at the end."""

    def __init__(self, config: load.Config) -> None:
        self.tenants = {name: Tenant(config, name) for name in config["tenants"]}
        self._sessions: defaultdict[tuple[str, str], list[Kept]] = defaultdict(list)
        self._decode = msgspec.json.Decoder(Wire).decode
        self._late_ms = 1_000 * setting(config, "time", "allowed_lateness_s")
        self._future_ms = -1_000 * setting(config, "time", "future_tolerance_s")
        self._gap_ms = 1_000 * setting(config, "time", "session_gap_s")
        self._tardy_ms = 1_000 * setting(config, "time", "tardy_s")

    def accept(self, value: bytes, at_ms: int) -> tuple[str, str, Kept] | None:
        """Tenant, sessionId and event of a message; None if it comes too late or too early."""
        event = self._decode(value)
        if not self._future_ms <= at_ms - event.time <= self._late_ms:
            return None
        own_id = event.eventId or "~" + hashlib.blake2b(value, digest_size=8).hexdigest()
        kept = self.tenants[event.tenant].keep(event, own_id, at_ms - event.time > self._tardy_ms)
        return event.tenant, event.sessionId, kept

    def take(self, messages: Iterable[load.Message]) -> None:
        """Takes in messages."""
        sessions, accept = self._sessions, self.accept
        for _, value, at_ms in messages:
            accepted = accept(value, at_ms)
            if accepted is not None:
                sessions[accepted[0], accepted[1]].append(accepted[2])

    def totals(self) -> Totals:
        """Counts all visits."""
        for (tenant, _), events in self._sessions.items():
            self.count(tenant, events)
        found: Totals = {}
        for compiled in self.tenants.values():
            found |= {compiled.key(counter): value for counter, value in compiled.counters().items()}
        return found

    def contributions(self, tenant: str, events: Sequence[Kept]) -> dict[Counter, int]:
        """What one session contributes; forgets what was counted before."""
        compiled = self.tenants[tenant]
        compiled.places.clear()
        self.count(tenant, events)
        return compiled.counters()

    def count(self, tenant: str, events: Sequence[Kept]) -> None:
        """Counts a session: its visits, each in order and without repeats."""
        ordered, compiled = sorted(events, key=_order), self.tenants[tenant]
        visit, ids = [ordered[0]], {ordered[0][1]}
        for event in ordered[1:]:
            if event[0] - visit[-1][0] > self._gap_ms:
                compiled.count(visit)
                visit, ids = [], set()
            if event[1] not in ids:
                ids.add(event[1])
                visit.append(event)
        compiled.count(visit)


def _order(event: Kept) -> tuple[int, str]:
    return event[0], event[1]


def measure(path: Path) -> Figures:
    """Does the work; reading the file counts, as reading Kafka does elsewhere."""
    read, work = Meter(), Meter()
    with read.running():
        messages = sum(1 for _ in load.read(path))
    gc.disable()  # nothing here is a cycle
    with work.running():
        gathered = Gathered(load.config())
        gathered.take(load.read(path))
        found = gathered.totals()
    details = details_of(read_us=1e6 * read.cpu_s / messages)
    return Figures("plain Python", messages, work.cpu_s, work.wall_s, most_memory_bytes(), digest(found), details)


def main(log: Annotated[Path, typer.Argument(help="The log, from `python -m bench.load --write LOG`.")]) -> None:
    """Measures plain Python and prints its figures as JSON."""
    report(measure(log))


if __name__ == "__main__":
    typer.run(main)
