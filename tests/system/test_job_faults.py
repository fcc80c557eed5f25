"""The whole job under faults drawn from a seed, and the faults that it must not overlook.

A scenario that fails says how to play it again; `make faults SEEDS=500` plays many.
"""

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import core_simulation
from tests.support.core_simulation import differences
from tests.support.driver import Core
from tests.support.job import ROOT
from tests.support.messages import message, shop
from tests.support.mutations import MUTATIONS, Mutation, mutated
from tests.support.oracle import answer
from tests.support.scenario import LONG_ONE_IN, draw
from tests.support.servers import Kafka, in_ci
from tests.support.shifted_clock import unavailable
from tests.support.simulation import Found, play

SEEDS = (2, 14, 15, 17)
"""Quick ones; between them 1, 2 and 3 processes, partitions that are added, kills, signals, refused points, jumps."""
CORE_SEEDS = range(1, 13)
CORE_S = 180.0
TESTS_S = 300.0


def test_the_clocks_of_processes_can_be_shifted() -> None:
    """Where they cannot, the scenarios leave the clock alone: in CI that is a fault."""
    if (reason := unavailable()) is not None:
        if in_ci():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_store_is_exact_after_known_faults(seed: int, real_kafka: Kafka, tmp_path: Path) -> None:
    """After kills, signals, failing servers, jumping clocks and rescaling: each total is the oracle's."""
    print(play(seed, real_kafka, tmp_path))


def test_the_store_is_exact_after_new_faults(real_kafka: Kafka, tmp_path: Path) -> None:
    """The same for a seed that nobody has played before; if it fails, the message says how to play it again."""
    print(play(_new_seed(), real_kafka, tmp_path))


def _new_seed() -> int:
    """Any but those with an outage of minutes, which `make faults` plays."""
    return secrets.randbits(24) * LONG_ONE_IN + secrets.randbelow(LONG_ONE_IN - 1)


def test_the_known_faults_are_of_all_kinds() -> None:
    """The chosen seeds rescale, add partitions, crash, stop, refuse points and set clocks."""
    rounds = [one for seed in SEEDS for one in draw(seed).rounds]
    assert {one.processes for one in rounds} == {1, 2, 3}
    assert {"kill", "SIGTERM", "SIGINT"} <= {one.ending for one in rounds}
    assert any(one.adds for one in rounds)
    assert any(one.poison for one in rounds)
    assert any(one.outage for one in rounds)
    assert any(len(one.clock) > 1 for one in rounds)


@pytest.mark.parametrize("seed", CORE_SEEDS)
def test_the_core_is_exact_after_crashes(seed: int) -> None:
    """What was stored before a crash, and is replayed in other batches, ends as the oracle's totals."""
    assert differences(seed) == []


def test_a_total_that_was_written_before_a_crash_is_written_again_though_it_comes_to_nothing() -> None:
    """A late event takes back what only the crashed run had stored: replayed together, both changes sum to 0."""
    log = [
        message(12_000, attributes={"page": "item", "device": "mobile"}),
        message(10_000, attributes={"page": "home", "device": "desktop"}),
    ]
    core = Core(shop())
    before = core_simulation.snapshot(core)
    core.feed(log[:1])
    core_simulation.restore(core, before)
    core.feed(log)
    assert core.answer() == answer(shop(), log).totals


@pytest.mark.parametrize("mutation", [one for one in MUTATIONS if one.found_by == "core"], ids=lambda one: one.name)
def test_a_fault_planted_into_the_core_is_found(mutation: Mutation, tmp_path: Path) -> None:
    """The quick simulation names totals that differ."""
    folder = mutated(mutation, tmp_path / "planted")
    run = subprocess.run(
        [sys.executable, "-m", core_simulation.__name__, *map(str, mutation.seeds)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))},
        capture_output=True,
        text=True,
        timeout=CORE_S,
    )
    assert run.returncode == 1
    assert "stored" in run.stdout, run.stderr


@pytest.mark.parametrize("mutation", [one for one in MUTATIONS if one.found_by == "job"], ids=lambda one: one.name)
def test_a_fault_planted_into_the_job_is_found(mutation: Mutation, real_kafka: Kafka, tmp_path: Path) -> None:
    """The simulation finds it with one of its seeds."""
    package = mutated(mutation, tmp_path / "planted")
    assert any(_is_found(seed, real_kafka, tmp_path / f"played-{seed}", package) for seed in mutation.seeds)


@pytest.mark.parametrize("mutation", [one for one in MUTATIONS if not one.seeds], ids=lambda one: one.name)
def test_a_fault_planted_into_the_job_fails_a_test(mutation: Mutation, tmp_path: Path) -> None:
    """Where a simulation meets it too seldom, tests that hold the moment still find it."""
    folder = mutated(mutation, tmp_path / "planted")
    for name in ("tests", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    command = [sys.executable, "-m", "pytest", "-q", "-x", mutation.found_by]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TESTS_S)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout
    assert "1 failed" in run.stdout


def _is_found(seed: int, kafka: Kafka, folder: Path, package: Path) -> bool:
    try:
        play(seed, kafka, folder, package)
    except Found:
        return True
    return False


def test_a_mutation_that_changes_nothing_is_refused(tmp_path: Path) -> None:
    """When the code moves on, a mutation has to move with it."""
    with pytest.raises(AssertionError, match="must occur once"):
        mutated(MUTATIONS[0]._replace(old="no such text"), tmp_path / "planted")
