"""What Kafka's brokers say: a client's reports about its connections, and errors as messages that name the remedy.

A request that fails says only that no answer came. Why is in the reports: the client gives them to its `error_cb`, in
the thread that polls it.
"""

from confluent_kafka import KafkaError

LOGIN_ERRORS = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE,
}
RIGHTS_ERRORS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
TRANSPORT_ERRORS = {KafkaError._RESOLVE, KafkaError._TRANSPORT}
OPTIONS = "in the options of the Kafka client (kafka.options, or --option of a command)"


class BrokerReports:
    """The newest report of each kind since the last answer; bounded by the number of error codes."""

    def __init__(self) -> None:
        self._newest: dict[int, KafkaError] = {}

    def heard(self, error: KafkaError) -> None:
        """Takes in a report: the client's `error_cb`."""
        self._newest[error.code()] = error

    def forget(self) -> None:
        """A broker has answered."""
        self._newest.clear()

    def cause(self) -> KafkaError | None:
        """The report that says most: a refused login or certificate before a connection that failed or was closed."""
        for codes in (LOGIN_ERRORS, {KafkaError._SSL}, TRANSPORT_ERRORS):
            for code in codes:
                if code in self._newest:
                    return self._newest[code]
        return None

    def are_closed(self) -> bool:
        """True if connections are made but closed: the client has no other word for it than that all are down."""
        return KafkaError._ALL_BROKERS_DOWN in self._newest and self.cause() is None

    def details(self) -> dict[str, str]:
        """The cause as a detail of a log line; nothing if there is none."""
        cause = self.cause()
        return {} if cause is None else {"client_says": cause.str()}


def no_connection(brokers: str, error: KafkaError, reports: BrokerReports) -> str:
    """Why no broker has answered a request, which failed with `error`, and what to check."""
    cause = reports.cause() or error
    reason = cause.str()
    if cause.code() in LOGIN_ERRORS:
        return f"Kafka at {brokers} refuses the login: {reason}; check sasl.* {OPTIONS}"
    if cause.code() == KafkaError._SSL:
        return (
            f"no secure connection to Kafka at {brokers}: {reason}; "
            f"check security.protocol, ssl.ca.location and the other ssl.* {OPTIONS}"
        )
    if reports.are_closed():
        return (
            f"what listens at {brokers} closes the connections: it may want TLS or a login, or be no Kafka; "
            f"check kafka.brokers, and security.protocol {OPTIONS}"
        )
    return f"no Kafka broker answers at {brokers}: {reason}; check kafka.brokers and that Kafka is up"


def no_topic(brokers: str, topic: str, error: KafkaError | None) -> str:
    """Why a topic cannot be read, and what to do; `error` is what the broker says of it."""
    if error is not None and error.code() in RIGHTS_ERRORS:
        return (
            f"the topic '{topic}' cannot be read at {brokers}: {error.str()}; "
            "allow the user READ, DESCRIBE and DESCRIBE_CONFIGS on it"
        )
    reason = error.str() if error is not None else "it has no partitions"
    return f"the topic '{topic}' cannot be read at {brokers}: {reason}; create it or change kafka.topics"
