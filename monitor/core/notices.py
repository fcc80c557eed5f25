"""Notices about topics: what is no error but may cost numbers; the job gives them as gauge `monitor.notice`. Pure."""

CREATE_TIME = "create_time"
SHORT_RETENTION = "short_retention"
SINGLE_REPLICA = "single_replica"
COMPACTED = "compacted"
SETTINGS_UNKNOWN = "settings_unknown"

NOTICES = {
    CREATE_TIME: "messages carry the time of the producer's clock (message.timestamp.type is CreateTime): "
    "LogAppendTime does not depend on it",
    SHORT_RETENTION: "messages are kept for less than 6 hours (retention.ms): what a longer outage of the job leaves "
    "unread is lost",
    SINGLE_REPLICA: "a partition has one replica only: what its broker loses is lost",
    COMPACTED: "the topic is compacted (kafka.allow_compacted is set): of messages with one key the earlier ones "
    "vanish, and a replay does not see them",
    SETTINGS_UNKNOWN: "the topic's settings could not be read: allow the user DESCRIBE_CONFIGS on the topic",
}
"""The notices, as the tag `notice` names them, and what each means."""
