"""Webhooks that fail in all ways: every change is told at least once, in order, never two at a time, or is given up."""

import hashlib
import hmac
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest
from structlog.testing import capture_logs

from monitor.alerts import bodies
from monitor.alerts.outbox import OutboxError
from monitor.alerts.teller import Teller, TellerSettings
from monitor.runtime.clock import CLOCK
from monitor.verdicts.judge import State
from tests.support.alert_case import (
    AT_MS,
    MINUTE_MS,
    QUICK,
    SECRET,
    SetClock,
    change,
    delivered,
    settings,
    telling,
    webhook,
)
from tests.support.alert_receiver import (
    CUT,
    DRIP,
    HANG,
    RESET,
    TWICE,
    WELL,
    AlertReceiver,
    Answer,
    answer,
    threads_of_alerts,
)
from tests.support.documents import ROOT


def test_a_change_is_posted_signed_and_with_its_id(tmp_path: Path) -> None:
    """The key of idempotence is the change's id; the signature is the HMAC-SHA256 of the very bytes that come."""
    with AlertReceiver() as receiver:
        alerts = settings(webhooks=webhook(receiver.url, secret_env="KEY"))
        with telling(alerts, tmp_path / "outbox", {"KEY": SECRET}) as teller:
            assert teller.tell([change()], AT_MS) == 1
            assert teller.deliver_due(AT_MS) == 1
            assert teller.deliver_due(AT_MS) == 0
    (received,) = receiver.requests
    assert received.key == change().id
    expected = hmac.new(SECRET.encode(), received.body, hashlib.sha256).hexdigest()
    assert received.headers["X-Monitor-Signature"] == f"sha256={expected}"
    assert received.headers["Content-Type"] == "application/json"
    assert received.document["changes"][0]["words"] == change().words


FAILURES = [answer(500), answer(503), answer(429), answer(408), answer(302), RESET, CUT._replace(status=502)]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: f"{failure.status}-{failure.ending}")
def test_a_failure_is_tried_again_until_it_is_accepted(tmp_path: Path, failure: Answer) -> None:
    """With the same key and the same bytes; every attempt is in the audit, with what was answered."""
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        receiver.script(failure, failure, failure)
        teller.tell([change()], AT_MS)
        delivered(teller)
        attempts = teller.attempts()
    assert len(receiver.requests) == 4
    assert len({(received.key, received.body) for received in receiver.requests}) == 1
    assert [attempt.attempt for attempt in attempts] == [1, 2, 3, 4]
    assert [attempt.verdict for attempt in attempts] == ["failed", "failed", "failed", "accepted"]
    assert attempts[-1].text == "200"
    assert attempts[0].text.startswith(str(failure.status)) or failure.ending == "reset"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_what_is_refused_is_given_up_at_once(tmp_path: Path, status: int) -> None:
    """It would be refused again; what comes later is delivered, and the log and the counts say so."""
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        receiver.script(answer(status, "wrong"))
        teller.tell([change()], AT_MS)
        teller.tell([change(State.STOP, minute=1)], AT_MS)
        delivered(teller)
        assert [attempt.verdict for attempt in teller.attempts()] == ["refused", "accepted"]
        assert teller.attempts()[0].text == f"{status} wrong"
        assert teller.counts()["ops"]._replace(waiting_since_ms=None) == (0, None, 1, 0, 1)


def test_a_success_counts_whatever_follows_its_status(tmp_path: Path) -> None:
    """An answer that comes twice, or whose body is cut off: the change is not told again."""
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        receiver.script(TWICE, CUT, answer(204))
        for minute in range(3):
            teller.tell([change(experiment="button_color", check=f"check{minute}")], AT_MS)
            teller.deliver_due(AT_MS)
        assert [attempt.text for attempt in teller.attempts()] == ["200", "200", "204"]
    assert len(receiver.requests) == 3


