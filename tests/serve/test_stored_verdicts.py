"""The history of verdicts and of their evidence, from the points that watchers have written."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from monitor import devstore
from monitor.serve import stored_verdicts
from monitor.serve.models import Step
from monitor.serve.spans import DAY_MS, Span, iso
from monitor.serve.stored_verdicts import STATES, step_of
from monitor.verdicts.judge import State
from tests.support import served
from tests.support.served import HOUR_MS, MINUTE_MS, Client
from tests.support.verdict_case import NOW_MS, config_with, serving

PATH = "/api/tenants/t/experiments/checkout/verdicts"
BEGAN_MS = NOW_MS // MINUTE_MS * MINUTE_MS - 3 * HOUR_MS
HARM, CROSSED = "guardrail order on", "crossed"

Point = tuple[str, int, dict[str, str], int | float]


def state(minute: int, state: State, check: str = HARM, dc: str = "dal", **tags: str) -> Point:
    """What a watcher writes of a check's state, so many minutes after BEGAN_MS."""
    of = {"dc": dc, "tenant": "t", "experiment": "checkout", "check": check.replace(" ", "/")} | tags
    return "monitor.verdict.state", BEGAN_MS + minute * MINUTE_MS, of, STATES.index(state)


def evidence(minute: int, ln_e: float, most: float, check: str = HARM, dc: str = "dal") -> Iterator[Point]:
    """What it writes of the evidence."""
    of = {"dc": dc, "tenant": "t", "experiment": "checkout", "check": check.replace(" ", "/")}
    for name, value in (("ln_e", ln_e), ("ln_e_max", most)):
        yield f"monitor.verdict.{name}", BEGAN_MS + minute * MINUTE_MS, of, value


@pytest.fixture
def url(tmp_path: Any) -> Iterator[str]:
    with devstore.running(tmp_path / "store.sqlite3") as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with serving(url) as client:
        yield client


