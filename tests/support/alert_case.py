"""Changes, configurations and tellers for tests of alerts; their waits are milliseconds."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monitor.alerts.changes import Change
from monitor.alerts.teller import Teller, TellerSettings
from monitor.config.reader import parse
from monitor.config.settings import Settings
from monitor.verdicts.judge import State
from tests.support.alert_receiver import threads_of_alerts
from tests.support.example_config import example

AT_MS = 1_795_491_060_000
MINUTE_MS = 60_000
QUICK = TellerSettings(backoff_first_s=0.002, backoff_max_s=0.02, retry_after_max_s=3_600.0, close_wait_s=5.0)
SECRET = "the-secret-of-the-tests"


class SetClock:
    """A clock that a test sets."""

    def __init__(self, at_ms: int = AT_MS) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self.at_ms


def change(
    state: State = State.HOLD,
    *,
    minute: int = 0,
    check: str = "order fewer fc_on",
    experiment: str = "fast_checkout",
    previous: State = State.HEALTHY,
    tenant: str = "uswm",
    **more: Any,
) -> Change:
    """A change of a check, in this minute after AT_MS."""
    at_ms = AT_MS + minute * MINUTE_MS
    return Change(
        id=f"{tenant}/{experiment}/1/{check}/{state}/{at_ms}",
        tenant=tenant,
        experiment=experiment,
        check=check,
        state=state,
        previous=previous,
        at_ms=at_ms,
        since_ms=more.pop("since_ms", AT_MS - 2 * MINUTE_MS),
        words=more.pop("words", "orders with fc_on: at least 20 % fewer"),
        **more,
    )


def settings(**alerts: Any) -> Settings:
    """The example with these settings of alerts."""
    return parse({**example(), "alerts": copy.deepcopy(alerts)})


def webhook(url: str, **table: Any) -> dict[str, Any]:
    """A table of webhooks with one, `ops`."""
    return {"ops": {"url": url, "timeout_s": 20, **table}}


@contextmanager
def telling(
    alerts: Settings,
    path: Path,
    environment: Mapping[str, str] = {},
    clock: SetClock | None = None,
    bounds: TellerSettings = QUICK,
) -> Iterator[Teller]:
    """A teller without threads, for `deliver_due`; afterwards it is closed, and has left none."""
    teller = Teller(alerts, path, environment=environment, clock=clock or SetClock(), bounds=bounds)
    try:
        yield teller
    finally:
        teller.close()
    assert not threads_of_alerts()


def delivered(teller: Teller, until_ms: int = AT_MS + 10 * 86_400_000) -> None:
    """Delivers until nothing waits: each turn a little later, at most until a moment."""
    now_ms = AT_MS
    while any(counts.waiting for counts in teller.counts().values()) and now_ms < until_ms:
        teller.deliver_due(now_ms)
        now_ms += max(1, (now_ms - AT_MS) // 8)
