"""The source and the job on a broker with TLS, logins and rights: what it refuses is told as it is."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation  # type: ignore[attr-defined]  # not in its __all__

from monitor.config.settings import KafkaTable
from monitor.core.notices import NOTICES
from monitor.flow.source import KafkaSource
from monitor.runtime.errors import JobError
from monitor.topics.kafka import TopicError, partitions_of
from tests.support.job import Job, configured, health, messages_counted
from tests.support.messages import shop
from tests.support.secure_kafka import Options, SecureKafka, token_endpoint
from tests.support.servers import Kafka, require

TOPIC, RECORDS = "secure", 50
READ_S = 60.0
HOUR_MS = 3_600_000
SHOP = shop()


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A broker of its own: its topic may be read by `monitor` with all rights, and by `reader` with READ alone."""
    require()
    with SecureKafka(tmp_path_factory.mktemp("secure")) as server:
        server.create_topic(TOPIC, 2)
        server.produce(TOPIC, ((number % 2, b"key", b"{}", None) for number in range(RECORDS)))
        server.allow("monitor", TOPIC, AclOperation.READ, AclOperation.DESCRIBE_CONFIGS)
        server.allow("reader", TOPIC, AclOperation.READ)
        yield server


def by_token(kafka: SecureKafka, **more: str | bool) -> Options:
    """The options of a login by OAUTHBEARER; names have `_` for `.`."""
    options: Options = {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": kafka.ca,
        "sasl.mechanism": "OAUTHBEARER",
    }
    return options | {name.replace("_", "."): value for name, value in more.items()}


def without(options: Options, name: str) -> Options:
    return {key: value for key, value in options.items() if key != name}


@pytest.mark.parametrize(
    ("user", "notices"),
    [("monitor", {"create_time", "single_replica"}), ("reader", {"settings_unknown", "single_replica"})],
)
def test_a_login_by_password_reads_all(kafka: SecureKafka, user: str, notices: set[str]) -> None:
    """SCRAM-SHA-512 over TLS. Without DESCRIBE_CONFIGS the topic's settings are unknown, which is told."""
    source = KafkaSource(KafkaTable(brokers=kafka.bootstrap, topics=[TOPIC], options=kafka.login(user)), 1_000)
    source.check({})
    assert source.begins == {f"{TOPIC}/0": 0, f"{TOPIC}/1": 0}
    assert set(source.notices[TOPIC]) == notices
    assert notices <= NOTICES.keys()
    assert read(source) == RECORDS


def test_a_login_by_a_token_of_its_own_reads_all(kafka: SecureKafka) -> None:
    """OAUTHBEARER with an unsigned token: the option for it reaches every client."""
    options = by_token(kafka, sasl_oauthbearer_config="principal=monitor")
    options |= {"enable.sasl.oauthbearer.unsecure.jwt": True}
    source = KafkaSource(KafkaTable(brokers=kafka.bootstrap, topics=[TOPIC], options=options), 1_000)
    source.check({})
    assert read(source) == RECORDS


def oidc(kafka: SecureKafka, url: str) -> Options:
    """The options of a login by a token that an endpoint gives; the endpoint's certificate is of the same authority."""
    options = by_token(kafka, sasl_oauthbearer_method="oidc", sasl_oauthbearer_client_id="monitor")
    return options | {
        "sasl.oauthbearer.client.secret": "any",
        "sasl.oauthbearer.token.endpoint.url": url,
        "https.ca.location": kafka.ca,
    }


