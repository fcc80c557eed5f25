"""What `monitor rejects` names is what the job refuses: counted as the oracle counts, each with its field or name."""

import json
import math
import tomllib
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from monitor.commands.main import app
from monitor.commands.run_folder import RunFile, write_run_file
from monitor.core.events import EventWarning, RejectReason
from monitor.explain import rejects as module
from monitor.explain.rejects import EXAMPLE_CHARACTERS_MAX, OTHERS, Rejects, rejects
from monitor.topics import recorded
from monitor.topics.kafka import Publisher
from monitor.topics.recorded import Record
from tests.support import oracle
from tests.support.driver import compiled_of
from tests.support.messages import BASE_MS, MINUTE_MS, message, shop
from tests.support.oracle import Message
from tests.support.servers import Kafka
from tests.support.strategies import Config, configs, logs, to_toml

MIN = MINUTE_MS


@given(st.data())
def test_the_counts_are_the_oracles(data: st.DataObject) -> None:
    """Rejections and warnings by tenant and reason, of any log under any configuration; each has a fault."""
    config = tomllib.loads(to_toml(data.draw(configs())))
    log = data.draw(logs(config))
    wanted = oracle.answer(config, log)
    found = of(config, log)
    counts = {(tenant, reason): count for reason, tenant, count in found.counts}
    assert counts == dict(wanted.rejected) | {key: count for key, count in wanted.warnings.items() if count}
    named = {(finding.tenant, finding.reason) for finding in found.findings if finding.fault and finding.messages > 0}
    assert named == counts.keys()


def test_each_fault_has_its_name() -> None:
    """The field with what it holds, the name that is not configured, whose time it is."""
    config = shop(events_per_visit=2)
    config["limits"]["message_bytes"] = 1_000
    late = {"page": "home", "device": "tablet", "loggedIn": True}
    log = [
        message(0, "home", eventId="a"),
        message(1, "home", eventId="a"),
        message(2, "home", eventId="b"),
        message(3, "home", eventId="c"),
        message(0, None, 11 * MIN, attributes=late, sessionId="s-2"),
        message(13 * MIN, None, 11 * MIN, attributes=late, sessionId="s-2"),
        message(11 * MIN, "home", tenant="nobody"),
        message(11 * MIN, "home", sessionId="s-3", time="2026-11-28T12:00:00Z", event=7),
        message(11 * MIN, "home", sessionId="s-4", assignments={"size": "xl", "button_color": "green"}),
        message(11 * MIN, None, sessionId="s-5", event="order", attributes={"total": "1,50"}),
        message(11 * MIN, "home", sessionId="s-6")._replace(key=b"k"),
        message(11 * MIN, "x" * 1_000),
        Message(0, 0, BASE_MS + 11 * MIN, b"s-7", b'{"a": NaN}'),
    ]
    found = {(finding.reason, finding.tenant, finding.fault): finding.why for finding in of(config, log).findings}
    assert found == {
        ("duplicate", "uswm", "eventId"): "",
        ("visit_full", "uswm", "sessionId s-1"): "",
        ("late", "uswm", "time, of device=other login=true"): "arrived 660 s after it happened",
        ("future", "uswm", "time, of device=other login=true"): "happened 120 s after it arrived",
        ("unknown_tenant", "unknown", "tenant nobody"): "",
        ("bad_field", "uswm", "time: text"): "time must be a whole number of milliseconds since 1970; got "
        '"2026-11-28T12:00:00Z"',
        ("bad_field", "uswm", "event: a number"): "event must be text; got 7",
        ("unknown_experiment", "uswm", "size"): "",
        ("unknown_variation", "uswm", "button_color=green"): "",
        ("bad_value", "uswm", "total of point order"): 'is "1,50"',
        ("key_mismatch", "uswm", "message key"): "key k, sessionId s-6",
        ("oversized", "unknown", "longer than limits.message_bytes"): f"{len(log[11].value or b''):,} bytes, "
        "allowed 1,000",
        ("not_json", "unknown", "not JSON: NaN is no number"): "",
    }


def test_a_value_that_is_not_finite_is_not_called_null() -> None:
    """JSON can write it, and nothing can sum it."""
    (finding,) = of(shop(), [message(0, event="order", attributes={"total": math.inf})]).findings
    assert (finding.fault, finding.why) == ("total of point order", "is beyond any number that can be summed")


