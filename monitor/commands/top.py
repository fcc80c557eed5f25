"""`monitor top`: verdicts, the job and the busiest experiments in the terminal, from the query service's API."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, NamedTuple, TypeVar
from urllib.parse import quote

import requests
import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from monitor.commands.verdict_table import verdict_table
from monitor.runtime.errors import MonitorError
from monitor.serve.health_models import DcHealth, HealthAnswer
from monitor.serve.models import ExperimentAnswer, ExperimentsAnswer, ExperimentState, TenantsAnswer, VariationResult
from monitor.serve.verdict_models import TenantVerdictsAnswer, VerdictsAnswer

EXPERIMENTS_SHOWN = 6
MANY_VISITS = 20
"""With so many visits in one variation and none in another, the latter is shown as missing."""
TIMEOUT_S = 15.0
REFRESH_S = 2.0
PLAIN_EVERY_S = 10.0
"""How often the view is printed where there is no terminal."""
VERDICTS_EVERY_S = 60.0
"""Verdicts change when a minute becomes final."""

M = TypeVar("M", bound=BaseModel)


class TopError(MonitorError):
    """The query service does not answer as it should; the message says where, and what came."""


class ExperimentNow(NamedTuple):
    """One experiment over 24 hours, and the point whose rate is its conversion; visits just assigned, by variation."""

    answer: ExperimentAnswer
    point: str
    recent: dict[str, int]


class Now(NamedTuple):
    """Everything that the view shows."""

    health: HealthAnswer
    experiments: list[ExperimentNow]


def top(
    url: Annotated[str, typer.Option(help="The address of `monitor serve`.")] = "http://127.0.0.1:8090",
    once: Annotated[bool, typer.Option("--once", help="Show it once and exit.")] = False,
) -> None:
    """It needs a running `monitor serve`. Ctrl-C ends it."""
    try:
        if once:
            Console().print(view(look(url), look_at_verdicts(url)))
        else:
            watch(url)
    except KeyboardInterrupt:
        pass  # the only way to end it


def watch(url: str, check: Callable[[], None] = lambda: None, notice: str = "") -> None:
    """Shows the view until it is interrupted, or `check`, which is called before each look, raises.

    `notice` stands below it. On a terminal it fills the screen; elsewhere it is printed every PLAIN_EVERY_S.
    """
    console = Console()
    printed_s = float("-inf")
    with (
        _verdicts_in_background(url) as verdicts,
        Live(console=console, auto_refresh=False, screen=console.is_terminal) as screen,
    ):
        while True:
            check()
            current = Group(_view_or_error(url, verdicts()), Text(notice))
            if console.is_terminal:
                screen.update(current, refresh=True)
            elif time.monotonic() - printed_s >= PLAIN_EVERY_S:
                console.print(current)
                printed_s = time.monotonic()
            time.sleep(REFRESH_S)


def look(url: str) -> Now:
    """Asks the query service; raises TopError if it does not answer."""
    with requests.Session() as session:
        health = _get(session, url, "health", HealthAnswer)
        if not health.store.reachable:
            return Now(health, [])
        tenants = _get(session, url, "tenants", TenantsAnswer).tenants
        states = [
            (tenant, state)
            for tenant in tenants
            for state in _get(
                session, url, f"tenants/{quote(tenant.tenant)}/experiments", ExperimentsAnswer
            ).experiments
        ]
        busiest = sorted(states, key=_busy, reverse=True)[:EXPERIMENTS_SHOWN]
        return Now(
            health,
            [
                ExperimentNow(
                    _get(
                        session,
                        url,
                        f"tenants/{quote(tenant.tenant)}/experiments/{quote(state.experiment)}",
                        ExperimentAnswer,
                    ),
                    conversion_point(list(tenant.points)),
                    _recent(state),
                )
                for tenant, state in busiest
            ],
        )


def look_at_verdicts(url: str) -> list[VerdictsAnswer]:
    """The verdicts of all experiments; none while the service's store does not answer. Raises TopError."""
    with requests.Session() as session:
        if not _get(session, url, "health", HealthAnswer).store.reachable:
            return []
        tenants = _get(session, url, "tenants", TenantsAnswer).tenants
        return [
            verdict
            for tenant in tenants
            for verdict in _get(
                session, url, f"tenants/{quote(tenant.tenant)}/verdicts", TenantVerdictsAnswer
            ).experiments
        ]


@contextmanager
def _verdicts_in_background(url: str) -> Iterator[Callable[[], list[VerdictsAnswer] | None]]:
    """The last verdicts, None before the first, asked for by a thread: many experiments take a while."""
    latest: list[list[VerdictsAnswer] | None] = [None]
    ending = threading.Event()

    def run() -> None:
        while not ending.is_set():
            try:
                latest[0], wait_s = look_at_verdicts(url), VERDICTS_EVERY_S
            except TopError:
                latest[0], wait_s = None, REFRESH_S  # the view says that the service does not answer
            ending.wait(wait_s)

    thread = threading.Thread(target=run, name="top-verdicts", daemon=True)
    thread.start()
    try:
        yield lambda: latest[0]
    finally:
        ending.set()