def test_a_login_by_a_token_of_an_endpoint_reads_all(kafka: SecureKafka) -> None:
    """OIDC; `https.ca.location` reaches the admin client too, or else nothing would be known of the topic."""
    with token_endpoint(kafka.folder, "monitor") as url:
        source = KafkaSource(KafkaTable(brokers=kafka.bootstrap, topics=[TOPIC], options=oidc(kafka, url)), 1_000)
        source.check({})
        assert read(source) == RECORDS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (lambda kafka: kafka.login("monitor", sasl_password="wrong"), ("refuses the login", "invalid credentials")),
        (lambda kafka: kafka.login("monitor", sasl_mechanism="PLAIN"), ("refuses the login", "SCRAM-SHA-512")),
        (
            lambda kafka: without(kafka.login("monitor"), "ssl.ca.location"),
            ("no secure connection", "certificate verify failed", "ssl.ca.location"),
        ),
        (lambda _: {}, ("closes the connections", "security.protocol")),
        (lambda kafka: kafka.login("stranger"), ("authorization failed", "allow the user READ")),
        (lambda kafka: without(oidc(kafka, "https://localhost:1/token"), "x"), ("refuses the login", "token")),
    ],
    ids=["password", "mechanism", "ca", "protocol", "rights", "endpoint"],
)
def test_what_the_broker_refuses_is_told(
    kafka: SecureKafka, options: Callable[[SecureKafka], Options], words: tuple[str, ...]
) -> None:
    """Not that no broker answers: one does."""
    table = KafkaTable(brokers=kafka.bootstrap, topics=[TOPIC], options=options(kafka))
    with pytest.raises(JobError) as refused:
        KafkaSource(table, 1_000).check({})
    for word in words:
        assert word in str(refused.value)
    assert "no Kafka broker answers" not in str(refused.value)
    assert "wrong" not in str(refused.value), "a password is never told"


def test_a_command_tells_it_too(kafka: SecureKafka) -> None:
    """What reads a topic beside the job: verify, explain, record, simulate."""
    options = {name: str(value) for name, value in kafka.login("monitor", sasl_password="wrong").items()}
    with pytest.raises(TopicError, match="refuses the login"):
        partitions_of(kafka.bootstrap, TOPIC, options)


def test_the_job_reads_all_and_speaks_of_no_outage(kafka: SecureKafka, real_kairosdb: str, tmp_path: Path) -> None:
    """As its users run it, without any right on the group that its client must name; notices are health metrics."""
    config = configured(SHOP, "secure", kafka, [TOPIC], real_kairosdb, tmp_path)
    config["kafka"] |= {"options": kafka.login("monitor")}
    job = Job(tmp_path, config)
    with job.running() as run:
        run.awaits(lambda: messages_counted(real_kairosdb, "secure") == RECORDS, "messages")
        found = run.awaits(lambda: health(real_kairosdb, "secure", "notice")["notice"], "notice")
        run.stop()
        said = run.said()
    assert {(point.tags["topic"], point.tags["notice"], point.value) for point in found} == {
        (TOPIC, "create_time", 1),
        (TOPIC, "single_replica", 1),
    }
    assert "kafka_waiting" not in said
    for name in ("create_time", "single_replica"):
        assert f'"notice": "{name}"' in said


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_topic_is_refused(real_kafka: Kafka, policy: str) -> None:
    """Unless it is allowed, which then is a notice."""
    topic = f"compacted-{len(policy)}"
    real_kafka.create_topic(topic, config={"cleanup.policy": policy})
    table = KafkaTable(brokers=real_kafka.bootstrap, topics=[topic])
    with pytest.raises(JobError, match=f"'{topic}' is compacted .*kafka.allow_compacted"):
        KafkaSource(table, 1_000).check({})
    allowed = KafkaSource(table.model_copy(update={"allow_compacted": True}), 1_000)
    allowed.check({})
    assert "compacted" in allowed.notices[topic]


@pytest.mark.parametrize(
    ("config", "noticed"),
    [
        ({"retention.ms": str(6 * HOUR_MS - 1)}, {"short_retention", "create_time"}),
        ({"retention.ms": str(6 * HOUR_MS)}, {"create_time"}),
        ({"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}, set()),
        ({"retention.ms": "0", "message.timestamp.type": "LogAppendTime"}, {"short_retention"}),
    ],
)
def test_settings_of_a_topic_that_may_cost_numbers(
    real_kafka: Kafka, config: dict[str, str], noticed: set[str]
) -> None:
    """Both sides of each bound; one replica has every topic of a single broker."""
    topic = "-".join(["noticed", *config.values()])
    real_kafka.create_topic(topic, config=config)
    source = KafkaSource(KafkaTable(brokers=real_kafka.bootstrap, topics=[topic]), 1_000)
    source.check({})
    assert set(source.notices[topic]) == noticed | {"single_replica"}


def read(source: KafkaSource) -> int:
    """How many messages all partitions have, read to the end of what was written."""
    count = 0
    until_s = time.monotonic() + READ_S
    for name in source.list_parts():
        partition = source.build_part("source", name, None)
        try:
            while partition.snapshot()[1] < RECORDS // 2 and time.monotonic() < until_s:
                count += sum(len(chunk.messages) for chunk in partition.next_batch())
        finally:
            partition.close()
    return count
