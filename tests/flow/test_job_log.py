"""The log of a job that is well: start, ready, progress, end; in one style of event names."""

import ast
import json
import re
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from monitor import __version__
from monitor.config.reader import config_hash, parse
from monitor.core.metrics import health_series
from monitor.flow import job_log
from monitor.flow.job_log import JobLog
from monitor.flow.telemetry import Telemetry
from monitor.runtime import reporting
from tests.support.job import Job, configured, messages_counted
from tests.support.messages import shop
from tests.support.servers import Kafka

ROOT = Path(__file__).parents[2]
SHOP = shop()
EVENTS = health_series("events", tenant="uswm")
REJECTED = health_series("rejected", tenant="uswm", reason="not_json")
RECORDS = 30


def test_the_start_says_where_each_partition_begins() -> None:
    """Of the first hundred; notices about topics follow, with what they mean."""
    begins = {f"t/{number}": number for number in range(job_log.PARTITIONS_TOLD + 5)}
    with capture_logs() as logs:
        JobLog(Telemetry()).started(begins, {"t": ("create_time",), "u": ()}, version="1", dc="dal")
    started, notice = logs
    assert {**started, "begins": None} == {
        "event": "job_started",
        "log_level": "info",
        "version": "1",
        "dc": "dal",
        "partitions": job_log.PARTITIONS_TOLD + 5,
        "begins": None,
    }
    assert started["begins"] == dict(list(begins.items())[: job_log.PARTITIONS_TOLD])
    assert (notice["event"], notice["topic"], notice["notice"]) == ("topic_notice", "t", "create_time")
    assert "producer" in notice["means"]


def test_it_is_ready_once_and_then_silent_for_minutes() -> None:
    """The first batch that went through says that it is ready."""
    log = JobLog(Telemetry(), every_s=1_000)
    with capture_logs() as logs:
        for _ in range(3):
            log.counted({EVENTS: 5}, {})
    assert [entry["event"] for entry in logs] == ["job_ready"]


def test_progress_has_what_was_added_since_the_last_time() -> None:
    """Counters since the last line, present gauges; a snapshot counts once, however many partitions there are."""
    log = JobLog(Telemetry(), every_s=0)
    gauges = {(health_series("lag", topic="t", partition=n), ""): 7 for n in "01"}
    with capture_logs() as logs:
        for partition in ("t/0", "t/1", "t/0", "t/1"):
            log.snapshot(partition)
        log.counted({EVENTS: 5, REJECTED: 2}, gauges)
        log.snapshot("t/0")
        log.counted({EVENTS: 1}, {})
    ready, first, second = logs
    assert (ready["event"], first["event"], second["event"]) == ("job_ready", "job_progress", "job_progress")
    assert (first["events"], first["rejected"], first["snapshots"], first["lag"]) == (5, 2, 2, 14)
    assert (second["events"], second["rejected"], second["snapshots"], second["lag"]) == (1, 0, 1, 14)


def test_the_end_has_the_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that had not yet gone into the flow too; after an error the reason was said, and there are no totals."""
    monkeypatch.setattr(reporting, "failed", threading.Event())  # other tests let jobs fail
    monkeypatch.setattr(reporting.reported, "reports", 0)
    telemetry = Telemetry()
    log = JobLog(telemetry)
    log.counted({EVENTS: 5}, {})
    log.counted({EVENTS: 6}, {})
    telemetry.count("points_written", 9)
    with capture_logs() as logs:
        log.stopped()
    (stopped,) = logs
    assert (stopped["event"], stopped["events"], stopped["points_written"]) == ("job_stopped", 11, 9)
    monkeypatch.setattr(reporting.reported, "reports", 1)
    with capture_logs() as logs:
        log.stopped()
    assert logs == []


def test_the_hash_is_of_the_configuration_without_secrets() -> None:
    """Equal for equal configurations, another one for a change, and none of the client's options in it."""
    hashes = [
        config_hash(parse(SHOP | {"dc": "dal"} | change))
        for change in (
            {},
            {"kafka": {"options": {"sasl.password": "secret"}}},
            {"kairosdb": {"dead_letters": "of-process-1.jsonl"}},
            {"time": {"flush_s": 3}},
        )
    ]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]
    assert re.fullmatch("[0-9a-f]{12}", hashes[0])


def test_a_job_logs_its_life(real_kafka: Kafka, real_kairosdb: str, tmp_path: Path) -> None:
    """Each line is JSON; the second run begins where the first has ended."""
    real_kafka.create_topic("life", 2)
    real_kafka.produce("life", ((number % 2, b"key", b"{}", None) for number in range(RECORDS)))
    job = Job(tmp_path, configured(SHOP, "life", real_kafka, ["life"], real_kairosdb, tmp_path))
    lives = []
    for _ in range(2):
        with job.running() as run:
            run.awaits(lambda: messages_counted(real_kairosdb, "life") == RECORDS, "messages")
            run.awaits(lambda: "job_ready" in run.said(), "ready job")
            run.stop()
            lives.append([json.loads(line) for line in run.said().splitlines()])
    for entries, offset, rejected in zip(lives, (0, RECORDS // 2), (RECORDS, 0), strict=True):
        names = [entry["event"] for entry in entries]
        assert [names[0], names[-2], names[-1]] == ["job_started", "job_ready", "job_stopped"]
        started, stopped = entries[0], entries[-1]
        assert (started["version"], started["dc"], started["topics"]) == (__version__, "life", ["life"])
        assert started["begins"] == {"life/0": offset, "life/1": offset}
        assert len(started["config_hash"]) == 12
        assert stopped["rejected"] == rejected
        assert stopped["snapshots"] >= 1


def test_event_names_are_in_one_style() -> None:
    """snake_case, in all of the product: text that is logged is a name to search for."""
    found = 0
    for path in sorted((ROOT / "monitor").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and _is_log(call.func) and call.args):
                continue
            name = call.args[0]
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "x"
                for part in (name.values if isinstance(name, ast.JoinedStr) else [name])
            )
            assert re.fullmatch(r"[a-z]+(_[a-z]+)*", text), f"{path.name}:{call.lineno}: {text!r}"
            found += 1
    assert found > 10


def _is_log(function: ast.expr) -> bool:
    """True for a method of structlog's loggers, which are named `log` or `_log` everywhere."""
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id in ("log", "_log")
        and function.attr in ("debug", "info", "warning", "error", "critical", "exception")
    )
