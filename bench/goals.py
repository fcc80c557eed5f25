"""What is to be reached: for each goal its measure, what it must be and what it should be."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from bench.figures import Figures

Found: TypeAlias = Mapping[str, Figures]
"""The figures of a run, by the name of the benchmark."""


VISITS_MIN = 500_000
"""So many visits tell what each of them takes."""


class Goal(NamedTuple):
    """One goal; `row`: the benchmark that it is shown with; `measure` is asked only if all of `needs` were run."""

    row: str
    unit: str
    must: float
    aim: float
    measure: Callable[[Found], float]
    needs: tuple[str, ...] = ()
    at_least: bool = False

    def value(self, found: Found) -> float | None:
        """What it comes to in a run; None if what it needs was not run."""
        return self.measure(found) if all(name in found for name in (self.row, *self.needs)) else None

    def reaches(self, value: float, bound: float) -> bool:
        """Whether a value is as good as a bound."""
        return value >= bound if self.at_least else value <= bound


def _detail(row: str, name: str, factor: float = 1.0) -> Callable[[Found], float]:
    return lambda found: found[row].details[name] * factor


def _bytes_per_visit(found: Found) -> float:
    """What each further visit takes: what a process has without any is left out.

    KeyError for a small population, of which what a process remembers, and does not forget, would be the larger part.
    """
    few, many = found["few visits"].details, found["many visits"].details
    if many["visits"] < VISITS_MIN:
        raise KeyError(VISITS_MIN)
    grown = many["bytes_per_visit"] * many["visits"] - few["bytes_per_visit"] * few["visits"]
    return grown / (many["visits"] - few["visits"])


GOALS = (
    Goal("core", "µs an event", 12, 6, lambda found: found["core"].cpu_us),
    Goal("job", "µs an event", 16, 9, lambda found: found["job"].cpu_us),
    Goal(
        "two processes",
        "x the wall speed of one",
        1.5,
        1.8,
        lambda found: found["job"].wall_s / found["two processes"].wall_s,
        ("job",),
        at_least=True,
    ),
    Goal(
        "many visits",
        "x the CPU with few visits",
        1.3,
        1.1,
        lambda found: found["many visits"].cpu_us / found["few visits"].cpu_us,
        ("few visits",),
    ),
    Goal("many visits", "bytes an idle visit", 600, 300, _bytes_per_visit, ("few visits",)),
    Goal("many visits", "s pause of a snapshot", 2.0, 0.7, _detail("many visits", "pause_s")),
    Goal("many visits", "s to the first read", 15.0, 5.0, _detail("many visits", "restart_s")),
    Goal("idle", "% of a core", 5.0, 2.0, _detail("idle", "percent_of_a_core")),
    Goal("sink", "points/s a core", 100_000, 200_000, _detail("sink", "points_per_cpu_s"), at_least=True),
    Goal("store", "points/s", 30_000, 100_000, _detail("store", "points_per_s"), at_least=True),
    Goal("store", "ms a query", 100, 30, _detail("store", "query_ms")),
    Goal("first paint", "s to the first paint", 1.0, 0.5, _detail("first paint", "paint_s")),
    Goal("verdicts", "s of CPU for 1,000 tests", 5.0, 2.0, _detail("verdicts", "cpu_s_of_1000")),
    Goal("latency", "s, 99th percentile", 3.0, 1.5, _detail("latency", "p99_s")),
)
