"""Delivery of points to KairosDB: retries, and the search for points that it rejects permanently, which are given up.

| answer                          | what is done                                                                     |
| ------------------------------- | -------------------------------------------------------------------------------- |
| 204                             | done                                                                             |
| none, 429, any 5xx except 500   | retry with full-jitter exponential back-off; `Retry-After` is obeyed             |
| 400                             | the points that it names are given up once the rest is accepted; else split      |
| 500                             | some tries, then split; one point is given up if the server works otherwise      |
| anything else                   | raises Misconfigured: no retry helps                                             |

Retries go on for ever, or for `retry_max_s` a request; then Unreachable is raised. After 400 and 500 some of the points
may be stored, but to send a point again only overwrites it with itself.
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
    stop_after_delay,
    stop_never,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from monitor.core.metrics import DataPoint
from monitor.kairosdb.client import SERVER_TEXT_CHARACTERS_MAX, Client, Refused
from monitor.kairosdb.dead_letters import DeadLetter, DeadLetters
from monitor.kairosdb.errors import Unreachable
from monitor.kairosdb.outages import Outages, Watch
from monitor.kairosdb.points import Rendered, Renderer, batches, body
from monitor.kairosdb.stats import WriterStats
from monitor.runtime.waiting import WaitLog

_log = structlog.get_logger(__name__)
_NAMED = re.compile(r"metric\[(\d+)\]")
_NO_POINTS = body([])


class DeliverySettings(msgspec.Struct, frozen=True):
    """The bounds of a request and of its retries. Production uses the defaults; tests make them small."""

    points_max: int = 2_000
    """In a request."""
    bytes_max: int = 512 * 1024
    """Of JSON in a request, before gzip."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    backoff_first_s: float = 0.5
    """The first wait is at most this; the bound doubles with each try."""
    backoff_max_s: float = 30.0
    retry_after_max_s: float = 60.0
    """The most that a server's Retry-After is obeyed."""
    retry_max_s: float | None = None
    """How long one request is retried; None: for ever."""
    tries_on_500: int = 5
    log_every_s: float = 30.0
    """Between two log lines about one wait."""


class Closed(Exception):
    """`closing` was set during a delivery: what is not delivered stays undelivered."""


