"""The topic, on a real Kafka: what another system that reads it gets."""

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.alerts.changes import Message
from monitor.alerts.outcomes import Verdict
from monitor.alerts.topic import Topic
from monitor.config.alerts import AlertsKafkaTable
from monitor.config.settings import KafkaTable
from monitor.topics.kafka import read_topic
from monitor.verdicts.judge import State
from tests.support.alert_case import AT_MS, SECRET, change, delivered, settings, telling
from tests.support.secure_kafka import SecureKafka
from tests.support.servers import Kafka, require


def new_topic(real_kafka: Kafka, partitions: int = 4) -> str:
    """A topic of the test's own."""
    topic = f"alerts-{uuid.uuid4().hex}"
    real_kafka.create_topic(topic, partitions)
    return topic


def test_changes_come_by_tenant_and_experiment(real_kafka: Kafka, tmp_path: Path) -> None:
    """The key is `TENANT EXPERIMENT`; all of an experiment is in one partition, in order."""
    topic = new_topic(real_kafka)
    alerts = settings(kafka={"topic": topic, "brokers": real_kafka.bootstrap})
    with telling(alerts, tmp_path / "outbox") as teller:
        for minute, state in enumerate([State.HOLD, State.STOP, State.HEALTHY]):
            teller.tell([change(state, minute=minute, experiment=name) for name in ("one", "two", "three")], AT_MS)
        delivered(teller)
        assert teller.counts()["kafka"].accepted == 9
    states, partitions = defaultdict(list), defaultdict(set)
    for record in read_topic(real_kafka.bootstrap, topic, {}, None):
        assert record.key is not None
        assert record.value is not None
        document = json.loads(record.value)
        assert record.key.decode() == f"uswm {document['experiment']}"
        assert abs(record.timestamp_ms - time.time() * 1_000) < 600_000
        states[record.key].append(document["state"])
        partitions[record.key].add(record.partition)
    assert states == {f"uswm {name}".encode(): ["hold", "stop", "healthy"] for name in ("one", "two", "three")}
    assert all(len(numbers) == 1 for numbers in partitions.values())


def test_the_partition_is_that_of_javas_clients(real_kafka: Kafka) -> None:
    """By murmur2, so that a topic of the reader's own with as many partitions fits beside it.

    By hand with Kafka's `Utils.toPositive(Utils.murmur2(key)) % 4`.
    """
    topic = new_topic(real_kafka)
    table = AlertsKafkaTable(topic=topic, brokers=real_kafka.bootstrap)
    message = Message((change(),))
    assert Topic(table, KafkaTable(), {}).send(message).verdict is Verdict.ACCEPTED
    (record,) = read_topic(real_kafka.bootstrap, topic, {}, None)
    assert record.key is not None
    assert record.partition == (murmur2(record.key) & 0x7FFF_FFFF) % 4


def test_a_topic_that_is_not_there_is_tried_again(real_kafka: Kafka, tmp_path: Path) -> None:
    """And gets all once it is made."""
    topic = f"alerts-{uuid.uuid4().hex}"
    alerts = settings(kafka={"topic": topic, "brokers": real_kafka.bootstrap, "timeout_s": 1})
    with telling(alerts, tmp_path / "outbox") as teller:
        teller.tell([change()], AT_MS)
        teller.deliver_due(AT_MS)
        (attempt,) = teller.attempts()
        assert attempt.verdict == "failed"
        assert topic in attempt.text
        real_kafka.create_topic(topic)
        delivered(teller)
    assert len(list(read_topic(real_kafka.bootstrap, topic, {}, None))) == 1


def test_brokers_that_do_not_answer_are_tried_again() -> None:
    """Within the time limit."""
    table = AlertsKafkaTable(topic="alerts", brokers="127.0.0.1:1", timeout_s=0.5)
    start_s = time.monotonic()
    outcome = Topic(table, KafkaTable(), {}).send(Message((change(),)))
    assert (outcome.verdict, outcome.is_of_target) == (Verdict.FAILED, True)
    assert time.monotonic() - start_s < 10


@pytest.mark.parametrize("option", [{"no.such.option": "x"}, {"sasl.mechanism": "NO-SUCH"}])
def test_options_that_cannot_be_used_are_a_failed_attempt(option: dict[str, str | int | float | bool]) -> None:
    """Not a fault of the thread; the text names them, and not the password."""
    table = AlertsKafkaTable(
        topic="alerts",
        brokers="127.0.0.1:1",
        options={"security.protocol": "SASL_PLAINTEXT", **option},
        password_env="P",
    )
    outcome = Topic(table, KafkaTable(), {"P": SECRET}).send(Message((change(),)))
    assert outcome.verdict is Verdict.FAILED
    assert next(iter(option)) in outcome.text or "NO-SUCH" in outcome.text
    assert SECRET not in outcome.text


def test_without_brokers_it_is_on_the_cluster_of_the_events() -> None:
    """With its options; with brokers of its own it gets none of them: they may hold a password."""
    events = KafkaTable(brokers="events:1", options={"sasl.password": SECRET, "enable.auto.commit": False})
    shared = Topic(AlertsKafkaTable(topic="alerts"), events, {})
    assert (shared._brokers, shared._options["sasl.password"]) == ("events:1", SECRET)
    assert shared._options["enable.auto.commit"] == "false"
    own = Topic(AlertsKafkaTable(topic="alerts", brokers="own:1"), events, {})
    assert own._brokers == "own:1"
    assert SECRET not in own._options.values()


@pytest.fixture(scope="module")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A broker with TLS and logins."""
    require()
    with SecureKafka(tmp_path_factory.mktemp("secure")) as server:
        server.create_topic("alerts")
        yield server


@pytest.mark.parametrize(("password", "verdict"), [("admin-secret", Verdict.ACCEPTED), ("stale", Verdict.FAILED)])
def test_the_password_comes_from_the_environment(secure_kafka: SecureKafka, password: str, verdict: Verdict) -> None:
    """With TLS and SCRAM; one that is refused is told as the broker says it, and not shown."""
    options = {name: value for name, value in secure_kafka.login("admin").items() if name != "sasl.password"}
    table = AlertsKafkaTable(
        topic="alerts", brokers=secure_kafka.bootstrap, options=options, password_env="PASSWORD", timeout_s=10
    )
    outcome = Topic(table, KafkaTable(), {"PASSWORD": password}).send(Message((change(),)))
    assert outcome.verdict is verdict
    assert ("uthentication failed" in outcome.text) is (verdict is Verdict.FAILED)
    assert password not in outcome.text


def murmur2(data: bytes) -> int:
    """The hash of Kafka's Java clients (org.apache.kafka.common.utils.Utils.murmur2), as an unsigned number."""
    mask, m = 0xFFFF_FFFF, 0x5BD1_E995
    h = 0x9747_B28C ^ len(data)
    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
