"""The requests that the query service refuses, and its answers when a store or a data center has faults."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from monitor import devstore
from monitor.serve.own_metrics import Watch
from monitor.serve.spans import iso
from tests.support import served
from tests.support.served import (
    BUTTON,
    CHECKOUT,
    DCS,
    HOUR_MS,
    MINUTE_MS,
    PATH,
    TENANT,
    Client,
    Served,
    ranges,
    serving,
)

DAL, CDC = DCS


@pytest.fixture(scope="module")
def case() -> Served:
    """The log, computed once."""
    return served.served()


@pytest.fixture(scope="module")
def light(case: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The API over an empty store."""
    with (
        devstore.running(tmp_path_factory.mktemp("empty") / "store.sqlite3") as url,
        serving(url, case) as client,
    ):
        yield client


REFUSED: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("/api/tenants/nobody/experiments", {}, 404, "unknown_tenant", "nobody"),
    (f"{PATH}/nothing", {}, 404, "unknown_experiment", "nothing"),
    (f"{PATH}/{BUTTON}", {"dc": "ord"}, 404, "unknown_data_center", "ord"),
    (f"{PATH}/{BUTTON}", {"tag": "weather:rain"}, 404, "unknown_tag", "weather"),
    (f"{PATH}/{BUTTON}", {"tag": "device:toaster"}, 404, "unknown_tag_value", "toaster"),
    (f"{PATH}/{BUTTON}", {"tag": "device"}, 400, "bad_parameter", "TAG:VALUE"),
    (f"{PATH}/{BUTTON}", {"from": "yesterday"}, 400, "bad_parameter", "yesterday"),
    (f"{PATH}/{BUTTON}", {"from": "9" * 30}, 400, "bad_parameter", "between 1970 and 2100"),
    (f"{PATH}/{BUTTON}", {"from": "2026-01-02", "to": "2026-01-01"}, 400, "bad_parameter", "before to"),
    (f"{PATH}/{BUTTON}", {"from": "2026-01-01", "to": "2026-03-01"}, 400, "too_much", "serve.range_days"),
    (f"{PATH}/{BUTTON}", {"scope": "all"}, 400, "bad_parameter", "all"),
    (f"{PATH}/{BUTTON}/breakdown", {"by": "weather"}, 404, "unknown_tag", "weather"),
    (f"{PATH}/{BUTTON}/breakdown", {"by": ["device", "device"]}, 400, "bad_parameter", "twice"),
    (f"{PATH}/{BUTTON}/series", {"measure": "rate"}, 400, "bad_parameter", "must name a point"),
    (f"{PATH}/{BUTTON}/series", {"measure": "rate", "point": "login"}, 404, "unknown_point", "login"),
    (f"{PATH}/{BUTTON}/series", {"measure": "mean", "point": "engaged"}, 400, "bad_parameter", "must have a value"),
    (f"{PATH}/{BUTTON}/series", {"measure": "assigned", "point": "order"}, 400, "bad_parameter", "cannot be combined"),
    (f"{PATH}/{BUTTON}/series", {"step": "2m"}, 400, "bad_parameter", "2m"),
    (f"{PATH}/{BUTTON}/series", {"from": "2026-11-01", "by": "device"}, 400, "too_much", "serve.values"),
    ("/api/nothing", {}, 404, "http", "nothing is at /api/nothing"),
]


@pytest.mark.parametrize(("path", "asked", "status", "kind", "words"), REFUSED)
def test_what_is_refused_says_why(
    light: Client, path: str, asked: dict[str, Any], status: int, kind: str, words: str
) -> None:
    """A problem with its kind, the rule, what came, and what to do."""
    answer = light.problem(path, **asked)
    assert (answer["status"], answer["type"]) == (status, kind)
    assert words in answer["detail"]


def test_a_store_that_is_away(case: Served) -> None:
    """503 with Retry-After for answers; health answers, and says that it is down."""
    with serving("http://127.0.0.1:9", case) as client:
        answer = client.problem(f"{PATH}/{BUTTON}")
        assert (answer["status"], answer["type"]) == (503, "store_unavailable")
        assert "retry-after" in client.ask(PATH).headers
        health = client.ask("/api/health").json()
        assert (health["status"], health["store"]["reachable"]) == ("down", False)


def test_the_api_describes_itself(light: Client) -> None:
    """OpenAPI, with every path and every answer's model."""
    described = light.ask("/openapi.json").json()
    assert set(described["paths"]) >= {PATH.replace(TENANT, "{tenant}"), "/api/health", "/api/tenants"}
    assert {"ExperimentAnswer", "SeriesAnswer", "HealthAnswer", "Problem"} <= set(described["components"]["schemas"])
    assert light.ask("/docs").status_code == 200


def test_the_described_errors_are_those_that_are_given(light: Client) -> None:
    """A bad parameter gets 400: no path says 422, and no model of it is described; a probe may get 502 too."""
    refused = requests.get(f"{light.url}{PATH}/{BUTTON}/series?step=7m", timeout=30)
    assert refused.status_code == 400
    described = light.ask("/openapi.json").json()
    statuses = {path: set(of["get"]["responses"]) for path, of in described["paths"].items()}
    assert not any("422" in of_path for of_path in statuses.values())
    assert statuses["/readyz"] == {"200", "502", "503"}
    assert not any("ValidationError" in name for name in described["components"]["schemas"])
    assert "422" not in light.ask("/docs").text


def test_the_description_needs_nothing_from_elsewhere(light: Client) -> None:
    """No script, no other host; each path, parameter and field is in it."""
    text = light.ask("/docs").text
    assert "http://" not in text
    assert "https://" not in text
    assert "<script" not in text
    for words in (PATH.replace(TENANT, "{tenant}"), "/api/health", "/readyz", "measure", "rate_difference", "is_final"):
        assert words in text