def changes(client: Client, url: str, points: Sequence[Point], path: str = "history", **asked: Any) -> Any:
    served.post(url, points)
    answer = client.ask(f"{PATH}/{path}", **asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


def listed(answer: Any) -> list[tuple[int, str, str | None, str]]:
    """The changes: (minutes after BEGAN_MS, check, previous, state)."""
    at_ms = {iso(BEGAN_MS + minute * MINUTE_MS): minute for minute in range(-HOUR_MS // MINUTE_MS, 3 * 60)}
    return [(at_ms[of["at"]], of["check"], of["previous"], of["state"]) for of in answer["changes"]]


def test_changes_of_states(client: Client, url: str) -> None:
    """The first of each check, and each that is another one than before; a gap is none; the rest is not of this one."""
    points = [
        *(state(minute, State.HEALTHY) for minute in range(5)),
        state(5, State.NOTE),
        state(6, State.STOP),
        state(90, State.STOP),
        state(91, State.HEALTHY),
        state(3, State.TOO_EARLY, CROSSED),
        state(4, State.HEALTHY, CROSSED),
        state(4, State.STOP, experiment="young"),
        state(4, State.STOP, tenant="other"),
    ]
    answer = changes(client, url, points)
    assert listed(answer) == [
        (0, HARM, None, "healthy"),
        (3, CROSSED, None, "too_early"),
        (4, CROSSED, "too_early", "healthy"),
        (5, HARM, "healthy", "note"),
        (6, HARM, "note", "stop"),
        (91, HARM, "stop", "healthy"),
    ]
    assert (answer["step"], answer["is_cut"]) == ("1m", False)
    within = client.ask(f"{PATH}/history", None, **{"from": BEGAN_MS + 5 * MINUTE_MS, "to": BEGAN_MS + 91 * MINUTE_MS})
    assert listed(within.json()) == [(5, HARM, None, "note"), (6, HARM, "note", "stop")]
    one = client.ask(f"{PATH}/history", check=CROSSED)
    assert listed(one.json()) == [(3, CROSSED, None, "too_early"), (4, CROSSED, "too_early", "healthy")]


def test_two_watchers_are_one(client: Client, url: str) -> None:
    """Of each minute the preferred data center's points count, else those that there are, of any watcher."""
    points = [
        state(0, State.HEALTHY),
        state(0, State.STOP, dc="cdc"),
        state(1, State.NOTE, dc="cdc"),
        state(2, State.WARN, dc="elsewhere"),
        state(3, State.HEALTHY, dc="cdc"),
    ]
    found = [state for _, _, _, state in listed(changes(client, url, points))]
    assert found == ["healthy", "note", "warn", "healthy"]
    assert [of[-1] for of in listed(changes(client, url, [], dc="cdc"))] == ["stop", "note", "healthy"]


def test_an_experiment_that_was_renamed(url: str) -> None:
    """What was written under its old name is its own."""
    served.post(url, [state(0, State.HEALTHY, experiment="before"), state(1, State.NOTE)])
    with serving(url, config_with(names=["before"])) as client:
        assert [of[-1] for of in listed(client.ask(f"{PATH}/history").json())] == ["healthy", "note"]


def test_the_newest_changes_are_listed(client: Client, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the bound, and it is said that there are more."""
    monkeypatch.setattr(stored_verdicts, "CHANGES_MAX", 3)
    points = [state(minute, State.NOTE if minute % 2 else State.HEALTHY) for minute in range(10)]
    answer = changes(client, url, points)
    assert ([of[0] for of in listed(answer)], answer["is_cut"]) == ([7, 8, 9], True)


def test_the_evidence_over_time(client: Client, url: str) -> None:
    """By check, the strongest first, with the largest so far."""
    points = [
        *evidence(0, 0.0, 0.0, CROSSED),
        *evidence(1, 0.25, 0.5, CROSSED),
        *evidence(0, -1.5, 0.0),
        *evidence(1, 700.0, 700.0),
        *evidence(2, 12.5, 700.0),
        *evidence(2, 13.5, 700.0, dc="cdc"),
    ]
    answer = changes(client, url, points, "evidence")
    assert [line["check"] for line in answer["lines"]] == [HARM, CROSSED]
    assert [(of["ln_e"], of["ln_e_max"]) for of in answer["lines"][0]["points"]] == [(-1.5, 0), (700, 700), (12.5, 700)]
    assert [of["at"] for of in answer["lines"][1]["points"]] == [iso(BEGAN_MS), iso(BEGAN_MS + MINUTE_MS)]
    assert answer["step"] == "1m"
    (line,) = client.ask(f"{PATH}/evidence", check=HARM).json()["lines"]
    assert line == answer["lines"][0]


def test_a_long_range_has_longer_steps(client: Client, url: str) -> None:
    """The largest evidence of each, and its last state."""
    points = [
        *(point for minute in range(10) for point in evidence(minute, float(minute % 7), 6.0)),
        *(state(minute, State.NOTE if minute < 9 else State.HEALTHY) for minute in range(10)),
    ]
    asked = {"from": NOW_MS - 9 * DAY_MS}
    answer = changes(client, url, points, "evidence", **asked)
    assert answer["step"] == "5m"
    found = {of["at"]: of["ln_e"] for of in answer["lines"][0]["points"]}
    first_ms = BEGAN_MS // (5 * MINUTE_MS) * 5 * MINUTE_MS
    assert found[iso(first_ms)] == max(m % 7 for m in range(10) if BEGAN_MS + m * MINUTE_MS < first_ms + 5 * MINUTE_MS)
    assert [of["state"] for of in client.ask(f"{PATH}/history", None, **asked).json()["changes"]] == ["note", "healthy"]


@pytest.mark.parametrize(
    ("days", "step"), [(1, Step.MINUTE), (2, Step.MINUTE), (3, Step.FIVE_MINUTES), (11, Step.QUARTER), (365, Step.DAY)]
)
def test_the_step_follows_from_the_range(days: int, step: Step) -> None:
    """The shortest one of which there are at most 3,000."""
    assert step_of(Span(0, days * DAY_MS)) is step


@pytest.mark.parametrize("path", ["history", "evidence"])
def test_what_is_refused(client: Client, path: str) -> None:
    """As elsewhere: unknown names, and a range that is too long; a check without points has none."""
    assert client.ask(f"/api/tenants/t/experiments/gone/verdicts/{path}").status_code == 404
    assert client.ask(f"{PATH}/{path}", dc="x").status_code == 404
    assert client.ask(f"{PATH}/{path}", None, **{"from": "2026-01-01"}).json()["type"] == "too_much"
    found = client.ask(f"{PATH}/{path}", check="no such").json()
    assert (found.get("changes"), found.get("lines")) in (([], None), (None, []))
