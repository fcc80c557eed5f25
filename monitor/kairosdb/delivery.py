"""Gets points into KairosDB, whatever it answers: retries, finds the points that it will never take, gives those up.

| came                            | what is done                                                            |
| ------------------------------- | ----------------------------------------------------------------------- |
| 204                             | done                                                                    |
| no answer, 429, any 5xx but 500 | retry for ever, full-jitter exponential back-off; `Retry-After` obeyed  |
| 400                             | give up the points that it names, once the rest is accepted; else split |
| 500                             | some tries, then split; a point is given up if the server else works    |
| any other status                | Misconfigured: no retry can help                                        |

Neither 400 nor 500 means that nothing was stored, but to send a point again only overwrites it with itself.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Event

import msgspec
import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_base,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_never,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from monitor.core.metrics import DataPoint
from monitor.kairosdb.client import Refused, Transient, Transport
from monitor.kairosdb.dead_letters import DeadLetter, DeadLetters
from monitor.kairosdb.points import SERVER_TEXT_CHARACTERS_MAX, Rendered, Renderer, batches, body
from monitor.kairosdb.stats import WriterStats
from monitor.runtime.waiting import WaitLog

_log = structlog.get_logger(__name__)
_NAMED = re.compile(r"metric\[(\d+)\]")
_NOTHING = body([])


class WriterSettings(msgspec.Struct, frozen=True):
    """The bounds of a lane. Production uses the defaults; tests make them small."""

    points_max: int = 2_000
    """In a request."""
    bytes_max: int = 512 * 1024
    """Of JSON in a request, before gzip."""
    linger_s: float = 0.1
    """The longest that a point waits for others."""
    pending_max: int = 50_000
    """Points that wait, about 250 bytes each; beyond, `put` blocks."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    backoff_first_s: float = 0.5
    """The first wait is at most this; the bound doubles with each try."""
    backoff_max_s: float = 30.0
    retry_after_max_s: float = 60.0
    """The most that a server's Retry-After is obeyed."""
    tries_on_500: int = 5
    log_every_s: float = 30.0
    """Between two log lines about one wait."""
    close_wait_s: float = 2.0
    """The longest that `close` waits for the thread."""


class Closed(Exception):
    """The lane is being closed: what is not delivered stays undelivered."""


