"""`/metrics` of the query service: what the jobs report and the page shows, for Prometheus."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import devstore
from monitor.config.reader import parse
from monitor.serve.app import create_app
from monitor.serve.prometheus import ANSWER_S, FRESH_S
from monitor.serve.prometheus_verdicts import KEPT_MS
from monitor.serve.service import open_service
from tests.support import served
from tests.support.scraped import OPENMETRICS, scrape, value
from tests.support.served import DCS, HOUR_MS, TENANT, Client, Served, http, serving
from tests.support.tcp_proxy import between

DC = {"dc": DCS[0]}


@pytest.fixture
def reported(tmp_path: Path) -> Iterator[tuple[str, Served, Client]]:
    """A store in which one of two data centers reports, and the API over it."""
    case = served.served()
    with devstore.running(tmp_path / "store.sqlite3") as url:
        served.report(url, DCS[0], case.now_ms - 3 * HOUR_MS, case.now_ms)
        with serving(url, case) as client:
            yield url, case, client


def test_each_report_is_under_its_own_name_with_its_tags(reported: tuple[str, Served, Client]) -> None:
    """Gauges as they are, counters of the last 5 minutes and, with `_1h`, of the last hour."""
    url, case, client = reported
    now_ms, tenant = case.now_ms - 10_000, {**DC, "tenant": TENANT}
    served.post(
        url,
        [
            ("monitor.lag", now_ms, {**DC, "topic": "events", "partition": "0"}, 4),
            ("monitor.lag", now_ms - 20 * 60_000, {**DC, "topic": "events", "partition": "1"}, 50),
            ("monitor.memory_bytes", now_ms, {**DC, "worker": "1"}, 1_000),
            ("monitor.events", now_ms, tenant, 300),
            ("monitor.events", now_ms - 30 * 60_000, tenant, 11),
            ("monitor.rejected", now_ms - 30 * 60_000, {**tenant, "reason": "late"}, 3),
            ("monitor.delay_ms.max", now_ms, tenant, 900),
            ("monitor.delay_ms.max", now_ms - 30 * 60_000, tenant, 1_900),
            ("monitor.cpu_ms", now_ms, {**DC, "worker": "1"}, 70),
        ],
    )
    found = scrape(client.url)
    assert [(one.labels, one.value) for one in found["monitor_lag"]] == [
        ({**DC, "topic": "events", "partition": "0"}, 4)
    ]
    assert value(found, "monitor_memory_bytes", worker="1", **DC) == 1_000
    assert value(found, "monitor_cpu_ms", worker="1", **DC) == 70
    assert (value(found, "monitor_events", **tenant), value(found, "monitor_events_1h", **tenant)) == (300, 311)
    assert value(found, "monitor_rejected", reason="late", **tenant) == 0
    assert value(found, "monitor_rejected_1h", reason="late", **tenant) == 3
    assert value(found, "monitor_messages", **tenant) == 300
    assert value(found, "monitor_delay_ms_max", **tenant) == 900
    assert value(found, "monitor_delay_ms_max_1h", **tenant) == 1_900


def test_what_never_happened_is_0(reported: tuple[str, Served, Client]) -> None:
    """Of the data center that reports: a rule needs to see that it is over."""
    found = scrape(reported[2].url)
    assert [(one.labels, one.value) for one in found["monitor_dead_letters_1h"]] == [(DC, 0)]
    assert "monitor_rejected" not in found


def test_names_in_events_are_no_labels(reported: tuple[str, Served, Client]) -> None:
    """Whoever sends events could make any number of series."""
    url, case, client = reported
    tags = {**DC, "tenant": TENANT, "kind": "variation"}
    served.post(
        url,
        [
            ("monitor.unknown", case.now_ms - 10_000, {**tags, "experiment": "a", "name": f"v{number}"}, 2)
            for number in range(30)
        ],
    )
    assert [(one.labels, one.value) for one in scrape(client.url)["monitor_unknown"]] == [(tags, 60)]


def test_the_state_of_each_data_center(reported: tuple[str, Served, Client]) -> None:
    """One reports, the other never has; ages are those of the answer."""
    found = scrape(reported[2].url)
    states = {one.labels["dc"]: one.labels["state"] for one in found["monitor_dc_state"] if one.value}
    assert states == {DCS[0]: "healthy", DCS[1]: "missing"}
    assert {one.labels["dc"]: one.value for one in found["monitor_dc_serving"]} == {DCS[0]: 1, DCS[1]: 0}
    assert [one.labels for one in found["monitor_heartbeat_age_s"]] == [DC]
    age_s = value(found, "monitor_watermark_age_s", **DC)
    assert age_s > served.LATENESS_S
    assert value(found, "monitor_watermark_s", **DC) == pytest.approx(reported[1].now_ms / 1_000 - age_s)
    assert value(found, "monitor_figure", figure="watermark delay", **DC) == age_s
    assert value(found, "monitor_figure_normal", figure="heartbeat age") == 30
    assert value(found, "monitor_status") == 1
    assert value(found, "monitor_store_up") == 1


def test_openmetrics_has_the_same(reported: tuple[str, Served, Client]) -> None:
    """If the scraper asks for it; what is no version is as if none were asked for."""
    _, _, client = reported
    plain, of_open = scrape(client.url), scrape(client.url, OPENMETRICS)
    ours = {name: of for name, of in plain.items() if name.startswith("monitor_")}
    assert ours == {name: of for name, of in of_open.items() if name.startswith("monitor_")}
    assert value(of_open, "process_open_fds") > 0
    assert scrape(client.url, "text/plain;version=new").keys() == plain.keys()


def test_a_store_that_is_away_is_told() -> None:
    """The scrape succeeds: a rule must be able to see it."""
    settings = parse({**served.served().config, "serve": {"dcs": list(DCS)}})
    with open_service(settings, "http://127.0.0.1:9") as service, http(create_app(service)) as url:
        found = scrape(url)
    assert value(found, "monitor_store_up") == 0
    assert value(found, "monitor_status") == 2
    assert "monitor_heartbeat_age_s" not in found


def test_a_store_that_hangs_is_told_in_time(reported: tuple[str, Served, Client]) -> None:
    """Before a scraper gives up, which would take the service for dead; afterwards all is as before."""
    url, case, _ = reported
    with between(url) as proxy, serving(proxy.url, case, query_timeout_s=30) as client:
        proxy.silence()
        began_s = time.monotonic()
        found = scrape(client.url)
        assert time.monotonic() - began_s < 2 * ANSWER_S
        assert (value(found, "monitor_store_up"), value(found, "monitor_status")) == (0, 2)
        assert "monitor_heartbeat_age_s" not in found
        proxy.mend()
        until_s = time.monotonic() + 60
        while value(scrape(client.url), "monitor_store_up") == 0:
            assert time.monotonic() < until_s
            time.sleep(0.1)


def test_scrapers_share_an_answer(reported: tuple[str, Served, Client]) -> None:
    """The store is asked anew at most every few seconds, however many there are."""
    url, case, _ = reported
    with between(url) as proxy, serving(proxy.url, case) as client:
        scrape(client.url)
        once, began_s = proxy.requests, time.monotonic()
        for _ in range(20):
            scrape(client.url)
        answers = 1 + (time.monotonic() - began_s) // FRESH_S
        assert once > 0
        assert proxy.requests <= once * (1 + answers)
        assert answers < 10


def test_verdicts_are_those_that_the_guards_wrote(reported: tuple[str, Served, Client]) -> None:
    """The newest of each check and data center; one that is out of date is left out."""
    url, case, client = reported
    at_ms, of = case.now_ms - 11 * 60_000, {"tenant": TENANT, "experiment": "button_color"}
    served.post(
        url,
        [
            ("monitor.verdict.state", at_ms - 60_000, {**DC, **of, "check": "crossed"}, 1),
            ("monitor.verdict.state", at_ms, {**DC, **of, "check": "crossed"}, 4),
            ("monitor.verdict.state", at_ms - KEPT_MS, {**DC, **of, "check": "ended"}, 5),
            ("monitor.verdict.state", at_ms - KEPT_MS + 60_000, {"dc": DCS[1], **of, "check": "crossed"}, 3),
            ("monitor.verdict.ln_e", at_ms, {**DC, **of, "check": "crossed"}, 7.25),
        ],
    )
    found = scrape(client.url)
    states = {(one.labels["dc"], one.labels["check"]): one.value for one in found["monitor_verdict_state"]}
    assert states == {(DCS[0], "crossed"): 4, (DCS[1], "crossed"): 3}
    assert [(one.labels, one.value) for one in found["monitor_verdict_ln_e"]] == [
        ({**DC, **of, "check": "crossed"}, 7.25)
    ]
