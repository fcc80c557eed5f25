"""Telling: changes go into the outbox by their routes, and a thread for each target delivers them from there.

A target that fails is tried again with full-jitter exponential back-off, kept over restarts, until it accepts or
`alerts.give_up_s` is over. While a target itself fails, only one message is tried at each turn. Targets do not wait
for each other.
"""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import NamedTuple, Self

import msgspec
import requests
import structlog

from monitor.alerts.changes import Change, Message, grouped, linked
from monitor.alerts.outbox import Attempt, Outbox, OutboxError, Waiting
from monitor.alerts.outcomes import Outcome, Verdict
from monitor.alerts.routes import is_routed, judged
from monitor.alerts.targets import Target, targets_of
from monitor.config.settings import Settings
from monitor.runtime.clock import CLOCK, Interval, WallClock

log = structlog.get_logger(__name__)

PURGE_EVERY_S = 3_600.0
IDLE_S = 60.0
"""A thread that has nothing to do looks again after so long."""
OUTBOX_REST_S = 5.0
"""How long a thread waits when the outbox cannot be written."""


class TellerSettings(msgspec.Struct, frozen=True):
    """The bounds of retries and of the end. Production uses the defaults; tests make them small."""

    backoff_first_s: float = 1.0
    """The first wait is at most this; the bound doubles with each try."""
    backoff_max_s: float = 300.0
    retry_after_max_s: float = 3_600.0
    """The most that a target's Retry-After is obeyed."""
    close_wait_s: float = 5.0
    """How long `close` waits for attempts in progress before it cuts them, and for their ends after that."""


class Counts(NamedTuple):
    """What became of a target's messages; all but the first two since the start of the process."""

    waiting: int
    waiting_since_ms: int | None
    """When the oldest of those was put into the outbox; None if none waits."""
    accepted: int
    failed: int
    """Attempts after which a message was kept for another one."""
    given_up: int