def test_a_target_that_refuses_connections_gets_all_when_it_is_back(tmp_path: Path) -> None:
    """While it is down only one message is tried at a turn, not each of them."""
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        receiver.down()
        changes = [change(experiment=f"experiment{number}") for number in range(20)]
        assert teller.tell(changes, AT_MS) == 20
        assert teller.deliver_due(AT_MS) == 1
        assert "Connection refused" in teller.attempts()[0].text
        receiver.up()
        delivered(teller)
        assert sorted(receiver.keys) == sorted(one.id for one in changes)


@pytest.mark.parametrize(("failure", "came"), [(HANG, "no answer within 0.3 s"), (DRIP, "500")])
def test_an_attempt_ends_at_its_time_limit(tmp_path: Path, failure: Answer, came: str) -> None:
    """Also if bytes drip: the limit is for all of it, not for each wait."""
    with AlertReceiver() as receiver:
        quick = settings(webhooks=webhook(receiver.url, timeout_s=0.3))
        with telling(quick, tmp_path / "outbox") as teller:
            receiver.script(failure)
            teller.tell([change()], AT_MS)
            start_s = time.monotonic()
            teller.deliver_due(AT_MS)
            assert time.monotonic() - start_s < 3
            assert [attempt.text for attempt in teller.attempts()] == [came]
            delivered(teller)
            assert teller.counts()["ops"].accepted == 1


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed_for_the_whole_target(tmp_path: Path, status: int) -> None:
    """Nothing is sent before, what is told meanwhile neither; a millisecond later all is."""
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        receiver.script(answer(status, retry_after="120"))
        teller.tell([change()], AT_MS)
        teller.deliver_due(AT_MS)
        teller.tell([change(experiment="button_color")], AT_MS + 1)
        assert teller.deliver_due(AT_MS + 119_999) == 0
        assert teller.deliver_due(AT_MS + 120_000) == 2


@pytest.mark.parametrize("failure", [answer(500), RESET], ids=["message", "target"])
def test_waits_grow_over_restarts_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Answer
) -> None:
    """The longest of each random wait doubles, of a message that fails and of a target; a success begins anew."""
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    waits, now_ms = [], AT_MS
    with AlertReceiver() as receiver:
        alerts = settings(webhooks=webhook(receiver.url))
        receiver.script(*[failure] * 7, WELL, failure)
        for number in range(9):
            with telling(alerts, tmp_path / "outbox", bounds=TellerSettings(backoff_max_s=20)) as teller:
                if number in (0, 8):
                    teller.tell([change(experiment=f"experiment{number}")], now_ms)
                assert teller.deliver_due(now_ms) == 1
                next_ms = teller._outbox.next_ms("ops")
                waits += [] if next_ms is None else [next_ms - now_ms]
                now_ms = next_ms or now_ms
    assert waits == [1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000, 1_000]


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """Another server would get the signature, and a POST might become a GET that succeeds."""
    with (
        AlertReceiver() as receiver,
        AlertReceiver() as other,
        telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller,
    ):
        receiver.script(answer(307)._replace(headers=(("Location", other.url),)))
        teller.tell([change()], AT_MS)
        teller.deliver_due(AT_MS)
        assert [attempt.text for attempt in teller.attempts()] == ["307"]
    assert other.requests == []


def test_retry_after_holds_over_a_restart(tmp_path: Path) -> None:
    """The moment of the next attempt is in the outbox."""
    with AlertReceiver() as receiver:
        alerts = settings(webhooks=webhook(receiver.url))
        receiver.script(answer(429, retry_after="120"))
        with telling(alerts, tmp_path / "outbox") as teller:
            teller.tell([change()], AT_MS)
            teller.deliver_due(AT_MS)
        with telling(alerts, tmp_path / "outbox") as teller:
            assert teller.deliver_due(AT_MS + 119_999) == 0
            assert teller.deliver_due(AT_MS + 120_000) == 1
    assert receiver.keys == [change().id] * 2