class Delivery:
    """Delivers points over `client`, one request at a time; used by one thread.

    Points that are given up go to `dead_letters`; without one they are only logged. `closing` ends every wait;
    `pending` gives the number of waiting points, for the log. `watch` learns of each answer, and of each request
    without one; `accepted` gets what each request carried that was accepted, and the moment that `watch` gave for it.
    """

    def __init__(
        self,
        client: Client,
        renderer: Renderer,
        dead_letters: DeadLetters | None,
        stats: WriterStats,
        settings: DeliverySettings,
        closing: Event,
        pending: Callable[[], int] = lambda: 0,
        watch: Watch | None = None,
        accepted: Callable[[Sequence[DataPoint], float], None] = lambda points, doubt_s: None,
    ) -> None:
        self._client = client
        self._renderer = renderer
        self._dead_letters = dead_letters
        self._stats = stats
        self._settings = settings
        self._closing = closing
        self._watch = watch or Watch(Outages())
        self._accepted = accepted
        self._doubt_s = 0.0
        """Of the last request that was answered."""
        self._refusals = 0
        """Requests with points that were refused since `deliver` took the present batch."""
        self._waits = WaitLog("kairosdb", lambda: {"url": client.url, "pending": pending()}, settings.log_every_s)
        self._backoff = wait_random_exponential(settings.backoff_first_s, settings.backoff_max_s)
        retry_s = stop_never if settings.retry_max_s is None else stop_after_delay(settings.retry_max_s)
        self._until_answered = self._retrying(retry_if_exception_type(Unreachable), retry_s)
        self._until_not_500 = self._retrying(retry_if_result(_is_500), stop_after_attempt(settings.tries_on_500))
        self._until_works = self._retrying(retry_if_result(_is_500), retry_s)

    def deliver(self, points: Iterable[DataPoint]) -> None:
        """Returns when each point is accepted, or is given up and safe in the dead-letter file.

        No two points may have the same series and timestamp, since parts are sent again in any order.
        Raises Unreachable after `retry_max_s`, Misconfigured, Closed, and OSError if dead letters cannot be written.
        """
        valid, invalid = self._renderer.render(points)
        if invalid:
            self._give_up([DeadLetter(point, reason) for point, reason in invalid])
        unsettled = list(batches(valid, self._settings.points_max, self._settings.bytes_max))
        while unsettled:
            self._refusals = 0
            batch = unsettled.pop()
            refused = self._post_patiently(batch)
            if refused is not None:
                unsettled += [part for part in self._settle(batch, refused) if part]
        if self._dead_letters is not None:
            self._dead_letters.sync()

    def _settle(self, batch: Sequence[Rendered], refused: Refused) -> list[list[Rendered]]:
        """Gives up what a refused batch was refused for; returns the parts that are still to be sent.

        The index in a 400 may be off, so the points that it names are given up only if the rest is accepted without
        them; otherwise both parts are searched.
        """
        named = _named(batch, refused) if refused.status == 400 else {}
        if not named:
            return [self._isolate(batch, refused)]
        rest = [one for index, one in enumerate(batch) if index not in named]
        rest_refused = self._post_patiently(rest) if rest else None
        if rest_refused is None:
            self._give_up([self._letter(batch[index], refused.status, text) for index, text in named.items()])
            return []
        return [self._isolate(rest, rest_refused), [batch[index] for index in named]]

    def _isolate(self, batch: Sequence[Rendered], refused: Refused) -> list[Rendered]:
        """Finds one bad point in a refused batch and gives it up; returns the points that are not accepted yet.

        Halves the batch: if the left half is accepted, the bad point is in the right one, which need not be sent to
        know. So it takes log2(n) requests, and the caller sends what it returns in one more.
        """
        unsent: list[Rendered] = []
        while len(batch) > 1:
            middle = len(batch) // 2
            left, right = batch[:middle], batch[middle:]
            left_refused = self._post(left)
            if left_refused is None:
                batch = right
            else:
                batch, unsent, refused = left, [*right, *unsent], left_refused
        final = self._refused_alone(batch[0], refused)
        if final is not None:
            self._give_up([self._letter(batch[0], final.status, final.text)])
        return unsent

    def _refused_alone(self, one: Rendered, refused: Refused) -> Refused | None:
        """The answer for which a point is to be given up; None if it was accepted after all.

        A 400 is about the points. A 500 may be the server's own trouble, in which every point would look bad: so the
        server has to accept an empty request first, however long that lasts, then refuse this point again.
        """
        if refused.status != 500:
            return refused
        answer = self._until_works(self._until_answered, self._exchange, _NO_POINTS)
        if _is_500(answer):
            msg = f"KairosDB must accept a request without points; got {_quoted(answer)}"
            raise Unreachable(msg)
        return self._post_patiently([one])

    def _post_patiently(self, batch: Sequence[Rendered]) -> Refused | None:
        """Sends a batch, up to `tries_on_500` times if the answer is 500."""
        return self._counted(batch, self._until_not_500(self._until_answered, self._request, body(batch)))

    def _post(self, batch: Sequence[Rendered]) -> Refused | None:
        """Sends a batch; 400 and 500 are answers."""
        return self._counted(batch, self._until_answered(self._request, body(batch)))

    def _counted(self, batch: Sequence[Rendered], refused: Refused | None) -> Refused | None:
        if refused is None:
            self._stats.add(points_written=len(batch))
            self._accepted([one.point for one in batch], self._doubt_s)
        return refused

    def _request(self, data: bytes) -> Refused | None:
        refused = self._exchange(data)
        if refused is not None:
            self._refusals += 1
        return refused

    def _exchange(self, data: bytes) -> Refused | None:
        if self._closing.is_set():
            raise Closed
        sent_s, start_ns = time.monotonic(), time.perf_counter_ns()
        try:
            refused = self._client.post(data)
        except Unreachable as error:
            if not error.is_busy:
                self._watch.failed()
            raise
        finally:
            self._stats.add(write_ns=time.perf_counter_ns() - start_ns)
        self._doubt_s = self._watch.answered(sent_s, self._client.was_dropped())
        if refused is None:
            self._waits.over()
        return refused

    def _letter(self, one: Rendered, status: int, text: str) -> DeadLetter:
        reason = f"KairosDB refuses it with {status}"
        return DeadLetter(one.point, reason, text[:SERVER_TEXT_CHARACTERS_MAX], self._refusals)

    def _give_up(self, letters: Sequence[DeadLetter]) -> None:
        if self._dead_letters is not None:
            self._dead_letters.write(letters)
        self._stats.add(dead_letters=len(letters))
        first = letters[0]
        _log.error(
            "points_given_up",
            url=self._client.url,
            points=len(letters),
            file=None if self._dead_letters is None else str(self._dead_letters.path),
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
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, Unreachable) and error.retry_after_s is not None:
            # The server knows best, but a 0 must not become a busy loop.
            wait_s = max(self._settings.backoff_first_s, min(error.retry_after_s, self._settings.retry_after_max_s))
        return wait_s

    def _before_sleep(self, state: RetryCallState) -> None:
        self._stats.add(retries=1)
        if not self._closing.is_set():
            self._waits.goes_on(_came(state))

    def _sleep(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise Closed


def _named(batch: Sequence[Rendered], refused: Refused) -> dict[int, str]:
    """Index -> messages of the points that a 400 names as `metric[i]`; empty if it says anything else as well."""
    try:
        errors = msgspec.json.decode(refused.text, type=dict[str, list[str]]).get("errors", [])
    except msgspec.DecodeError:
        return {}
    named: dict[int, str] = {}
    for error in errors:
        match = _NAMED.match(error)
        if match is None or int(match[1]) >= len(batch):
            return {}
        index = int(match[1])
        named[index] = f"{named[index]} {error}" if index in named else error
    return named


def _is_500(refused: Refused | None) -> bool:
    return refused is not None and refused.status == 500


def _came(state: RetryCallState) -> str:
    assert state.outcome is not None, "tenacity sleeps only after a call"
    error = state.outcome.exception()
    return str(error) if error is not None else _quoted(state.outcome.result())


def _quoted(refused: Refused) -> str:
    return f"{refused.status} {refused.text[:SERVER_TEXT_CHARACTERS_MAX]}"


def _last_result(state: RetryCallState) -> Refused | None:
    """The answer of the last try, or its exception: the end of the tries is no error of its own."""
    assert state.outcome is not None, "tenacity stops only after a call"
    refused: Refused | None = state.outcome.result()
    return refused