class Teller:
    """Tells changes to the targets of the configuration; a context manager, within which its threads deliver.

    The outbox is at `path`. Raises SecretError and OutboxError.
    """

    def __init__(
        self,
        settings: Settings,
        path: Path,
        *,
        environment: Mapping[str, str] = os.environ,
        clock: WallClock = CLOCK,
        new_session: Callable[[], requests.Session] = requests.Session,
        bounds: TellerSettings | None = None,
    ) -> None:
        self._alerts = settings.alerts
        self._clock = clock
        self._bounds = bounds or TellerSettings()
        self._targets = targets_of(settings, environment, new_session)
        self._outbox = Outbox(path)
        self._turns = {target.name: threading.Lock() for target in self._targets}
        """Held by who sends to a target: never two at once."""
        self._counts: dict[str, Counter[str]] = {target.name: Counter() for target in self._targets}
        self._purges = Interval(PURGE_EVERY_S)
        self._changed = threading.Condition()
        self._calls = 0
        """Of `tell`, so that no thread misses one."""
        self._closing = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begins to deliver in threads, what earlier processes have left too."""
        for target in self._targets:
            name = f"alerts-{target.name}"
            self._threads.append(threading.Thread(target=self._work, args=(target,), name=name, daemon=True))
        for thread in self._threads:
            thread.start()

    def tell(self, changes: Sequence[Change], now_ms: int) -> int:
        """Puts the changes into the outbox, all of them or none; the number of messages that they make.

        Changes of one experiment are one message. A change that was told before is not told again. Raises OutboxError.
        """
        linked_changes = [linked(change, self._alerts.page_url) for change in changes]
        in_order = sorted(linked_changes, key=lambda change: change.at_ms)
        count = 0
        with self._outbox.transaction():
            for target in self._targets:
                told = [change for change in in_order if self._is_told(target, change)]
                takes_groups = target.sender.takes_groups
                for message in grouped(told) if takes_groups else [Message((change,)) for change in told]:
                    self._outbox.put(target.name, message, now_ms)
                    count += 1
        for name, key in self._outbox.give_up_excess(now_ms):
            self._note_given_up(name, key, "too many messages wait")
        with self._changed:
            self._calls += 1
            self._changed.notify_all()
        return count

    def deliver_due(self, now_ms: int) -> int:
        """Delivers in the calling thread what is due; the number of attempts. Raises OutboxError."""
        self._purge(now_ms)
        return sum(self._deliver(target, lambda: now_ms) for target in self._targets)

    def counts(self) -> dict[str, Counts]:
        """What became of the messages, by target."""
        waiting = self._outbox.waiting()
        counts = {}
        for name, counter in self._counts.items():
            number, since_ms = waiting.get(name, (0, None))
            counts[name] = Counts(number, since_ms, counter["accepted"], counter["failed"], counter["given_up"])
        return counts

    def attempts(self, since_ms: int = 0) -> list[Attempt]:
        """The audit: every attempt of the last 30 days from a moment on, the oldest first."""
        return self._outbox.attempts(since_ms)

    def close(self) -> None:
        """Ends the threads within twice `close_wait_s`; what is not delivered stays in the outbox.

        An attempt that has no answer by then is made again at the next start.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if not self._joined():
            for target in self._targets:
                target.sender.cut()
            self._joined()
        self._outbox.close()

    def _is_told(self, target: Target, change: Change) -> bool:
        """Whether the change is to be put for the target; what the target knows of the check is kept."""
        if not is_routed(change, target.route) or self._outbox.was_put(change.id, target.name):
            return False
        before = self._outbox.standing(target.name, change)
        is_told, after = judged(change, target.route, self._alerts, before)
        if after != before:
            self._outbox.stand(target.name, change, after)
        return is_told

    def _work(self, target: Target) -> None:
        while not self._closing:
            calls = self._calls
            try:
                self._purge(self._clock.now_ms())
                self._deliver(target, self._clock.now_ms)
                wait_s = self._idle_s(target)
            except OutboxError as error:
                if self._closing:
                    return
                log.error("alerts_outbox_failed", target=target.name, reason=str(error))
                wait_s = OUTBOX_REST_S
            with self._changed:
                self._changed.wait_for(partial(self._is_called, calls), max(0.0, wait_s))

    def _is_called(self, calls: int) -> bool:
        """Whether a thread that has seen so many calls of `tell` has to look again."""
        return self._closing or self._calls > calls

    def _idle_s(self, target: Target) -> float:
        next_ms = self._outbox.next_ms(target.name)
        return IDLE_S if next_ms is None else min(IDLE_S, (next_ms - self._clock.now_ms()) / 1_000)

    def _deliver(self, target: Target, now_ms: Callable[[], int]) -> int:
        """Sends to one target what is due, a message at a time."""
        attempts = 0
        with self._turns[target.name]:
            while not self._closing and (waiting := self._outbox.due(target.name, now_ms())) is not None:
                outcome = self._sent(target, waiting)
                self._settle(target, waiting, outcome, now_ms())
                attempts += 1
        return attempts

    def _sent(self, target: Target, waiting: Waiting) -> Outcome:
        try:
            return target.sender.send(waiting.message)
        except Exception as error:  # a fault of ours must not end the telling of all that follows
            # neither its message nor its variables, which a rendered traceback shows: there are secrets among them
            kind, where = (
                type(error).__name__,
                [f"{f.filename}:{f.lineno} {f.name}" for f in extract_tb(error.__traceback__)],
            )
            log.critical("alert_failed_internally", target=target.name, id=waiting.message.key, error=kind, where=where)
            return Outcome(Verdict.FAILED, f"internal error: {kind}")

    def _settle(self, target: Target, waiting: Waiting, outcome: Outcome, now_ms: int) -> None:
        again_ms = now_ms + self._wait_ms(target, waiting, outcome)
        last_ms = waiting.created_ms + 1_000 * self._alerts.give_up_s
        is_kept = outcome.verdict is Verdict.FAILED and now_ms < last_ms
        if is_kept and outcome.retry_after_s is None:
            again_ms = min(again_ms, last_ms)  # the last attempt is at the bound
        next_ms = again_ms if is_kept else None
        self._outbox.settle(target.name, waiting, outcome, now_ms, next_ms, again_ms if outcome.is_of_target else 0)
        key = waiting.message.key
        if outcome.verdict is Verdict.ACCEPTED:
            self._counts[target.name]["accepted"] += 1
            log.info("alert_delivered", target=target.name, id=key, attempts=waiting.attempts + 1)
        elif next_ms is None:
            self._note_given_up(target.name, key, outcome.text)
        else:
            self._counts[target.name]["failed"] += 1
            wait_s = round((next_ms - now_ms) / 1_000, 1)
            log.warning("alert_waiting", target=target.name, id=key, came=outcome.text, again_in_s=wait_s)

    def _wait_ms(self, target: Target, waiting: Waiting, outcome: Outcome) -> int:
        """How long the message, or the whole target, is left alone after a failure."""
        bounds = self._bounds
        failures = self._outbox.failures(target.name) if outcome.is_of_target else waiting.attempts
        wait_s = random.uniform(0, min(bounds.backoff_max_s, bounds.backoff_first_s * 2 ** min(failures, 64)))
        if outcome.retry_after_s is not None:
            # the target knows best, but a 0 must not become a busy loop
            wait_s = max(bounds.backoff_first_s, min(outcome.retry_after_s, bounds.retry_after_max_s))
        return max(1, round(1_000 * wait_s))

    def _note_given_up(self, target: str, key: str, reason: str) -> None:
        self._counts[target]["given_up"] += 1
        log.error("alert_given_up", target=target, id=key, reason=reason)

    def _purge(self, now_ms: int) -> None:
        if self._purges.is_due():
            self._outbox.purge(now_ms)

    def _joined(self) -> bool:
        """Waits for the threads, within the bound; whether all have ended."""
        until_ms = CLOCK.now_ms() + round(1_000 * self._bounds.close_wait_s)
        for thread in self._threads:
            thread.join(max(0, until_ms - CLOCK.now_ms()) / 1_000)
        return not any(thread.is_alive() for thread in self._threads)