def test_a_clock_that_was_set_back_holds_nothing_up(tmp_path: Path) -> None:
    """A moment that is days ahead was noted by another clock: the message is due."""
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        receiver.script(answer(429, retry_after="120"))
        teller.tell([change()], AT_MS)
        teller.deliver_due(AT_MS)
        teller.deliver_due(AT_MS - 86_400_000)
        assert [attempt.text for attempt in teller.attempts()] == ["429", "200"]


def test_it_is_given_up_after_the_bound_and_tried_until_then(tmp_path: Path) -> None:
    """The last attempt is at the bound itself."""
    alerts = settings(give_up_s=600, webhooks=webhook("http://127.0.0.1:1"))
    bounds = TellerSettings(backoff_first_s=60, backoff_max_s=120)
    with telling(alerts, tmp_path / "outbox", bounds=bounds) as teller:
        teller.tell([change()], AT_MS)
        for second in range(0, 700):
            teller.deliver_due(AT_MS + 1_000 * second)
        attempts = teller.attempts()
        assert attempts[-1].at_ms == AT_MS + 600_000
        assert all(attempt.at_ms < AT_MS + 600_000 for attempt in attempts[:-1])
        assert len(attempts) >= 6
        assert teller.counts()["ops"] == (0, None, 0, len(attempts) - 1, 1)


def test_the_news_that_it_is_over_never_overtakes_the_alarm(tmp_path: Path) -> None:
    """Of an experiment the oldest message goes first, others do not wait for it."""
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        receiver.script(answer(500))
        hold, healthy, other = change(), change(State.HEALTHY, minute=1), change(experiment="button_color")
        for told in (hold, healthy, other):
            teller.tell([told], AT_MS)
        delivered(teller)
    assert receiver.keys == [hold.id, other.id, hold.id, healthy.id]


@pytest.mark.parametrize("kills", range(4))
def test_after_restarts_each_change_was_told_and_none_with_another_id(tmp_path: Path, kills: int) -> None:
    """The outbox is dropped without an end, as in a crash, after so many attempts; the caller tells all again."""
    with AlertReceiver() as receiver:
        alerts = settings(webhooks=webhook(receiver.url))
        changes = [change(experiment=f"experiment{number}") for number in range(3)]
        for _ in range(kills):
            teller = Teller(alerts, tmp_path / "outbox", environment={}, bounds=QUICK)
            receiver.script(answer(500))
            teller.tell(changes, AT_MS)
            teller.deliver_due(AT_MS)
            teller._outbox.close()
        with telling(alerts, tmp_path / "outbox") as teller:
            teller.tell(changes, AT_MS)
            delivered(teller)
            assert teller.counts()["ops"].waiting == 0
    assert set(receiver.keys) == {one.id for one in changes}
    assert len({received.body for received in receiver.requests}) == 3


PROCESS = """
import sys, time
from pathlib import Path
from monitor.alerts.teller import Teller
from monitor.runtime.clock import CLOCK
from tests.support.alert_case import QUICK, change, settings, webhook

url, path, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
with Teller(settings(webhooks=webhook(url)), path, environment={}, bounds=QUICK) as teller:
    for number in range(count):
        teller.tell([change(experiment=f"experiment{number}")], CLOCK.now_ms())
    while teller.counts()["ops"].waiting:
        time.sleep(0.01)
"""


def test_processes_that_are_killed_tell_each_change_and_none_twice_with_another_id(tmp_path: Path) -> None:
    """Killed while requests are answered, lost and refused; each next process tells all changes anew."""
    count = 12
    with AlertReceiver() as receiver:
        command = [sys.executable, "-c", PROCESS, receiver.url, str(tmp_path / "outbox"), str(count)]
        for kill in range(3):
            receiver.script(WELL, RESET, answer(503), HANG)
            came = len(receiver.requests)
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                receiver.wait_for(came + 2 + kill % 3)
                process.kill()
            receiver.forget_script()
        subprocess.run(command, cwd=ROOT, check=True, timeout=60, stdout=subprocess.DEVNULL)
    ids = {change(experiment=f"experiment{number}").id for number in range(count)}
    assert set(receiver.keys) == ids
    bodies_by_key = {key: {one.body for one in receiver.requests if one.key == key} for key in ids}
    assert all(len(texts) == 1 for texts in bodies_by_key.values())


