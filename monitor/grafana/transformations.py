"""Grafana's transformations, which follow the queries: names, and ratios of series.

KairosDB returns no series at all without data points. A ratio must then still be 0: a variation in which nobody buys
any more is what a monitor must show. So each side of a ratio is first summed over its existing series.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monitor.grafana.targets import Json

PLAIN: Json = {"id": "renameByRegex", "options": {"regex": r"^(.*?)\{.*\}$", "renamePattern": "$1"}}
"""Removes the tags that the plugin appends to a name."""
_JOINED: Json = {"id": "joinByField", "options": {"byField": "Time", "mode": "outer"}}
_TOTALS: Json = {"id": "reduce", "options": {"mode": "reduceFields", "reducers": ["sum"], "includeTimeField": False}}


class Ratio(NamedTuple):
    """`name` is the sum of the series `top` divided by the sum of the series `bottom`."""

    name: str
    top: tuple[str, ...]
    bottom: tuple[str, ...]


def by_tag(tag: str) -> list[Json]:
    """Renames series `VARIATION WHAT{...}` split by a tag to `VARIATION · VALUE WHAT`, and others to plain names."""
    regex = rf"^(\S+)(.*?)\{{(?:.*, )?{tag}=([^,}}]*).*\}}$"
    return [{"id": "renameByRegex", "options": {"regex": regex, "renamePattern": "$1 · $3$2"}}, PLAIN]


def added(names: Mapping[str, Sequence[str]], called: str, renamed: Sequence[Json] = (PLAIN,)) -> list[Json]:
    """Each name as the sum of its series, which are named by the names that it stands for and `called`."""
    sums = [_row_sum(name, tuple(f"{one} {called}" for one in of)) for name, of in names.items()]
    return [*renamed, _JOINED, *sums, _only(["Time", *names])]


def in_total(ratios: Sequence[Ratio], renamed: Sequence[Json] = (PLAIN,)) -> list[Json]:
    """Each ratio over the whole range, as one row."""
    steps = [*renamed, _JOINED, _TOTALS]
    for ratio in ratios:
        steps += [*_sides(ratio), _divided(ratio.name, _top(ratio), _bottom(ratio))]
    return [*steps, _only([ratio.name for ratio in ratios])]


def so_far(ratios: Sequence[Ratio]) -> list[Json]:
    """Each ratio from the beginning of the range up to each moment."""
    steps = [PLAIN, _JOINED]
    for ratio in ratios:
        top, bottom = f"{_top(ratio)} so far", f"{_bottom(ratio)} so far"
        steps += [*_sides(ratio), _running(_top(ratio), top), _running(_bottom(ratio), bottom)]
        steps.append(_divided(ratio.name, top, bottom))
    return [*steps, _only(["Time", *(ratio.name for ratio in ratios)])]


def by_interval(ratios: Sequence[Ratio]) -> list[Json]:
    """Each ratio within each interval."""
    steps = [PLAIN, _JOINED]
    for ratio in ratios:
        steps += [*_sides(ratio), _divided(ratio.name, _top(ratio), _bottom(ratio))]
    return [*steps, _only(["Time", *(ratio.name for ratio in ratios)])]


def age_of(series: str, name: str) -> list[Json]:
    """The time of each point less its value, a time in milliseconds."""
    return [PLAIN, _binary(name, "Time", "-", series), _only(["Time", name])]


def joined() -> list[Json]:
    """All series in one table, with one column of times."""
    return [PLAIN, _JOINED]


def _sides(ratio: Ratio) -> list[Json]:
    return [_row_sum(_top(ratio), ratio.top), _row_sum(_bottom(ratio), ratio.bottom)]


def _top(ratio: Ratio) -> str:
    return f"{ratio.name} above"


def _bottom(ratio: Ratio) -> str:
    return f"{ratio.name} below"


def _row_sum(name: str, series: tuple[str, ...]) -> Json:
    reduce = {"reducer": "sum", "include": list(series)}
    return {"id": "calculateField", "options": {"mode": "reduceRow", "reduce": reduce, "alias": name}}


def _running(series: str, name: str) -> Json:
    cumulative = {"field": series, "reducer": "sum"}
    return {
        "id": "calculateField",
        "options": {"mode": "cumulativeFunctions", "cumulative": cumulative, "alias": name},
    }


def _divided(name: str, top: str, bottom: str) -> Json:
    return _binary(name, top, "/", bottom)


def _binary(name: str, left: str, operator: str, right: str) -> Json:
    binary = {"left": left, "operator": operator, "right": right}
    return {"id": "calculateField", "options": {"mode": "binary", "binary": binary, "alias": name}}


def _only(names: list[str]) -> Json:
    return {"id": "filterFieldsByName", "options": {"include": {"names": names}}}
