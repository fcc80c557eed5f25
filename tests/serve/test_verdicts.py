"""The verdicts of experiments from a store: phases, what is counted of them, and the answer."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from monitor import devstore
from monitor.config.reader import parse
from monitor.config.settings import ExperimentTable
from monitor.serve.phase_counts import SLICES_MAX, slices
from monitor.serve.phases import running_phase
from monitor.verdicts.judge import State
from tests.support.served import HOUR_MS, MINUTE_MS, Client
from tests.support.verdict_case import CONFIG, NOW_MS, begins_ms, broken_ms, config_with, fill, serving

BEGINS_MS, BROKEN_MS = begins_ms(), broken_ms()
PATH = "/api/tenants/t/experiments"


@pytest.fixture(scope="module", params=["embedded", "real"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The API over each of the stores, filled by two mirrors."""
    with ExitStack() as stack:
        if request.param == "real":
            url = str(request.getfixturevalue("real_kairosdb"))
        else:
            file = tmp_path_factory.mktemp("verdicts") / "store.sqlite3"
            url = stack.enter_context(devstore.running(file))
        fill(url)
        yield stack.enter_context(serving(url))


def checks_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {check["check"]: check for check in answer["checks"]}


def test_what_is_wrong_is_found_where_and_since_when(client: Client) -> None:
    """Only in final minutes, each from one data center, with what is stored under an alias; the worst first."""
    answer = client.ask(f"{PATH}/checkout/verdicts").json()
    assert answer["state"] == "stop"
    worst, *others = answer["checks"]
    assert (worst["check"], worst["place"]) == ("guardrail order on", {"device": "mobile"})
    assert worst["since"] == f"{datetime.fromtimestamp(BROKEN_MS / 1_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    assert "fewer visits with order in on than in off, with device mobile" in worst["words"] == answer["words"]
    assert worst["effect"]["estimate"] == -1.0
    assert worst["effect"]["high"] < -0.9
    sealed_ms = (NOW_MS - 600_000) // MINUTE_MS * MINUTE_MS
    phase = answer["phase"]
    assert phase["start"] == phase["visits_from"] == phase["conversions_from"]
    assert datetime.fromisoformat(phase["start"]).timestamp() * 1_000 == BEGINS_MS
    sealed = datetime.fromisoformat(phase["sealed_until"]).timestamp() * 1_000
    assert sealed_ms - 2 * MINUTE_MS <= sealed <= sealed_ms
    minutes = range(BEGINS_MS, round(sealed), MINUTE_MS)
    assert worst["counts"]["off"] == 4 * len(minutes)
    assert worst["counts_since"] == {"off": 2 * len([at for at in minutes if at >= BROKEN_MS]), "on": 0}
    assert {check["state"] for check in others} == {"healthy"}
    assert checks_of(answer).keys() == {
        "split_of_assigned",
        "split_of_qualified",
        "guardrail order on",
        "crossed",
        "lateness",
        "no_traffic",
        "traffic_dropped",
        "variation_without_visits off",
        "variation_without_visits on",
    }


def test_the_same_store_gives_the_same_verdict(client: Client) -> None:
    """Asked again, of either data center; the evidence to its last digit."""
    first, again = (client.ask(f"{PATH}/checkout/verdicts").json() for _ in range(2))
    assert first == again
    forced = client.ask(f"{PATH}/checkout/verdicts", dc="cdc").json()
    assert forced["checks"] == first["checks"]


def test_where_there_is_nothing_to_judge(client: Client) -> None:
    """An experiment without a visit, and one that is not configured."""
    answer = client.ask(f"{PATH}/young/verdicts").json()
    assert (answer["state"], answer["phase"], answer["checks"]) == ("no_data", None, [])
    assert client.ask(f"{PATH}/gone/verdicts").status_code == 404
    assert client.ask(f"{PATH}/checkout/verdicts", dc="x").status_code == 404


@pytest.mark.parametrize(("days", "state"), [(29.5, State.NO_DATA), (28.5, State.STOP)])
def test_a_phase_whose_beginning_is_lost_has_no_verdict(client: Client, days: float, state: State) -> None:
    """A beginning that slides with the ttl would be no evidence."""
    started = NOW_MS - round(days * 24 * HOUR_MS)
    with serving(client.service.store.url, config_with(started=started)) as asked:
        answer = asked.ask(f"{PATH}/checkout/verdicts").json()
    assert answer["state"] == state


def table(**changes: Any) -> ExperimentTable:
    """The experiment with these keys."""
    return parse(config_with(**changes)).tenants["t"].experiments["checkout"]


TIME = parse(CONFIG).time


def test_a_phase_begins_with_the_first_visit() -> None:
    """Nothing has to settle then."""
    phase = running_phase(table(), TIME, BEGINS_MS, NOW_MS)
    assert phase is not None
    assert phase[:4] == (BEGINS_MS, {"off": 1, "on": 1}, BEGINS_MS, BEGINS_MS)
    assert phase.is_split_judged


@pytest.mark.parametrize("started", ["2026-11-24T03:00:30Z", datetime(2026, 11, 24, 3, 0, 30, tzinfo=UTC)])
def test_a_phase_that_is_configured_settles(started: object) -> None:
    """Visits for `settle_s`, conversions until those of before have ended; minutes are whole."""
    start_ms = round(datetime(2026, 11, 24, 3, 0, 30, tzinfo=UTC).timestamp() * 1_000)
    phase = running_phase(table(started=started, settle_s=120), TIME, BEGINS_MS, start_ms)
    assert phase is not None
    assert (phase.start_ms, phase.visits_from_ms) == (start_ms, start_ms + 150_000)
    assert phase.conversions_from_ms == phase.visits_from_ms + 1_800_000
    assert running_phase(table(started=started), TIME, BEGINS_MS, start_ms - 1) is None


def test_a_change_of_the_weights_begins_a_phase() -> None:
    """Each in its time, with its weights; under sticky assignment the split is not judged after one."""
    phases = [{"from": BEGINS_MS + hours * HOUR_MS, "weights": {"off": 1, "on": hours}} for hours in (2, 5)]
    for now_hours, weight in ((1, 1), (2, 2), (4, 2), (5, 5), (9, 5)):
        phase = running_phase(table(phases=phases), TIME, BEGINS_MS, BEGINS_MS + now_hours * HOUR_MS)
        assert phase is not None
        assert phase.weights["on"] == weight
    sticky = running_phase(table(phases=phases, sticky=True), TIME, BEGINS_MS, BEGINS_MS + 9 * HOUR_MS)
    before = running_phase(table(phases=phases, sticky=True), TIME, BEGINS_MS, BEGINS_MS)
    assert sticky is not None
    assert before is not None
    assert (before.is_split_judged, sticky.is_split_judged) == (True, False)


def test_slices_are_values_and_pairs_up_to_a_bound() -> None:
    """In the order of the configuration; a tag with one value makes none."""
    tags = {"device": ("a", "b"), "login": ("x", "y"), "one": ("z",)}
    single = [(("device", "a"),), (("device", "b"),), (("login", "x"),), (("login", "y"),)]
    pairs = [(("device", d), ("login", of)) for d in "ab" for of in "xy"]
    assert slices(tags) == [*single, *pairs]
    many = {f"tag{n}": tuple(map(str, range(9))) for n in range(4)}
    assert len(slices(many)) == SLICES_MAX < math.comb(36, 2)