def test_the_last_example_is_kept_and_shortened() -> None:
    """How often, when last, and the beginning of that message."""
    log = [message(n * MIN, "home", time=f"{n}" * 300, sessionId=f"s-{n}", eventId="e") for n in range(3)]
    (finding,) = of(shop(), log).findings
    assert (finding.messages, finding.last_ms) == (3, BASE_MS + 2 * MIN)
    assert len(finding.example) == EXAMPLE_CHARACTERS_MAX
    assert '"s-2"' in finding.example


def test_only_the_last_minutes_and_only_one_reason() -> None:
    """What was before still decides: a repetition is one, though the first of the two is not looked at."""
    log = [
        message(0, "home", sessionId="s-2", time="x"),
        message(0, "home"),
        message(5 * MIN, "item", 5 * MIN),
        message(0, "home", 6 * MIN),
        message(6 * MIN, "home", sessionId="s-2", time="x"),
    ]
    log = [sent._replace(timestamp=BASE_MS + at * MIN) for sent, at in zip(log, (0, 0, 5, 6, 6), strict=True)]
    assert of(shop(), log).counts == [("bad_field", "uswm", 2), ("duplicate", "uswm", 1)]
    assert of(shop(), log, BASE_MS + 1).counts == [("duplicate", "uswm", 1), ("bad_field", "uswm", 1)]
    assert of(shop(), log, 0, "duplicate").counts == [("duplicate", "uswm", 1)]


def test_faults_beyond_the_bound_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """By reason and tenant; those that are named go on being counted by name."""
    monkeypatch.setattr(module, "FINDINGS_MAX", 2)
    log = [message(n, "home", tenant=f"t{n % 4}", eventId=f"{n}") for n in range(8)]
    found = of(shop(), log)
    assert found.counts == [("unknown_tenant", "unknown", 8)]
    assert {finding.fault: finding.messages for finding in found.findings} == {
        "tenant t0": 2,
        "tenant t1": 2,
        OTHERS: 4,
    }


def test_partitions_one_after_the_other(tmp_path: Path) -> None:
    """A log in the order of its partitions is judged as one in the order of time: none is late for that."""
    log = [message(20 * MIN, "home", sessionId="s-1"), message(MIN, "home", sessionId="s-2")._replace(partition=1)]
    result = run(tmp_path, shop(), log)
    assert (result.exit_code, result.stdout) == (
        0,
        "2 messages read\nnothing was rejected, and there are no warnings\n",
    )


def test_what_people_read(tmp_path: Path) -> None:
    """A block for each reason and tenant; nothing controls the terminal."""
    log = [
        message(0, "home", sessionId="s-2" * 20, time="\x1b[31m"),
        message(MIN, "home", MIN, assignments={"button_color": "gr\u202een"}),
    ]
    result = run(tmp_path, shop(), log)
    assert result.exit_code == 0, result.output
    example = (log[0].value or b"").decode()
    assert result.stdout.splitlines()[:6] == [
        "2 messages read",
        "",
        "bad_field, tenant uswm: 1 rejected",
        "  time: text: 1, last at 2026-11-24 03:30:00Z",
        '    time must be a whole number of milliseconds since 1970; got "\\u001b[31m"',
        f"    {example[: EXAMPLE_CHARACTERS_MAX - 3]}...",
    ]
    assert "unknown_variation, tenant uswm: 1 warning" in result.stdout
    assert r"  button_color=gr\u202een: 1, last at" in result.stdout
    assert result.stdout.isascii()


def test_the_last_minutes_of_a_log_are_counted_from_its_end(tmp_path: Path) -> None:
    """As JSON, with the time since when."""
    log = [message(at * MIN, "home", at * MIN, time="x", sessionId="s") for at in (0, 1, 20)]
    log = [sent._replace(timestamp=BASE_MS + at * MIN) for sent, at in zip(log, (0, 10, 20), strict=True)]
    told = json.loads(run(tmp_path, shop(), log, "--last", "10m", "--json").stdout)
    assert told["since_ms"] == BASE_MS + 10 * MIN
    assert told["counts"] == [["bad_field", "uswm", 2]]


