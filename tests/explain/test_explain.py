"""What `monitor explain` says of a visit is what the oracle says of it, in JSON and for people."""

import json
import re
import tomllib
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from monitor.commands import explain as explain_cli
from monitor.commands.main import app
from monitor.config.settings import PredicateTable
from monitor.core import wording
from monitor.explain import session_messages as explain_messages
from monitor.explain.console_tables import ENDS, instant
from monitor.explain.explanation import Amount, Explanation, explain
from monitor.explain.session_messages import gather, seconds
from monitor.topics import recorded
from monitor.topics.kafka import Publisher
from monitor.topics.recorded import Record
from tests.support import oracle
from tests.support.driver import compiled_of
from tests.support.messages import BASE_MS, MINUTE_MS, SESSION, message, shop
from tests.support.oracle import Message
from tests.support.servers import Kafka
from tests.support.strategies import Config, configs, logs, to_toml

MIN = MINUTE_MS


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that breaks no line, and no configuration from outside."""
    monkeypatch.setattr(explain_cli, "OUT", Console(width=300))
    monkeypatch.delenv("MONITOR_CONFIG", raising=False)


@given(st.data())
def test_an_explanation_agrees_with_the_oracle(data: st.DataObject) -> None:
    """Verdicts, visits, assignments, crossings, tardy events, rules, and contributions are the oracle's."""
    config = tomllib.loads(to_toml(data.draw(configs())))
    log = data.draw(logs(config))
    visits = defaultdict(list)
    for true in oracle.answer(config, log).visits:
        visits[true.tenant, true.session_id].append(true.events)
    for tenant in config["tenants"]:
        for session_id in sorted({m.key.decode() for m in log if m.key not in (None, b"\xff")} - {""}):
            found = explained(config, log, tenant, session_id)
            in_time = sorted(visits[tenant, session_id])
            assert [seen.reason for seen in by_arrival(found)] == reasons(config, log, tenant, session_id)
            assert [visit.first_ms for visit in found.visits] == [events[0].time for events in in_time]
            assert [event_ids(found, visit.arrivals) for visit in found.visits] == [
                [event.event_id for event in events] for events in in_time
            ]
            for visit, events in zip(found.visits, in_time, strict=True):
                contributed = oracle.contributions(config, tenant, events)
                assert keyed(visit.contributions) == {key: n for key, n in contributed.items() if n}
                for outcome in visit.experiments:
                    told = (outcome.variation, at(outcome.assigned), at(outcome.crossed), outcome.qualified_ms)
                    assert told == wanted_outcome(config["tenants"][tenant], outcome.experiment, events)
                    assert at(outcome.tardy) == wanted_tardy(config, outcome.experiment, events)
                    rule = config["tenants"][tenant]["experiments"][outcome.experiment]["qualified_when"]
                    assert_rule(outcome.rule, rule, config["tenants"][tenant]["points"], events)


@given(st.data())
def test_corrections_are_what_later_arrivals_changed(data: st.DataObject) -> None:
    """Each correction is the visit's contributions with the event less those before it, of the oracle."""
    config = tomllib.loads(to_toml(data.draw(configs())))
    log = data.draw(logs(config, wrong_keys=False))
    tenant = next(iter(config["tenants"]))
    session_id = log[0].key.decode() if log[0].key else SESSION
    found = explained(config, log, tenant, session_id)
    events = {seen.arrival: event_of(config, seen, log) for seen in found.events if seen.reason is None}
    late = {correction.arrival: correction for correction in found.corrections}
    assert list(late) == sorted(late)
    so_far: list[oracle.Event] = []
    for arrival, event in sorted(events.items()):
        before, after = (contributed(config, tenant, held) for held in (so_far, [*so_far, event]))
        changed = {key: after[key] - before[key] for key in after.keys() | before.keys() if after[key] != before[key]}
        if arrival in late:
            assert keyed(late[arrival].changes) == changed
        else:
            assert all(n > 0 or ".sum" in key[0] for key, n in changed.items())
        so_far.append(event)