def test_probes(light: Client, case: Served) -> None:
    """The process is alive whatever the store does; it is ready if the store answers."""
    assert [light.ask(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    with serving("http://127.0.0.1:9", case) as client:
        assert client.ask("/healthz").status_code == 200
        refused = client.problem("/readyz")
        assert (refused["status"], refused["type"]) == (503, "store_unavailable")


def test_head_is_get_without_the_body(light: Client) -> None:
    """For every path: its status and headers, and no byte more."""
    for path in ("/healthz", "/api/health", "/docs", "/openapi.json", f"{PATH}/{BUTTON}", f"{PATH}/nothing"):
        head, get = (requests.request(method, light.url + path, timeout=30) for method in ("HEAD", "GET"))
        assert (head.status_code, head.headers["content-type"]) == (get.status_code, get.headers["content-type"])
        assert head.content == b""


@pytest.fixture
def mirrors(case: Served, tmp_path: Path) -> Iterator[str]:
    """A store of its own, to be damaged."""
    with devstore.running(tmp_path / "store.sqlite3") as url:
        for dc in DCS:
            served.write(url, case.totals(dc))
        yield url


def assigned(answer: Any) -> int:
    return sum(result["assigned"] for result in answer["variations"])


def test_each_minute_is_of_one_data_center_only(mirrors: str, case: Served) -> None:
    """The preferred one stopped two hours ago, and holds nothing from then on: the sums are those of the log."""
    stopped_ms = case.now_ms - 2 * HOUR_MS
    served.report(mirrors, DAL, case.start_ms - HOUR_MS, stopped_ms)
    served.report(mirrors, CDC, case.start_ms - HOUR_MS, case.now_ms)
    served.write(mirrors, {key: 0 for key in case.totals(DAL) if key[1] > stopped_ms - 5 * MINUTE_MS})
    with serving(mirrors, case) as client:
        start_ms, end_ms = ranges(case)[0]
        answer = client.get(f"/{CHECKOUT}", **{"from": start_ms, "to": end_ms})
        assert assigned(answer) == sum(case.sum(f"assigned.{v}.beta", start_ms, end_ms) for v in ("fc_off", "fc_on"))
        assert [(part["dc"], part["reason"]) for part in answer["basis"]["served"]] == [
            (DAL, "preferred"),
            (CDC, "stale"),
        ]
        forced = client.get(f"/{CHECKOUT}", **{"from": start_ms, "to": end_ms, "dc": DAL})
        assert assigned(forced) < assigned(answer)
        assert [(part["dc"], part["reason"]) for part in forced["basis"]["served"]] == [(DAL, "forced")]
        late = client.get(f"/{CHECKOUT}", **{"from": end_ms - HOUR_MS})["basis"]["served"]
        assert [(part["dc"], part["reason"]) for part in late] == [(CDC, "stale")]
        health = client.ask("/api/health").json()
        assert (health["status"], health["serving_dc"]) == ("degraded", CDC)
        assert [(s["from_dc"], s["to_dc"], s["reason"]) for s in health["failovers"]] == [(DAL, CDC, "stale")]
        assert any(DAL in line and "silent" in line for line in health["advice"])


def test_a_less_complete_mirror(mirrors: str, case: Served) -> None:
    """The preferred one is in order, but lacks visits of an experiment in some minutes: those are the other's, the
    divergence is written, and so is the switch.
    """
    for dc in DCS:
        served.report(mirrors, dc, case.start_ms - HOUR_MS, case.now_ms)
    lost_ms = case.now_ms // MINUTE_MS * MINUTE_MS - 40 * MINUTE_MS
    many = {(f"{TENANT}.visit.assigned.fc_off.beta", lost_ms + n * MINUTE_MS) for n in range(20)}
    tags = {"experiment": CHECKOUT, "device": "mobile", "login": "true"}
    for dc, lost in ((DAL, 60), (CDC, 0)):
        served.post(
            mirrors,
            [(name, at_ms, {"dc": dc, **tags}, 200 - (lost if at_ms == lost_ms else 0)) for name, at_ms in many],
        )
    with serving(mirrors, case) as client:
        asked = {"from": lost_ms - HOUR_MS, "to": lost_ms + 20 * MINUTE_MS}
        answer = client.get(f"/{CHECKOUT}", **asked)
        assert [(part["dc"], part["start"]) for part in answer["basis"]["served"]] == [
            (DAL, iso(lost_ms - HOUR_MS)),
            (CDC, iso(lost_ms)),
            (DAL, iso(lost_ms + 2 * MINUTE_MS)),
        ]
        assert answer["basis"]["served"][1]["reason"] == "less_complete"
        other = client.get(f"/{BUTTON}", **asked)
        assert [part["dc"] for part in other["basis"]["served"]] == [DAL]
        watch = Watch(client.service, mirrors)
        written = watch.once()
        assert written > 0
        assert watch.once() == 0
        health = client.ask("/api/health").json()
        (apart,) = health["divergences"]
        assert (apart["experiment"], apart["dc"], apart["against"]) == (CHECKOUT, CDC, DAL)
        assert apart["worst_minute"] == iso(lost_ms)
        assert apart["ppm_max"] == pytest.approx(60 / 200 * 1_000_000, rel=0.1)
        switches = [(s["at"], s["from_dc"], s["to_dc"], s["reason"], s["experiment"]) for s in health["failovers"]]
        assert switches == [
            (iso(lost_ms + 2 * MINUTE_MS), CDC, DAL, "preferred", CHECKOUT),
            (iso(lost_ms), DAL, CDC, "less_complete", CHECKOUT),
        ]
        assert any("monitor verify" in line for line in health["advice"])
        assert health["compared_experiments"] == 2
