"""Incidents that are switched on while traffic is made: when they take effect, and that traffic stays reproducible."""

from pathlib import Path

import pytest

from monitor.simulate import IncidentError, SimulatedMessage, Switchboard, Traffic, incident_switches, switch
from monitor.simulate.incident_switches import AHEAD_MS

START_MS = 1_767_614_400_000
RATE = 20.0


def test_what_is_switched_is_on_from_then_on(tmp_path: Path) -> None:
    """A little later than it is asked for, until it is switched off, by its kind or as it was switched on."""
    path = tmp_path / "incidents.ndjson"
    assert switch(path, "garbage", True, 10_000) == (10_000 + AHEAD_MS, ("garbage",))
    assert switch(path, "traffic_drop:tenant=cawm,share=0.5", True, 20_000).on == (
        "garbage",
        "traffic_drop:tenant=cawm,share=0.5",
    )
    assert switch(path, "traffic_drop", False, 30_000).on == ("garbage",)
    board = Switchboard(path)
    board.look()
    kinds = {at_ms: [i.kind for i in board.on_at(at_ms)] for at_ms in (10_999, 11_000, 21_000, 30_999, 31_000)}
    assert kinds == {
        10_999: [],
        11_000: ["garbage"],
        21_000: ["garbage", "traffic_drop"],
        30_999: ["garbage", "traffic_drop"],
        31_000: ["garbage"],
    }


def test_switching_on_twice_changes_nothing(tmp_path: Path) -> None:
    """The file does not grow."""
    path = tmp_path / "incidents.ndjson"
    switch(path, "garbage", True, 0)
    text = path.read_bytes()
    assert switch(path, "garbage", True, 5_000).on == ("garbage",)
    assert path.read_bytes() == text


@pytest.mark.parametrize(
    ("incident", "on", "said"),
    [
        ("fire", True, "unknown incident"),
        ("garbage@10", True, "begins at once"),
        ("garbage", False, "is not on"),
        ("garbage:share=7", True, "share must be"),
    ],
)
def test_what_cannot_be_switched_is_refused(tmp_path: Path, incident: str, on: bool, said: str) -> None:
    """With what is wrong; nothing is written."""
    with pytest.raises(IncidentError, match=said):
        switch(tmp_path / "incidents.ndjson", incident, on, 0)
    assert not (tmp_path / "incidents.ndjson").exists()


def test_the_file_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read whole, so it may not grow for ever."""
    monkeypatch.setattr(incident_switches, "SWITCHES_MAX", 2)
    path = tmp_path / "incidents.ndjson"
    switch(path, "garbage", True, 0)
    switch(path, "garbage", False, 5_000)
    with pytest.raises(IncidentError, match="of 2 at most"):
        switch(path, "garbage", True, 9_000)


def test_a_board_notices_changes_and_leaves_half_a_line_out(tmp_path: Path) -> None:
    """It looks at the file when told to; without a file nothing is on."""
    path = tmp_path / "incidents.ndjson"
    board = Switchboard(path)
    board.look()
    assert board.on_at(0) == ()
    switch(path, "garbage", True, 0)
    assert board.on_at(AHEAD_MS) == ()
    board.look()
    assert [incident.kind for incident in board.on_at(AHEAD_MS)] == ["garbage"]
    with path.open("ab") as file:
        file.write(b'{"at_ms": 5')
    board.look()
    assert [incident.kind for incident in board.on_at(AHEAD_MS)] == ["garbage"]


def test_switched_traffic_is_reproducible(tmp_path: Path) -> None:
    """Made while incidents are switched, it is what is made later from the file, from any second on."""
    path = tmp_path / "incidents.ndjson"
    live, plain = Switchboard(path), Traffic(5, START_MS, RATE)
    traffic = Traffic(5, START_MS, RATE, on_at=live.on_at)
    seen: list[list[SimulatedMessage]] = []
    changes = {30: ("payment_broken", True), 40: ("traffic_drop", True), 60: ("traffic_drop", False)}
    for second in range(120):
        if second in changes:
            # the traffic of a second is made when it is over
            switch(path, *changes[second], START_MS + (second + 1) * 1_000)
        live.look()
        seen.append(traffic.second(second))
    again = Switchboard(path)
    again.look()
    for first in (0, 35, 100):
        resumed = Traffic(5, START_MS, RATE, on_at=again.on_at).from_second(first)
        assert [next(resumed) for _ in range(120 - first)] == seen[first:]
    assert seen[:30] == [plain.second(second) for second in range(30)]
    assert sum(map(len, seen[45:60])) < sum(len(plain.second(second)) for second in range(45, 60))