def test_the_worked_example(tmp_path: Path) -> None:
    """The correction of the contract's example, line by line: an earlier home page arrives late."""
    result = run(tmp_path, worked_example(), worked_log())
    assert result.exit_code == 0, result.output
    corrections = cells(result.output.partition("Corrections")[2])
    assert {cell[0] for cell in corrections} == {"4 page_view"}
    assert sorted((row[2].replace(".red", ""), minute(row[3]), int(row[5])) for row in corrections) == sorted(
        [
            *[("assigned.beta", 10, 1), ("assigned.beta", 12, -1)],
            ("assigned.home_page", 10, 1),
            *[("assigned.home_page.beta", 10, 1), ("assigned.home_page.beta", 14, -1)],
            *[("fm.beta", 10, 1), ("fm.beta", 14, -1)],
            ("fm.home_page", 10, 1),
            *[("fm.home_page.beta", 10, 1), ("fm.home_page.beta", 14, -1)],
            ("fm.item_page", 12, 1),
            *[("fm.item_page.beta", 12, 1), ("fm.item_page.beta", 15, -1)],
            ("tardy.beta", 10, 1),
        ]
    )


def test_texts_of_assignments_are_shown_and_their_variation_is_told() -> None:
    """A number under a further name, which is an alias, is the variation it means; what cannot be read is left out."""
    config = shop()
    color = config["tenants"]["uswm"]["experiments"]["button_color"]
    color |= {"names": ["Button Colour"], "aliases": {"1": "blue"}}
    sent = {"Button Colour": 1.0, "button_color": None, "other": [1]}
    found = explained(config, [message(0, assignments=sent)], "uswm", SESSION)
    (seen,) = found.events
    assert (seen.reason, seen.assignments) == (None, {"Button Colour": "1"})
    ((outcome,),) = [visit.experiments for visit in found.visits]
    assert (outcome.experiment, outcome.variation) == ("button_color", "blue")


def test_a_placeholder_is_told() -> None:
    """A session id that stands for no session is rejected, and the explanation says by which setting."""
    (seen,) = explained(shop(), [message(0, sessionId="undefined")], "uswm", "undefined").events
    assert seen.reason == "placeholder_id"
    assert "limits.placeholder_ids" in seen.why


def test_what_people_read(tmp_path: Path) -> None:
    """Events by event time with verdicts and numbers; assignment, crossing, and the rule with what met it."""
    blue = {"button_color": "blue", "size": "xl"}
    log = [
        *worked_log(),
        message(15 * MIN, "home", 15 * MIN, eventId=f"{10 * MIN}-home"),
        message(3 * MIN - 12_000, "home", 13 * MIN),
        message(17 * MIN, "home", 15 * MIN),
        message(15 * MIN + 250, None, event="[b]\x1b[31m", assignments=blue),
        Message(0, 0, BASE_MS + 16 * MIN, SESSION.encode(), b"{"),
        Message(0, 0, BASE_MS + 16 * MIN, SESSION.encode(), b'{"tenant": "uswm"}'),
        message(16 * MIN, "home", assignments=[1]),
        message(10**14 - 1 - BASE_MS, "home", 16 * MIN),
        message(16 * MIN, "home", sessionId="s-2"),
    ]
    config = worked_example()
    rule = {"any": [{"point": "home_page"}, {"event": ["buy", "order"], "where": {"total": {"min": 2}}}]}
    config["tenants"]["uswm"]["points"]["third"] = {"event": "buy", "nth": 3}
    config["tenants"]["uswm"]["experiments"]["button_color"]["qualified_when"] = {"all": [rule, {"point": "third"}]}
    config["tenants"]["uswm"]["experiments"]["other"] = {
        "control": "a",
        "variations": {"a": 1},
        "qualified_when": {"point": "home_page"},
    }
    result = run(tmp_path, config, log)
    assert result.exit_code == 0, result.output
    assert "Session s-1 of uswm, dc dal: 12 messages of 13 scanned, 5 accepted, 1 visit" in result.output
    rows = {int(row[0]): row for row in cells(result.output.partition("Visit 1")[0])}
    assert list(rows) == [6, 4, 1, 2, 5, 3, 8, 9, 10, 11, 7, 12]
    assert {arrival: row[5] for arrival, row in rows.items()} == {
        1: "accepted: arrived 0 s after it happened",
        2: "accepted: arrived 0 s after it happened",
        3: "accepted: arrived 0 s after it happened",
        4: "accepted: arrived 300 s after it happened",
        5: "duplicate: its visit already holds eventId 600000-home, of arrival 4",
        6: "late: arrived 612 s after it happened, allowed 600 s",
        7: "future: happened 120 s after it arrived, allowed 60 s",
        8: "accepted: arrived 0 s after it happened; warning: unknown_experiment",
        9: "not_json: its value is no JSON object in UTF-8: "
        "not JSON: Expecting property name enclosed in double quotes",
        10: "bad_field: sessionId is missing; time is missing; event is missing",
        11: "bad_field: assignments must be an object of experiment and variation, or null; got [1]",
        12: f"future: happened {seconds(10**14 - 1 - BASE_MS - 16 * MIN)} after it arrived, allowed 60 s",
    }
    assert rows[12][1] == instant(10**14 - 1)
    assert rows[8][1:5] == [f"{instant(BASE_MS + 15 * MIN + 250)}", r"[b]\x1b[31m", "button_color=blue, size=xl", "1"]
    told = [re.sub(r"^[\s│├└─]+", "", line).rstrip() for line in result.output.splitlines()]
    home = f"arrival 4, page_view at {instant(BASE_MS + 10 * MIN)}"
    start = told.index(f"button_color: red, assigned by {home}")
    assert told[start + 1 : start + 10] == [
        rf"crossed: blue in arrival 8, [b]\x1b[31m at {instant(BASE_MS + 15 * MIN + 250)}",
        f"tardy: {home}",
        "not qualified",
        "rule",
        "all of: not met",
        f"any of: met by {home}",
        f'point home_page: page_view where page is "home": met by {home}',
        "buy or order where total is at least 2: not met",
        "point third: 3rd buy: not met, 0 of 3",
    ]
    assert "other: not assigned, so it counts for nothing" in told
    assert "\x1b" not in result.output