def test_what_was_accepted_is_not_sent_again_after_a_restart(tmp_path: Path) -> None:
    """Neither when the same change is told again, though nothing is quiet."""
    with AlertReceiver() as receiver:
        alerts = settings(repeat_s=0, webhooks=webhook(receiver.url))
        for _ in range(3):
            with telling(alerts, tmp_path / "outbox") as teller:
                teller.tell([change()], AT_MS)
                delivered(teller)
    assert receiver.keys == [change().id]


def test_threads_deliver_and_end(tmp_path: Path) -> None:
    """Each target has its own: one that hangs holds up no other, and `close` ends it within its bound."""
    with AlertReceiver() as slow, AlertReceiver() as well:
        slow.script(HANG)
        alerts = settings(webhooks=webhook(slow.url, timeout_s=20) | {"well": {"url": well.url}})
        bounds = TellerSettings(close_wait_s=0.3)
        with Teller(alerts, tmp_path / "outbox", environment={}, bounds=bounds) as teller:
            teller.tell([change()], CLOCK.now_ms())
            slow.wait_for(1)
            for minute in range(1, 4):
                teller.tell([change(experiment=f"experiment{minute}")], CLOCK.now_ms())
            well.wait_for(4)
            start_s = time.monotonic()
        assert time.monotonic() - start_s < 5
        assert not threads_of_alerts()
        assert slow.keys == [change().id]
        with Teller(alerts, tmp_path / "outbox", environment={}, bounds=QUICK):
            slow.wait_for(5)
        assert len(well.requests) == 4


def test_a_target_is_never_sent_two_at_once(tmp_path: Path) -> None:
    """However many threads deliver, and while changes are told."""
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        receiver.script(*[answer(500)] * 10)
        teller.tell([change(experiment=f"experiment{number}") for number in range(10)], AT_MS)
        threads = [Thread(target=delivered, args=(teller,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(receiver.requests) == 20
    assert {received.open_with for received in receiver.requests} == {0}


def test_a_fault_of_ours_ends_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged with where it happened and tried again; a traceback's variables would show secrets."""
    with AlertReceiver() as receiver, capture_logs() as logs:
        alerts = settings(webhooks=webhook(receiver.url))
        with telling(alerts, tmp_path / "outbox") as teller:
            monkeypatch.delattr(bodies, "json_document")
            teller.tell([change()], AT_MS)
            assert teller.deliver_due(AT_MS) == 1
            assert teller.attempts()[0].text == "internal error: AttributeError"
            monkeypatch.undo()
            delivered(teller)
    assert receiver.keys == [change().id]
    (fault,) = (entry for entry in logs if entry["event"] == "alert_failed_internally")
    assert "_body" in fault["where"][-1]
    assert "exc_info" not in fault


def test_a_change_in_the_future_of_the_clock_is_delivered(tmp_path: Path) -> None:
    """`tell` is given the moment; the thread has its own clock, which may be behind."""
    with AlertReceiver() as receiver:
        clock = SetClock(AT_MS)
        with Teller(
            settings(webhooks=webhook(receiver.url)), tmp_path / "outbox", environment={}, clock=clock, bounds=QUICK
        ) as teller:
            teller.tell([change()], AT_MS + MINUTE_MS)
            clock.at_ms += MINUTE_MS
            teller.tell([], AT_MS + MINUTE_MS)
            receiver.wait_for(1)


def test_an_outbox_has_one_process(tmp_path: Path) -> None:
    """A second one would send everything twice."""
    with (
        telling(settings(), tmp_path / "outbox"),
        pytest.raises(OutboxError, match="another process has it open"),
    ):
        Teller(settings(), tmp_path / "outbox", environment={})