def conversion_point(points: Sequence[str]) -> str:
    """The point whose rate is shown: `order` if there is one, else the last; empty if there are none."""
    return "order" if "order" in points else next(reversed(points), "")


def view(now: Now, verdicts: Sequence[VerdictsAnswer] | None = None) -> RenderableType:
    """The view as tables; of verdicts, if there are any yet, the worst first."""
    serving = next((dc for dc in now.health.dcs if dc.is_serving), None)
    delay_s = None if serving is None else serving.watermark_age_s
    delay = "not known yet" if delay_s is None else f"{delay_s:,.0f} s behind"
    clock = time.strftime("%H:%M:%S UTC", time.gmtime())
    title = Text.assemble(("AB Monitor", "bold"), f"   dc {now.health.serving_dc}   {clock}   watermark {delay}")
    advice = [Text(text, style="yellow") for text in now.health.advice]
    tenants = [] if serving is None else [_tenant_table(serving)]
    judged = [verdict_table(verdicts)] if verdicts else []
    return Group(title, *advice, *judged, *tenants, _experiment_table(now.experiments))


def _view_or_error(url: str, verdicts: Sequence[VerdictsAnswer] | None) -> RenderableType:
    try:
        return view(look(url), verdicts)
    except TopError as error:
        return Text(str(error), style="yellow")


def _get(session: requests.Session, url: str, path: str, model: type[M]) -> M:
    address = f"{url.rstrip('/')}/api/{path}"
    try:
        answer = session.get(address, timeout=TIMEOUT_S)
        answer.raise_for_status()
        return model.model_validate_json(answer.content)
    except (requests.RequestException, ValidationError) as error:
        message = f"is `monitor serve` running at {url}? GET {address}: {_reason(error)}"
        raise TopError(message) from error


def _reason(error: requests.RequestException | ValidationError) -> str:
    """A failed request in a few words; the library's own message repeats the address and names its classes."""
    match error:
        case requests.HTTPError(response=requests.Response() as response):
            return f"answered with status {response.status_code}"
        case requests.Timeout():
            return f"no answer in {TIMEOUT_S:.0f} s"
        case requests.ConnectionError():
            return "no connection"
        case ValidationError():
            return "the answer is not that of a query service of this version"
        case _:
            return str(error)


def _busy(pair: tuple[object, ExperimentState]) -> tuple[int, int]:
    """Visits just assigned; where none are, those of 24 hours."""
    return sum(_recent(pair[1]).values()), pair[1].assigned


def _recent(state: ExperimentState) -> dict[str, int]:
    """Visits assigned in the last quarter of an hour, by variation."""
    return {variation: sum(visits) for variation, visits in state.assigned_recent.items()}


def _tenant_table(dc: DcHealth) -> Table:
    table = Table(title="Tenants (events/s over 5 min, rejects over 1 h)", title_justify="left")
    # on a narrow terminal the reasons wrap, so that nobody has to guess a tenant or a number that is cut
    table.add_column("tenant", no_wrap=True)
    table.add_column("events/s", justify="right", no_wrap=True)
    table.add_column("rejected", justify="right", no_wrap=True)
    table.add_column("reasons", overflow="fold")
    rejected: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for count in dc.rejected:
        rejected[count.tenant][count.reason] += count.messages
    pace: Mapping[str, float] = {flow.tenant: flow.events_per_s for flow in dc.tenants}
    for name in [*pace, *(name for name in rejected if name not in pace)]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in rejected[name].most_common(4))
        table.add_row(name, f"{pace.get(name, 0.0):,.1f}", f"{rejected[name].total():,}", reasons)
    return table


def _experiment_table(experiments: Sequence[ExperimentNow]) -> Table:
    table = Table(title="Busiest experiments (visits of the last 15 min; the rest over 24 h)", title_justify="left")
    for column in ("tenant", "experiment", "variation"):
        table.add_column(column, overflow="fold")
    for column in ("15 min", "assigned", "qualified", "conversion"):
        table.add_column(column, justify="right", no_wrap=True)
    for answer, point, recent in experiments:
        names = answer.tenant, answer.experiment
        for variation in answer.variations:
            conversion = f"{_rate(variation, point)} {point}".strip()
            now = _now(variation.variation, recent)
            visits = f"{variation.assigned:,}", f"{variation.qualified:,}"
            table.add_row(*names, variation.variation, now, *visits, conversion)
            names = "", ""
        table.add_section()
    return table


def _now(variation: str, recent: Mapping[str, int]) -> Text:
    """The visits just assigned; red where a variation has none, though another one has many."""
    visits = recent.get(variation, 0)
    is_missing = visits == 0 and max(recent.values(), default=0) >= MANY_VISITS
    return Text(f"{visits:,}", style="red" if is_missing else "")


def _rate(variation: VariationResult, point: str) -> str:
    rate = next((result.rate for result in variation.points if result.point == point), None)
    return "-" if rate is None else f"{rate.value:.2%}"