def test_late_by_the_watermark() -> None:
    """Where producers set the timestamps, an event can be behind the watermark; the number says how far.

    There is none before 110 messages of its partition; those of another do not matter.
    """
    others = [message(20 * MIN + number * 500, sessionId="s-2") for number in range(110)]
    mine = [message(at, "home", at) for at in (9 * MIN, 10 * MIN, 25 * MIN)]
    config, log = shop(), [*others, *mine]
    found = explained(config, log, "uswm", SESSION)
    assert [seen.reason for seen in by_arrival(found)] == ["late", None, None]
    assert by_arrival(found)[0].why == "arrived 0 s after it happened, 44.5 s behind the watermark of its partition"
    assert {seen.reason for seen in explained(config, [*others[:-1], *mine], "uswm", SESSION).events} == {None}
    elsewhere = [seen._replace(partition=1) for seen in mine]
    assert {seen.reason for seen in explained(config, [*others, *elsewhere], "uswm", SESSION).events} == {None}


def test_json_has_everything(tmp_path: Path) -> None:
    """The explanation as one JSON object, of odd values too: numbers and characters that JSON cannot hold."""
    odd = {"page": "home", "device": "\ud800", "total": 10**30, "loggedIn": None}
    log = [*worked_log(), message(15 * MIN + 1, None, event="order", attributes=odd)]
    log.append(message(15 * MIN + 2, None, event="order", attributes={"total": float("inf")}))
    config = shop()
    del config["limits"]
    result = run(tmp_path, config, log, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert {name: told[name] for name in ("tenant", "session_id", "dc", "scanned", "beyond")} == {
        "tenant": "uswm",
        "session_id": SESSION,
        "dc": "dal",
        "scanned": 6,
        "beyond": 0,
    }
    assert [seen["arrival"] for seen in told["events"]] == [4, 1, 2, 3, 5, 6]
    assert told["events"][4]["attributes"] == {"page": "home", "device": r"\ud800", "total": "1" + 30 * "0"}
    assert told["events"][5]["attributes"] == {"total": "inf"}
    assert told["events"][5]["warnings"] == {"bad_value": 1}
    (visit,) = told["visits"]
    assert visit["experiments"][0]["rule"]["met"] == {
        "time_ms": BASE_MS + 10 * MIN,
        "event_id": "600000-home",
        "arrival": 4,
    }
    (correction,) = told["corrections"]
    assert (correction["arrival"], correction["visit"]) == (4, 1)
    assert {
        "metric": "uswm.visit.assigned.red.beta",
        "minute_ms": BASE_MS + 12 * MIN,
        "tags": {"dc": "dal", "experiment": "button_color", "device": "unknown", "login": "unknown"},
        "value": -1,
    } in correction["changes"]


def test_a_long_visit_is_shown_by_its_ends(tmp_path: Path) -> None:
    """5,000 events: the first and last 50 and how many are left out; the next one is refused; JSON has all."""
    log = [message(i * 100, "home", eventId=f"e{i}") for i in range(5_001)]
    result = run(tmp_path, shop(), log)
    shown = result.output.partition("Visit 1")[0]
    assert [row[0] for row in cells(shown)] == [str(i + 1) for i in (*range(ENDS), *range(5_001 - ENDS, 5_001))]
    assert "4,901 messages in the middle are left out; --json has all" in shown
    assert "visit_full: its visit already holds 5,000 events, allowed 5,000" in shown
    told = json.loads(run(tmp_path, shop(), log, "--json").stdout)
    assert len(told["events"]) == 5_001
    assert len(told["visits"][0]["arrivals"]) == 5_000


def test_a_session_beyond_the_bound_is_explained_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit into memory is counted, and said."""
    monkeypatch.setattr(explain_messages, "KEPT_BYTES_MAX", 3_000)
    result = run(tmp_path, shop(), worked_log())
    assert "2 messages of 4 scanned, 2 accepted, 1 visit; 2 more are too many to explain" in result.output


def test_a_session_that_was_not_seen(tmp_path: Path) -> None:
    """Exit status 1, and on stderr what was scanned and up to three similar ids of the tenant."""
    ids = ["visit-100", "visit-101", "visit-1002", "Visit-1O0", "other"]
    log = [message(i, "home", sessionId=name) for i, name in enumerate(ids)]
    log.append(message(9, "home", sessionId="visit-1000", tenant="else"))
    result = run(tmp_path, shop(), log, session="visit-1000")
    assert (result.exit_code, result.stdout) == (1, "")
    said, _, similar = result.stderr.strip().partition("; similar: ")
    assert said == "session visit-1000 of uswm is in none of 6 messages scanned"
    assert similar.split(", ") == ["visit-100", "visit-1002", "visit-101"]
    assert "similar" not in run(tmp_path, shop(), log, session="zzz").stderr


@pytest.mark.parametrize(
    ("arguments", "message_of"),
    [
        (["uswm", SESSION, "--log", "{tmp}/none"], "No such file"),
        (["uswm", SESSION, "--log", "{tmp}/bad"], "line 1: not a message of a recorded log"),
        (["nobody", SESSION], "there is no tenant 'nobody' in the configuration; there are uswm"),
        (["uswm", "\ud800"], "a sessionId is UTF-8 text"),
        (["uswm", SESSION], "no Kafka broker answers at 127.0.0.1:1"),
        (["uswm", SESSION, "--config", "{tmp}/none"], "cannot be read"),
    ],
)
def test_faults(arguments: list[str], message_of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message on stderr and exit status 2; the configuration is the one that MONITOR_CONFIG names."""
    monkeypatch.setattr("monitor.topics.kafka.ANSWER_S", 0.5)
    config = tmp_path / "monitor.toml"
    config.write_text(to_toml(shop() | {"kafka": {"brokers": "127.0.0.1:1"}}))
    (tmp_path / "bad").write_text("{}\n")
    filled = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    result = CliRunner(env={"MONITOR_CONFIG": str(config)}).invoke(app, ["explain", *filled])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message_of in result.stderr
    assert result.stderr.startswith("monitor: ")
    assert "--config" in arguments or result.stderr.count("\n") == 1


def test_reading_topics(real_kafka: Kafka, tmp_path: Path) -> None:
    """Without a log all topics of the configuration are read to their end, and give the same explanation."""
    names = [f"explain-{uuid.uuid4().hex}" for _ in range(2)]
    for name in names:
        real_kafka.create_topic(name, partitions=2)
    log = [message_._replace(timestamp=message_.timestamp) for message_ in worked_log()]
    other = message(12 * MIN, "item", sessionId="s-2")
    for name, messages in zip(names, ([*log, other], [other]), strict=True):
        with Publisher(real_kafka.bootstrap, name, {}) as publisher:
            for record in records(messages):
                publisher.send(record)
    kafka = {"brokers": real_kafka.bootstrap, "topics": names, "options": {"enable.auto.offset.store": False}}
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml(shop() | {"kafka": kafka}))
    result = CliRunner().invoke(app, ["explain", "uswm", SESSION, "--json", "--config", str(file)])
    assert result.exit_code == 0, result.output
    told, wanted = json.loads(result.stdout), json.loads(run(tmp_path, shop(), log, "--json").stdout)
    assert told["scanned"] == 6
    assert {seen["partition"] for seen in told["events"]} == {f"{names[0]}/0"}
    assert told["visits"] == wanted["visits"]
    assert told["corrections"] == wanted["corrections"]


