"""Log lines about waiting for a server: when a wait begins, every half minute while it lasts, and when it is over."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

LOG_EVERY_S = 30.0

log = structlog.get_logger(__name__)


class WaitLog:
    """Logs one wait after another, whoever waits; `details` is called for each line."""

    def __init__(
        self, server: str, details: Callable[[], Mapping[str, Any]] = lambda: {}, every_s: float = LOG_EVERY_S
    ) -> None:
        self._server = server
        self._details = details
        self._every_s = every_s
        self._since_s: float | None = None
        self._said_s = 0.0

    def goes_on(self, came: str) -> None:
        """A request failed: `came` is what came instead of the answer."""
        now_s = time.monotonic()
        if self._since_s is None:
            self._since_s = now_s
        elif now_s - self._said_s < self._every_s:
            return
        self._said_s = now_s
        log.warning(f"{self._server}_waiting", came=came, waited_s=round(now_s - self._since_s, 1), **self._details())

    def over(self) -> None:
        """A request has succeeded; logs the end of the wait, if there was one."""
        if self._since_s is not None:
            waited_s = round(time.monotonic() - self._since_s, 1)
            log.info(f"{self._server}_recovered", waited_s=waited_s, **self._details())
            self._since_s = None
