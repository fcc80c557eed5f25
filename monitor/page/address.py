"""The state of the page, read from its address. Pure.

All choices of a reader are in the query part, so that a link shows another reader the same. A choice that is not there
has its default; choices that do not exist are ignored, so that an old link still works.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Self, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

from monitor.serve.anytime import Intervals
from monitor.serve.models import Scope

E = TypeVar("E", bound=StrEnum)
TAG = "tag."
"""The prefix of the name of a tag: `tag.device=mobile`."""
ATTENTION = "attention"
"""The value of `only` for what needs attention; links of before have `issues`."""
QUERY_CHARACTERS_MAX = 4_096
"""A longer query part is not read."""


class Range(StrEnum):
    """The ranges up to the present that can be chosen."""

    PHASE = "phase"
    """Since the phase of the experiment began; the last 6 hours until that is known."""
    HOUR = "1h"
    SIX_HOURS = "6h"
    DAY = "24h"
    WEEK = "7d"

    @property
    def hours(self) -> int:
        """Its length; that of the phase until it is known."""
        return {"phase": 6, "1h": 1, "6h": 6, "24h": 24, "7d": 168}[self.value]

    @property
    def words(self) -> str:
        """Words to begin a sentence with."""
        return {
            "phase": "Since the phase began",
            "1h": "Last hour",
            "6h": "Last 6 hours",
            "24h": "Last 24 hours",
            "7d": "Last 7 days",
        }[self.value]


class By(StrEnum):
    """The time axis of charts."""

    MINUTE = "minute"
    HOUR = "hour"
    CUMULATIVE = "cumulative"


class Charted(StrEnum):
    """The values in the charts of metrics."""

    RATE = "rate"
    VISITS = "visits"


class View(NamedTuple):
    """The choices on an experiment's page."""

    last: Range = Range.PHASE
    start: str | None = None
    end: str | None = None
    scope: Scope = Scope.QUALIFIED
    by: By = By.MINUTE
    charted: Charted = Charted.RATE
    goal: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    dc: str | None = None
    intervals: Intervals = Intervals.ANYTIME

    @classmethod
    def read(cls, query: str) -> Self:
        """From the query part of an address, with or without its question mark."""
        pairs = _pairs(query)
        plain = dict(pairs)
        default = cls()
        return cls(
            last=_one_of(Range, plain.get("last"), default.last),
            start=plain.get("from"),
            end=plain.get("to"),
            scope=_one_of(Scope, plain.get("scope"), default.scope),
            by=_one_of(By, plain.get("by"), default.by),
            charted=_one_of(Charted, plain.get("show"), default.charted),
            goal=plain.get("goal"),
            tags=tuple(dict.fromkeys((key.removeprefix(TAG), value) for key, value in pairs if key.startswith(TAG))),
            dc=plain.get("dc"),
            intervals=_one_of(Intervals, plain.get("intervals"), default.intervals),
        )

    def query(self) -> str:
        """The query part, with its question mark; as short as it can be."""
        default = View()
        pairs = [
            ("last", None if self.last == default.last or self.start else self.last),
            ("from", self.start),
            ("to", self.end),
            ("scope", None if self.scope == default.scope else self.scope),
            ("by", None if self.by == default.by else self.by),
            ("show", None if self.charted == default.charted else self.charted),
            ("goal", self.goal),
            *((TAG + tag, value) for tag, value in self.tags),
            ("dc", self.dc),
            ("intervals", None if self.intervals == default.intervals else self.intervals),
        ]
        return "?" + urlencode([(key, str(value)) for key, value in pairs if value is not None])

    def setting(self, *keys: str) -> str:
        """The values of these keys as a query part; empty is the default.

        A link that changes them carries it beside its whole address: the reader may have followed another link that
        the page has not shown yet.
        """
        pairs = dict(_pairs(self.query()))
        return urlencode([(key, pairs.get(key, "")) for key in keys])

    def filter(self) -> dict[str, list[str]]:
        """Tag to the chosen values."""
        values: dict[str, list[str]] = {}
        for tag, value in self.tags:
            values.setdefault(tag, []).append(value)
        return values

    def toggled(self, tag: str, value: str) -> "View":
        """The view with a value of a tag added, or removed if it was chosen."""
        pair = tag, value
        tags = tuple(p for p in self.tags if p != pair) if pair in self.tags else (*self.tags, pair)
        return self._replace(tags=tags)

    def without(self, tag: str) -> "View":
        """The view without a filter on a tag."""
        return self._replace(tags=tuple(pair for pair in self.tags if pair[0] != tag))

    def known(
        self, tags: Mapping[str, Collection[str]], dcs: Collection[str], points: Collection[str]
    ) -> tuple["View", list[str]]:
        """The view without the tags, values, data centers and points that are not among these; what was left out."""
        unknown = [(tag, value) for tag, value in self.tags if value not in tags.get(tag, ())]
        left_out = [f"{tag} {value}" for tag, value in unknown]
        view = self._replace(tags=tuple(pair for pair in self.tags if pair not in unknown))
        if self.dc is not None and self.dc not in dcs:
            left_out.append(f"data center {self.dc}")
            view = view._replace(dc=None)
        if self.goal is not None and self.goal not in points:
            left_out.append(f"metric {self.goal}")
            view = view._replace(goal=None)
        return view, left_out


class Search(NamedTuple):
    """The choices on the overview."""

    text: str = ""
    only_attention: bool = False

    @classmethod
    def read(cls, query: str) -> Self:
        """From the query part of an address."""
        plain = dict(_pairs(query))
        return cls(plain.get("q", ""), plain.get("only") in (ATTENTION, "issues"))

    def query(self) -> str:
        """The query part, with its question mark."""
        pairs = [("q", self.text), ("only", ATTENTION if self.only_attention else "")]
        return "?" + urlencode([pair for pair in pairs if pair[1]])

    def finds(self, tenant: str, experiment: str, *more: str) -> bool:
        """True if every word of the text occurs in these names."""
        names = " ".join([tenant, experiment, *more]).lower()
        return all(word in names for word in self.text.lower().split())


def of_experiment(tenant: str, experiment: str, view: View | None = None) -> str:
    """The address of an experiment's page."""
    query = view.query() if view else ""
    return f"/experiments/{quote(tenant)}/{quote(experiment)}{'' if query == '?' else query}"


def queried(number: Mapping[str, str | None], start: datetime, end: datetime, view: View) -> str:
    """The query part of the address that shows the KairosDB queries behind one number."""
    pairs = [(key, str(value)) for key, value in number.items() if value is not None]
    pairs += [("from", f"{start:%Y-%m-%dT%H:%MZ}"), ("to", f"{end:%Y-%m-%dT%H:%MZ}")]
    pairs += [(TAG + tag, value) for tag, value in view.tags]
    pairs += [("dc", view.dc)] if view.dc else []
    return "?" + urlencode(pairs)


def api(path: str, parameters: Mapping[str, str | list[str] | None]) -> str:
    """The address of an answer as JSON."""
    given = {key: value for key, value in parameters.items() if value}
    return f"/api/{path}" + (f"?{urlencode(given, doseq=True)}" if given else "")


def _pairs(query: str) -> list[tuple[str, str]]:
    if len(query) > QUERY_CHARACTERS_MAX:
        return []
    return parse_qsl(query.removeprefix("?"))


def _one_of(kind: type[E], text: str | None, default: E) -> E:
    return kind(text) if text in set(kind) else default