def test_wrong_clocks_are_not_the_end_of_a_log(tmp_path: Path) -> None:
    """A tenth of its last messages may be stamped ahead, in whatever unit."""
    log = [message(0, time="x", sessionId="s")._replace(timestamp=BASE_MS + at * MIN) for at in range(20)]
    log += [log[0]._replace(timestamp=BASE_MS * 1_000), log[0]._replace(timestamp=2**63 - 1)]
    told = json.loads(run(tmp_path, shop(), log, "--last", "10m", "--json").stdout)
    assert told["since_ms"] == BASE_MS + 9 * MIN


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--last", "ten"], "--last must be a duration such as 90s, 10m, 2h or 1d; got 'ten'"),
        (["--reason", "odd"], "--reason must be one of oversized, not_json, bad_field"),
        (["--log", "{tmp}/none"], "No such file"),
        (["--run", "{tmp}"], "must be the folder of a `monitor run`; there is no "),
        (["--run", "{tmp}", "--log", "{tmp}/none"], "--run names the log too: leave --log out"),
    ],
)
def test_faults(tmp_path: Path, arguments: list[str], said: str) -> None:
    """One message, exit status 2."""
    filled = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    result = CliRunner().invoke(app, ["rejects", *filled])
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_run_is_suggested_where_there_is_no_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder is the default one: the same message says how to read it."""
    monkeypatch.setattr("monitor.topics.kafka.ANSWER_S", 0.5)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml(shop() | {"kafka": {"brokers": "127.0.0.1:1"}}))
    arguments = ["rejects", "--config", str(file)]
    assert "--run" not in CliRunner().invoke(app, arguments).stderr
    (tmp_path / "var").mkdir()
    write_run_file(Path("var"), RunFile(str(file), "http://127.0.0.1:1", "http://127.0.0.1:1"))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.endswith("; the `monitor run` in var uses no Kafka: say --run var to read it\n")


def test_of_a_topic(real_kafka: Kafka, tmp_path: Path) -> None:
    """The topics of the configuration are read once more, to their end."""
    name = f"rejects-{uuid.uuid4().hex}"
    real_kafka.create_topic(name, partitions=2)
    log = [message(0, "home"), message(1, "home", sessionId="s-2", time=5.5)._replace(partition=1)]
    with Publisher(real_kafka.bootstrap, name, {}) as publisher:
        for record in records(log):
            publisher.send(record)
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml(shop() | {"kafka": {"brokers": real_kafka.bootstrap, "topics": [name]}}))
    told = json.loads(CliRunner().invoke(app, ["rejects", "--config", str(file), "--json"]).stdout)
    assert told["scanned"] == 2
    (finding,) = told["findings"]
    assert (finding["fault"], finding["messages"]) == ("time: a number", 1)


def test_a_topic_that_begins_with_a_wrong_clock(real_kafka: Kafka, tmp_path: Path) -> None:
    """Its partition is then read after the other one, and nothing in it is late for that."""
    name = f"rejects-{uuid.uuid4().hex}"
    real_kafka.create_topic(name, partitions=2)
    log = [
        message(at_ms, "home", at_ms, sessionId=f"s-{partition}-{at_ms}")._replace(partition=partition)
        for partition in (0, 1)
        for at_ms in range(0, 60 * MIN, 10_000)
    ]
    log[0] = log[0]._replace(timestamp=BASE_MS * 1_000)
    with Publisher(real_kafka.bootstrap, name, {}) as publisher:
        for record in records(log):
            publisher.send(record)
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml(shop() | {"kafka": {"brokers": real_kafka.bootstrap, "topics": [name]}}))
    told = json.loads(CliRunner().invoke(app, ["rejects", "--config", str(file), "--json"]).stdout)
    assert (told["scanned"], told["counts"]) == (len(log), [["late", "uswm", 1]])


def test_every_reason_can_be_asked_for(tmp_path: Path) -> None:
    """Of rejections and of warnings."""
    for reason in (*RejectReason, *EventWarning):
        assert run(tmp_path, shop(), [message(0, "home")], "--reason", reason).exit_code == 0


def of(config: Config, log: Sequence[Message], since_ms: int = 0, reason: str | None = None) -> Rejects:
    """The rejects of a log."""
    partitions = sorted({str(sent.partition) for sent in log})
    numbered = ((str(record.partition), record) for record in records(log))
    return rejects(compiled_of(config), numbered, partitions, since_ms, reason)


def records(log: Sequence[Message]) -> list[Record]:
    """The messages as a topic has them."""
    return [Record(m.partition, offset, m.timestamp, m.key, m.value) for offset, m in enumerate(log)]


def run(tmp_path: Path, config: Config, log: Sequence[Message], *options: Any) -> Result:
    """Runs the command on a recorded log."""
    file, path = tmp_path / "monitor.toml", tmp_path / "log.ndjson.gz"
    file.write_text(to_toml(config))
    recorded.write(path, records(log))
    return CliRunner().invoke(app, ["rejects", "--log", str(path), "--config", str(file), *options])
