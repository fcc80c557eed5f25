"""The audit trail: what is asked of it, deliveries, and its bounds."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.alerts.outbox import Attempt
from monitor.verdicts.judge import State
from monitor.watch import audit as audit_module
from monitor.watch.audit import Audit, AuditError, Filter, Latest, Recorded


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    trail = Audit(tmp_path / "watch.sqlite3")
    yield trail
    trail.close()


def change(number: int, tenant: str = "t", experiment: str = "e", bundle: str = "{}") -> Recorded:
    return Recorded(str(number), number, tenant, experiment, "c", State.HEALTHY, State.NOTE, bundle)


def attempt(at_ms: int, number: int = 1, tenant: str = "t", experiment: str = "e") -> Attempt:
    return Attempt("team", "key", number, at_ms, "failed", "503", tenant, experiment, ["a", "b"])


def record(audit: Audit, *changes: Recorded) -> None:
    audit.record("t", "e", [("c", Latest(0, State.NOTE, 5.0))], changes)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (Filter(), ["1", "2", "3", "4"]),
        (Filter(2, 4), ["2", "3"]),
        (Filter(tenant="t"), ["1", "3", "4"]),
        (Filter(tenant="t", experiment="e"), ["1", "4"]),
        (Filter(tenant="%"), []),
    ],
)
def test_what_is_asked(audit: Audit, asked: Filter, found: list[str]) -> None:
    """Of a range, half-open, a tenant and an experiment; in order of time, not of recording."""
    record(audit, change(4), change(1), change(2, "other"), change(3, experiment="f"))
    assert [of.id for of in audit.changes(asked)] == found


def test_a_delivery_is_taken_in_once(audit: Audit) -> None:
    """With all that the outbox knows of it, however often it is read there."""
    assert audit.delivered_ms() == 0
    audit.take_deliveries([attempt(20), attempt(10)])
    audit.take_deliveries([attempt(20), attempt(30, 2), attempt(40, tenant="u")])
    assert list(audit.deliveries()) == [attempt(10), attempt(20), attempt(30, 2), attempt(40, tenant="u")]
    assert list(audit.deliveries(Filter(start_ms=20, tenant="t"))) == [attempt(20), attempt(30, 2)]
    assert audit.delivered_ms() == 40


def test_deliveries_are_bounded(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest make room."""
    monkeypatch.setattr(audit_module, "DELIVERIES_MAX", 3)
    audit.take_deliveries([attempt(at_ms) for at_ms in range(8)])
    assert [of.at_ms for of in audit.deliveries()] == [5, 6, 7]


def test_the_size_is_bounded(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles that no longer fit drive out the oldest changes, never the newest ones."""
    monkeypatch.setattr(audit_module, "USED_BYTES", 1 << 20)
    monkeypatch.setattr(audit_module, "CHANGES_PER_CUT", 2)
    noise = random.Random(1)
    for number in range(30):
        record(audit, change(number, bundle=noise.randbytes(50_000).hex()))
    kept = [of.at_ms for of in audit.changes()]
    assert kept == list(range(kept[0], 30))
    assert 10 < len(kept) < 25


def test_a_bundle_of_an_earlier_version_is_text(audit: Audit, tmp_path: Path) -> None:
    """It is read all the same."""
    record(audit, change(1, bundle='{"old": 1}'))
    audit._connection.execute("UPDATE changes SET bundle = ?", ('{"old": 1}',))
    assert [of.bundle for of in audit.changes()] == ['{"old": 1}']


def test_a_trail_that_must_exist(tmp_path: Path) -> None:
    """Reading makes no file."""
    with pytest.raises(AuditError, match=r"there is no audit trail .*gone"):
        Audit(tmp_path / "gone", must_exist=True)
    assert not (tmp_path / "gone").exists()