@pytest.mark.parametrize(
    ("predicate", "words"),
    [
        ({}, "any event"),
        ({"event": ["view", "click"]}, "view or click"),
        ({"event": "view", "where": {"page": ["home", 1, 2.5, True]}}, 'view where page is "home" or 1 or 2.5 or true'),
        (
            {"where": {"a": {"not": "x"}, "b": {"exists": False}}},
            'any event where a is present and not "x" and b is absent',
        ),
        (
            {"where": {"n": {"min": 1, "max": 2.5, "exists": True}}},
            "any event where n is present and at least 1 and at most 2.5",
        ),
    ],
)
def test_predicates_in_words(predicate: dict[str, Any], words: str) -> None:
    """Every kind of condition can be read."""
    assert wording.predicate(PredicateTable.model_validate(predicate).predicate()) == words


def test_numbers_in_words() -> None:
    """Ordinals and durations, exactly."""
    assert [wording.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "13th",
        "21st",
        "112th",
    ]
    assert [seconds(n) for n in (0, 1, 250, 612_000, 1_010)] == ["0 s", "0.001 s", "0.25 s", "612 s", "1.01 s"]


def explained(config: Config, log: Sequence[Message], tenant: str, session_id: str) -> Explanation:
    """The explanation of a session of a log."""
    compiled = compiled_of(config)
    records_ = ((str(record.partition), record) for record in records(log))
    return explain(compiled, config["dc"], tenant, session_id, gather(compiled, tenant, session_id, records_))


