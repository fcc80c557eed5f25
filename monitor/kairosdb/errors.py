"""The errors of KairosDB's client: one family, so that a caller can catch all of it or the one case it can act on."""

from monitor.runtime.errors import MonitorError


class KairosDbError(MonitorError):
    """KairosDB did not do what was asked; the message says what was asked, what came, and what to check."""


class Unreachable(KairosDbError):
    """No answer, 429, or any 5xx except 500: the same request may succeed later.

    `retry_after_s` is the delay that the server asked for, in seconds; None if it asked for none. `is_busy`: 429, the
    answer of a server that is there and has too much to do.
    """

    def __init__(self, message: str, retry_after_s: float | None = None, is_busy: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.is_busy = is_busy


class Misconfigured(KairosDbError):
    """An answer that KairosDB itself never gives, so the URL or a proxy is wrong and no retry helps."""


class QueryRefused(KairosDbError):
    """400: the query breaks a rule of KairosDB."""


class QueryFailed(KairosDbError):
    """500: KairosDB could not answer the query. It says so too when a query covers too many points."""
