"""The settings of a topic at the broker, as far as they matter to totals: a topic that loses messages is refused."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the last two are not in its __all__
    AdminClient,
    ConfigResource,
    TopicMetadata,
)

from monitor.core.notices import COMPACTED, CREATE_TIME, SETTINGS_UNKNOWN, SHORT_RETENTION, SINGLE_REPLICA
from monitor.runtime.errors import JobError

RETENTION_MS_MIN = 6 * 3_600_000
"""A topic that keeps messages for less is told: an outage of a night loses some."""
ANSWER_S = 10.0


class TopicSettings(NamedTuple):
    """`broker_time`: the broker sets the timestamps; False if unknown, the first message then decides.

    `notices`: names of `monitor.core.notices`.
    """

    broker_time: bool
    notices: tuple[str, ...]


def topic_settings(admin: AdminClient, topic: TopicMetadata, allow_compacted: bool) -> TopicSettings:
    """The settings; raises JobError if the topic is compacted and that is not allowed."""
    assert topic.topic is not None, "metadata has the name of its topic"
    config = _config(admin, topic.topic)
    if not allow_compacted and _is_compacted(config):
        msg = (
            f"the topic '{topic.topic}' is compacted (cleanup.policy={config['cleanup.policy']}): of messages with one "
            "key all but the last vanish, and with them events; "
            "set cleanup.policy=delete, or kafka.allow_compacted = true to read it nevertheless"
        )
        raise JobError(msg)
    return TopicSettings(config.get("message.timestamp.type") == "LogAppendTime", tuple(_notices(topic, config)))


def _config(admin: AdminClient, topic: str) -> Mapping[str, Any]:
    """The topic's settings by name; empty if they may not be read."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    try:
        config = admin.describe_configs([resource], request_timeout=ANSWER_S)[resource].result(ANSWER_S)
    except (KafkaException, TimeoutError):
        return {}
    return {name: entry.value for name, entry in config.items()}


def _notices(topic: TopicMetadata, config: Mapping[str, Any]) -> Iterator[str]:
    if not config:
        yield SETTINGS_UNKNOWN
    elif config["message.timestamp.type"] != "LogAppendTime":
        yield CREATE_TIME
    if _is_compacted(config):
        yield COMPACTED
    if "delete" in config.get("cleanup.policy", "") and 0 <= int(config["retention.ms"]) < RETENTION_MS_MIN:
        yield SHORT_RETENTION
    if any(len(partition.replicas) == 1 for partition in topic.partitions.values()):
        yield SINGLE_REPLICA


def _is_compacted(config: Mapping[str, Any]) -> bool:
    return "compact" in config.get("cleanup.policy", "")