def records(log: Sequence[Message]) -> Iterator[Record]:
    """The messages as a topic has them; their place in the log is their offset."""
    return (Record(m.partition, offset, m.timestamp, m.key, m.value) for offset, m in enumerate(log))


def by_arrival(found: Explanation) -> list[explain_messages.MessageReport]:
    return sorted(found.events, key=lambda seen: seen.arrival)


def event_ids(found: Explanation, arrivals: Sequence[int]) -> list[str | None]:
    ids = {seen.arrival: seen.event_id for seen in found.events}
    return [ids[arrival] for arrival in arrivals]


def event_of(config: Config, seen: explain_messages.MessageReport, log: Sequence[Message]) -> oracle.Event:
    event = oracle.classify(config, log[seen.offset], {}).event
    assert event is not None
    return event


def at(moment_: Any) -> int | None:
    return None if moment_ is None else moment_.time_ms


def keyed(amounts: Sequence[Amount]) -> dict[oracle.Key, int]:
    """Contributions as the oracle writes them."""
    return {(a.metric, a.minute_ms, tuple(sorted(a.tags.items()))): a.value for a in amounts}


def reasons(config: Config, log: Sequence[Message], tenant: str, session_id: str) -> list[str | None]:
    """What the oracle says to each message of a session: by its sessionId or, where it holds no event, by its key."""
    held: defaultdict[tuple[str, str], list[oracle.Event]] = defaultdict(list)
    found = []
    by_key = oracle.setting(config, "kafka", "key_is_session_id")
    for arrived in log:
        verdict = oracle.classify(config, arrived, held)
        event = verdict.event
        if verdict.reason is None and event is not None:
            held[event.tenant, event.session_id].append(event)
        if event is not None:
            is_of = (event.tenant, event.session_id) == (tenant, session_id)
        else:
            is_of = by_key and arrived.key == session_id.encode() and verdict.tenant in (tenant, oracle.UNKNOWN)
        if is_of:
            found.append(verdict.reason)
    return found


