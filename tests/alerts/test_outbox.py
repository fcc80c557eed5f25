"""The outbox's bounds, its faults, and what it keeps for how long."""

import sqlite3
from pathlib import Path

import pytest

from monitor.alerts import outbox
from monitor.alerts.outbox import KEPT_MS, Outbox, OutboxError
from monitor.alerts.teller import Teller
from monitor.verdicts.judge import State
from tests.support.alert_case import AT_MS, change, delivered, settings, telling, webhook
from tests.support.alert_receiver import AlertReceiver

NOBODY = "http://127.0.0.1:1"


def rows(path: Path, table: str) -> int:
    """How many rows a table has."""
    connection = sqlite3.connect(path)
    try:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)
    finally:
        connection.close()


def test_at_the_bound_the_oldest_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted and in the audit; what is newer is delivered."""
    monkeypatch.setattr(outbox, "UNDELIVERED_MAX", 3)
    changes = [change(experiment=f"experiment{number}", minute=number) for number in range(5)]
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        teller.tell(changes[:3], AT_MS)
        assert teller.counts()["ops"].given_up == 0
        teller.tell(changes[3:], AT_MS)
        assert teller.counts()["ops"][:1] + teller.counts()["ops"][4:] == (3, 2)
        assert [(one.key, one.attempt, one.verdict) for one in teller.attempts()] == [
            (one.id, 0, "given_up") for one in changes[:2]
        ]
        delivered(teller)
    assert receiver.keys == [one.id for one in changes[2:]]


def test_what_is_done_is_deleted_after_thirty_days(tmp_path: Path) -> None:
    """Both sides of the boundary; what waits and alarms that are not over stay."""
    path = tmp_path / "outbox"
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), path) as teller:
        teller.tell([change(), change(check="split")], AT_MS)
        teller.tell([change(State.HEALTHY, minute=1)], AT_MS)
        teller.deliver_due(AT_MS)
        teller.tell([change(State.STOP, minute=2, check="split")], AT_MS)
        store = teller._outbox
        store.purge(AT_MS + KEPT_MS)
        assert [rows(path, table) for table in ("messages", "told", "deliveries", "standings")] == [3, 4, 2, 2]
        store.purge(AT_MS + KEPT_MS + 1)
        assert [rows(path, table) for table in ("messages", "told", "deliveries", "standings")] == [1, 1, 0, 2]
        store.purge(AT_MS + KEPT_MS + 60_001)
        assert rows(path, "standings") == 1


def test_attempts_and_standings_are_bounded_in_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go."""
    monkeypatch.setattr(outbox, "DELIVERIES_MAX", 4)
    monkeypatch.setattr(outbox, "STANDINGS_MAX", 2)
    path = tmp_path / "outbox"
    with telling(settings(webhooks=webhook(NOBODY)), path) as teller:
        teller.tell([change(check=f"check{number}", minute=number) for number in range(5)], AT_MS)
        for second in range(10):
            teller.deliver_due(AT_MS + 1_000 * second)
        attempts = teller.attempts()
        assert len(attempts) == 10
        teller._outbox.purge(AT_MS)
        assert teller.attempts() == attempts[-4:]
        assert rows(path, "standings") == 2


def test_what_is_told_survives_a_failure_of_the_machine(tmp_path: Path) -> None:
    """SQLite syncs each transaction: 2 is FULL."""
    with telling(settings(), tmp_path / "outbox") as teller:
        assert teller._outbox._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_all_changes_of_a_call_are_put_or_none(tmp_path: Path) -> None:
    """A change that is no JSON is a fault of the caller; the others can be told later."""
    with telling(settings(webhooks=webhook(NOBODY)), tmp_path / "outbox") as teller:
        with pytest.raises(TypeError):
            teller.tell([change(), change(check="split", details={"x": object()})], AT_MS)
        assert teller.counts()["ops"].waiting == 0
        assert teller.tell([change()], AT_MS) == 1


def test_an_outbox_of_another_version_is_refused(tmp_path: Path) -> None:
    """It is left as it is."""
    path = tmp_path / "outbox"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(OutboxError, match=r"outbox: it is of version 7, and this program's is 1$"):
        Outbox(path)


def test_what_is_no_outbox_is_refused(tmp_path: Path) -> None:
    """A file of something else, or a folder that cannot be made, is named with the cause."""
    path = tmp_path / "outbox"
    path.write_text("something else " * 100)
    with pytest.raises(OutboxError, match=f"cannot open the outbox {path}: file is not a database"):
        Outbox(path)
    with pytest.raises(OutboxError, match="cannot open the outbox"):
        Outbox(path / "below")
    assert path.read_text() == "something else " * 100


def test_an_outbox_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """As when the disk is full; afterwards it works on."""
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        connection = teller._outbox._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        many = [change(experiment=f"experiment{number}", words="x" * 1_000) for number in range(100)]
        with pytest.raises(OutboxError, match="cannot be written: database or disk is full"):
            teller.tell(many, AT_MS)
        connection.execute("PRAGMA max_page_count = 1000000")
        assert teller.counts()["ops"].waiting == 0
        assert teller.tell(many, AT_MS) == 100
        delivered(teller)
    assert len(receiver.requests) == 100


def test_after_the_end_nothing_is_told(tmp_path: Path) -> None:
    """Whoever calls learns of it."""
    teller = Teller(settings(webhooks=webhook(NOBODY)), tmp_path / "outbox", environment={})
    teller.close()
    teller.close()
    with pytest.raises(OutboxError, match="is closed"):
        teller.tell([change()], AT_MS)
