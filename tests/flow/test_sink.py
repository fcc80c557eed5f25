"""The sink's writers as the engine uses them, over a KairosDB that refuses points."""

from pathlib import Path

import pytest

from monitor.config.settings import KairosDbTable
from monitor.core.metrics import DataPoint
from monitor.flow import sink
from monitor.flow.sink import KairosSink
from monitor.flow.telemetry import Telemetry
from tests.support.faulty_server import FaultyServer
from tests.support.writer_rig import T_MS, cells_of


def test_what_was_counted_last_is_written_when_the_writers_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead letters of the last points come after the flow's last report: the last writer of the process writes them."""
    telemetry = Telemetry()
    monkeypatch.setattr(sink, "TELEMETRY", telemetry)
    with FaultyServer() as server:
        server.poison(lambda point: point.value < 0, "named")
        kairosdb = KairosSink(KairosDbTable(url=server.url, dead_letters=str(tmp_path / "dead.jsonl")), "dal")
        parts = [kairosdb.build_part("", part, None) for part in kairosdb.list_parts()]
        parts[0].write_batch([[DataPoint("m", T_MS, 1), DataPoint("m", T_MS + 1, -1)]])
        for part in parts:
            part.snapshot()
        telemetry.take()
        parts[0].write_batch([[DataPoint("m", T_MS + 2, -1), DataPoint("m", T_MS + 3, -1)]])
        for part in parts:
            part.snapshot()
        for part in parts:
            part.close()
        counted = {series: value for (series, _), value in server.cells().items() if "monitor." in series}
    assert counted["monitor.dead_letters"] == 2
    assert not telemetry.take().counts


def test_an_outage_that_the_last_writer_notices_is_mended_by_all(tmp_path: Path) -> None:
    """Also if the store began anew after the last snapshot, when the other writers have no more work."""
    points = [DataPoint(f"m.{number}", T_MS, number) for number in range(sink.WRITERS)]
    with FaultyServer() as server:
        kairosdb = KairosSink(KairosDbTable(url=server.url, dead_letters=str(tmp_path / "dead.jsonl")), "dal")
        parts = [kairosdb.build_part("", part, None) for part in kairosdb.list_parts()]
        for part, point in zip(parts, points, strict=True):
            part.write_batch([[point]])
            part.snapshot()
        server.down()
        server.stored.clear()
        server.up()
        for part in parts:
            part.close()
        assert cells_of(points).items() <= server.cells().items()


def test_the_last_reports_of_processes_do_not_overwrite_each_other() -> None:
    """Each has its own timestamp, and all are behind those of the flow."""
    stamps = set()
    for worker in range(4):
        telemetry = Telemetry()
        telemetry.worker = str(worker)
        telemetry.count("dead_letters", 1)
        (point,) = sink._last_counts(telemetry, _Clock())
        stamps.add(point.timestamp_ms)
    assert len(stamps) == 4
    assert min(stamps) > T_MS


class _Clock:
    def now_ms(self) -> int:
        return T_MS