def contributed(config: Config, tenant: str, events: Sequence[oracle.Event]) -> Counter[oracle.Key]:
    """What all visits of some events contribute."""
    total: Counter[oracle.Key] = Counter()
    for run_ in oracle.runs(events, int(config["time"]["session_gap_s"] * 1000)):
        total.update(oracle.contributions(config, tenant, run_))
    return total


def wanted_outcome(
    tenant: Mapping[str, Any], experiment: str, events: Sequence[oracle.Event]
) -> tuple[str | None, int | None, int | None, int | None]:
    """Variation, assignment, crossing and qualification, by the contract."""
    table = tenant["experiments"][experiment]
    carried = [(event.time, oracle.said(experiment, table, event)) for event in events]
    carriers = [(time, variation) for time, variation in carried if variation in table["variations"]]
    if not carriers:
        return None, None, None, None
    assigned_at, variation = carriers[0]
    crossings = [time for time, carries in carriers if carries != variation]
    met_at = oracle.rule_time(table["qualified_when"], tenant["points"], events)
    qualified_at = None if met_at is None else max(assigned_at, met_at)
    return variation, assigned_at, crossings[0] if crossings else None, qualified_at


def wanted_tardy(config: Config, experiment: str, events: Sequence[oracle.Event]) -> int | None:
    """When the first event happened that is tardy, from the assignment on."""
    tardy_ms = oracle.setting(config, "time", "tardy_s") * 1_000
    found = oracle.attributed(config["tenants"][events[0].tenant], experiment, events, tardy_ms)
    return next((event.time for name, event, _ in found if name.startswith("tardy.")), None)


def assert_rule(told: Any, rule: Config, points: Config, events: Sequence[oracle.Event]) -> None:
    """Each clause of a rule is met when the oracle says, by an event that the oracle counts for it."""
    assert at(told.met) == oracle.rule_time(rule, points, events)
    parts: list[Config] = rule.get("all") or rule.get("any") or []
    if not parts and told.met is not None:
        counted = oracle.counted(points[rule["point"]] if "point" in rule else rule, events)
        assert told.met.event_id == counted[0].event_id
    for part, sub in zip(told.parts, parts, strict=True):
        assert_rule(part, sub, points, events)


def worked_example() -> Config:
    """The contract's example, with the points that it shows."""
    config = shop()
    config["tenants"]["uswm"]["points"] = {
        name: table for name, table in config["tenants"]["uswm"]["points"].items() if name in ("home_page", "item_page")
    }
    return config


def worked_log() -> list[Message]:
    """The events of the contract's example, the last one five minutes late."""
    late = message(10 * MIN, "home", 15 * MIN)
    return [message(12 * MIN, "item"), message(14 * MIN, "home"), message(15 * MIN, "item"), late]


def run(tmp_path: Path, config: Config, log: Sequence[Message], *options: str, session: str = SESSION) -> Result:
    """Runs the command on a recorded log."""
    file, path = tmp_path / "monitor.toml", tmp_path / "log.ndjson.gz"
    file.write_text(to_toml(config))
    recorded.write(path, records(log))
    arguments = ["explain", "uswm", session, "--log", str(path), "--config", str(file), *options]
    return CliRunner().invoke(app, arguments)


def cells(output: str) -> list[list[str]]:
    """The rows of the printed tables, without headings and what stands for rows left out."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]
    return [row for row in rows if row[0] != "..."]


def minute(text: str) -> int:
    """Minutes after the base of a minute as it is shown."""
    base = instant(BASE_MS)
    assert text[:10] == base[:10]
    hours, minutes = (int(text[i : i + 2]) - int(base[i : i + 2]) for i in (11, 14))
    return 60 * hours + minutes