class Delivery:
    """Delivers batches over one connection, one request at a time; used by one thread, except for `cut`.

    `closing` ends every wait; `pending` says how many points wait, for the log.
    """

    def __init__(
        self,
        url: str,
        renderer: Renderer,
        dead_letters: DeadLetters,
        stats: WriterStats,
        settings: WriterSettings,
        closing: Event,
        pending: Callable[[], int],
    ) -> None:
        self._transport = Transport(url, settings.connect_timeout_s, settings.read_timeout_s)
        self._renderer = renderer
        self._dead_letters = dead_letters
        self._stats = stats
        self._settings = settings
        self._closing = closing
        details = {"url": self._transport.url}
        self._waits = WaitLog("kairosdb", lambda: {**details, "pending": pending()}, settings.log_every_s)
        self._backoff = wait_random_exponential(settings.backoff_first_s, settings.backoff_max_s)
        self._until_answered = self._retrying(retry_if_exception_type(Transient), stop_never)
        self._until_not_500 = self._retrying(retry_if_result(_is_500), stop_after_attempt(settings.tries_on_500))
        self._until_works = self._retrying(retry_if_result(_is_500), stop_never)

    def deliver(self, points: Iterable[DataPoint]) -> None:
        """Returns when each point is accepted, or safe in the dead-letter file.

        No cell (series, timestamp) may occur twice: parts are sent again in any order.
        Raises Misconfigured, Closed, or OSError if the dead letters cannot be written.
        """
        valid, invalid = self._renderer.render(points)
        if invalid:
            self._give_up([DeadLetter(point, reason) for point, reason in invalid])
        unsettled = list(batches(valid, self._settings.points_max, self._settings.bytes_max))
        while unsettled:
            batch = unsettled.pop()
            refused = self._post_patiently(batch)
            if refused is not None:
                unsettled += [part for part in self._settle(batch, refused) if part]
        self._dead_letters.sync()

    def cut(self) -> None:
        """Makes a request that is under way fail at once."""
        self._transport.cut()

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def _settle(self, batch: Sequence[Rendered], refused: Refused) -> list[list[Rendered]]:
        """Gives up what is at fault in a refused batch; the parts that are still to be sent.

        A 400 that names points is believed once, if the rest is accepted when sent again: its index may be off.
        """
        named = _named(batch, refused) if refused.status == 400 else {}
        if not named:
            return [self._isolate(batch, refused)]
        rest = [one for index, one in enumerate(batch) if index not in named]
        rest_refused = self._post_patiently(rest) if rest else None
        if rest_refused is None:
            self._give_up([_letter(batch[index], refused, text) for index, text in named.items()])
            return []
        rest_refused = rest_refused._replace(attempts=refused.attempts + rest_refused.attempts)
        return [self._isolate(rest, rest_refused), [batch[index] for index in named]]

    def _isolate(self, batch: Sequence[Rendered], refused: Refused) -> list[Rendered]:
        """Finds one point at fault in a refused batch and gives it up; the points not accepted yet.

        Halves the batch: if the left half is accepted, the fault is in the right one, which need not be sent to know.
        So it takes log2(n) requests, and the caller sends what it returns in one more.
        """
        unsent: list[Rendered] = []
        while len(batch) > 1:
            middle = len(batch) // 2
            left, right = batch[:middle], batch[middle:]
            left_refused = self._post(left)
            if left_refused is None:
                batch = right
            else:
                batch, unsent = left, [*right, *unsent]
                refused = left_refused._replace(attempts=refused.attempts + left_refused.attempts)
        verdict = self._verdict(batch[0], refused)
        if verdict is not None:
            self._give_up([_letter(batch[0], verdict, verdict.text)])
        return unsent

    def _verdict(self, one: Rendered, refused: Refused) -> Refused | None:
        """Whether a point is to be given up (and why) or was accepted after all.

        A 400 is a judgement on the points. A 500 may as well be the server's own trouble, in which every point would
        look guilty: so first it has to take an empty request, however long that lasts, then refuse this point again.
        """
        if refused.status != 500:
            return refused
        self._until_works(self._until_answered, self._request, _NOTHING)
        again = self._post_patiently([one])
        return again and again._replace(attempts=refused.attempts + again.attempts)

    def _post_patiently(self, batch: Sequence[Rendered]) -> Refused | None:
        """Sends a batch, up to `tries_on_500` times if the answer is 500."""
        refused = self._until_not_500(self._until_answered, self._request, body(batch))
        return self._count(batch, refused, self._until_not_500.statistics["attempt_number"])

    def _post(self, batch: Sequence[Rendered]) -> Refused | None:
        """Sends a batch; 400 and 500 are answers."""
        return self._count(batch, self._until_answered(self._request, body(batch)), 1)

    def _count(self, batch: Sequence[Rendered], refused: Refused | None, attempts: int) -> Refused | None:
        if refused is None:
            self._stats.add(points_written=len(batch))
            return None
        return refused._replace(attempts=attempts)

    def _request(self, data: bytes) -> Refused | None:
        if self._closing.is_set():
            raise Closed
        start_ns = time.perf_counter_ns()
        try:
            refused = self._transport.post(data)
        finally:
            self._stats.add(write_ns=time.perf_counter_ns() - start_ns)
        if refused is None:
            self._waits.over()
        return refused

    def _give_up(self, letters: Sequence[DeadLetter]) -> None:
        self._dead_letters.write(letters)
        self._stats.add(dead_letters=len(letters))
        first = letters[0]
        _log.error(
            "points_given_up",
            url=self._transport.url,
            points=len(letters),
            file=str(self._dead_letters.path),
            first=first.point[0],
            reason=first.reason,
            server_text=first.server_text,
        )

    def _retrying(self, retry: retry_base, stop: stop_base) -> Retrying:
        return Retrying(
            retry=retry,
            wait=self._wait_s,
            stop=stop,
            sleep=self._sleep,
            before_sleep=self._before_sleep,
            retry_error_callback=_last_result,
        )

    def _wait_s(self, state: RetryCallState) -> float:
        wait_s: float = self._backoff(state)
        fault = state.outcome.exception() if state.outcome is not None else None
        if isinstance(fault, Transient) and fault.retry_after_s is not None:
            # The server knows best, but a 0 must not become a busy loop.
            wait_s = max(self._settings.backoff_first_s, min(fault.retry_after_s, self._settings.retry_after_max_s))
        return wait_s

    def _before_sleep(self, state: RetryCallState) -> None:
        self._stats.add(retries=1)
        if not self._closing.is_set():
            self._waits.goes_on(_came(state))

    def _sleep(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise Closed


def _named(batch: Sequence[Rendered], refused: Refused) -> dict[int, str]:
    """Index -> messages, of the points that a 400 names as `metric[i]`; none if it says anything else as well."""
    try:
        errors = msgspec.json.decode(refused.text, type=dict[str, list[str]]).get("errors", [])
    except msgspec.DecodeError:
        return {}
    named: dict[int, str] = {}
    for error in errors:
        found = _NAMED.match(error)
        if found is None or int(found[1]) >= len(batch):
            return {}
        index = int(found[1])
        named[index] = f"{named[index]} {error}" if index in named else error
    return named


def _letter(one: Rendered, refused: Refused, text: str) -> DeadLetter:
    reason = f"KairosDB refuses it with {refused.status}"
    return DeadLetter(one.point, reason, text[:SERVER_TEXT_CHARACTERS_MAX], refused.attempts)


def _is_500(refused: Refused | None) -> bool:
    return refused is not None and refused.status == 500


def _came(state: RetryCallState) -> str:
    assert state.outcome is not None
    fault = state.outcome.exception()
    if fault is not None:
        return str(fault)
    refused: Refused = state.outcome.result()
    return f"{refused.status} {refused.text[:SERVER_TEXT_CHARACTERS_MAX]}"


def _last_result(state: RetryCallState) -> Refused | None:
    assert state.outcome is not None
    refused: Refused | None = state.outcome.result()
    return refused
