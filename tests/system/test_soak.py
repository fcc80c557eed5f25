"""The job under load for a while; `make soak MINUTES=n` does the same for as long as one likes."""

from pathlib import Path

from rich.console import Console

from tests.support.servers import Kafka, in_ci
from tests.support.soak import Bound, Plan, Report, Sample, soak, table_of

CI, HERE = Plan(180.0, restart_every_s=120.0), Plan(14.0, rate=1_000.0, every_s=1.0, restart_every_s=9.0)
"""Three minutes in continuous integration, so that growth shows; else just that it runs. Both with a restart."""
STEADY = Sample(0.0, True, 100.0, 20.0, 60, 0, 23.0, 10_000, 5_000)


def test_a_steady_load_stays_within_bounds(real_kafka: Kafka, tmp_path: Path) -> None:
    """Memory, recovery store, open files, lag and watermark delay; over a restart every message is counted once."""
    report = soak(CI if in_ci() else HERE, real_kafka, tmp_path)
    Console().print(table_of(report))
    assert report.starts == 2
    assert report.sent > report.plan.seconds * report.plan.rate / 2
    assert report.counted == report.sent
    assert report.dead_letters == 0
    assert report.kept(), [judged for judged in report.judged() if not judged.kept]


def test_a_leak_is_found() -> None:
    """Memory that grows by half in an hour, files that are left open, and a lag once, each alone."""
    grown = [STEADY._replace(at_s=at_s, memory_mb=100 + at_s / 60) for at_s in range(0, 3_600, 10)]
    opened = [STEADY._replace(at_s=at_s, open_files=60 + at_s // 300) for at_s in range(0, 3_600, 10)]
    behind = [STEADY._replace(at_s=at_s, lag=50_000 * (at_s == 1_800)) for at_s in range(0, 3_600, 10)]
    steady = [STEADY._replace(at_s=at_s) for at_s in range(0, 3_600, 10)]
    assert _broken(steady) == []
    assert _broken(grown) == ["memory_mb"]
    assert _broken(opened) == ["open_files"]
    assert _broken(behind) == ["lag"]


def test_what_is_seen_while_the_job_catches_up_is_not_judged() -> None:
    """A restart lets the lag rise for a moment."""
    samples = [STEADY._replace(at_s=at_s, settled=at_s >= 20, lag=50_000 * (at_s < 20)) for at_s in range(0, 100, 10)]
    assert _broken(samples) == []


def test_a_message_that_is_not_counted_breaks_it() -> None:
    """And so does one that is counted twice, or a point in the dead letters."""
    report = Report(CI, [STEADY], 1_000, 1_000, 1, 0)
    assert report.kept()
    assert not report._replace(counted=999).kept()
    assert not report._replace(counted=1_001).kept()
    assert not report._replace(dead_letters=1).kept()


def test_a_short_run_does_not_tell_growth() -> None:
    """State grows until the first visits are forgotten."""
    report = Report(HERE, [STEADY._replace(at_s=at_s, sessions=100 * at_s) for at_s in range(60)], 0, 0, 1, 0)
    assert {judged.growth for judged in report.judged()} == {None}
    assert all(isinstance(judged.bound, Bound) for judged in report.judged())
    assert report.kept()


def _broken(samples: list[Sample]) -> list[str]:
    """The bounds that an hour with these samples does not keep."""
    return [judged.name for judged in Report(Plan(3_600.0), samples, 0, 0, 1, 0).judged() if not judged.kept]
