"""What the pure functions cost, by pytest-benchmark: `pytest bench/test_pure.py`. Each call takes 1,000 messages."""

import pickle
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import load, sink
from monitor.config.reader import parse
from monitor.core.compiled import CompiledConfig
from monitor.core.deltas import SeriesTable, deltas_of
from monitor.core.ledger import Ledger
from monitor.core.sessions import SessionGroup
from monitor.core.watermark import Progress, Watermark
from monitor.flow import sessions
from monitor.flow.keys import METRIC_GROUPS
from monitor.flow.route import route
from monitor.flow.snapshots import group_state, packed_definitions, restored_group
from monitor.flow.source import Chunk
from monitor.kairosdb.points import Renderer, body

EVENTS = 1_000
PROGRESS = Progress(("load/0",), "load/0", load.START_MS, idle=False)


@pytest.fixture(scope="module")
def messages() -> list[load.Message]:
    """The reference load."""
    return load.make(EVENTS).messages


@pytest.fixture(scope="module")
def compiled() -> CompiledConfig:
    """The reference configuration, compiled."""
    return sessions.compile_config(parse(load.config()))


def fed(compiled: CompiledConfig, messages: list[load.Message]) -> SessionGroup:
    """A key group after these messages."""
    group = SessionGroup(compiled, Watermark(compiled.limits.lateness_ms))
    group.feed(messages)
    return group


def test_decode(benchmark: BenchmarkFixture, compiled: CompiledConfig, messages: list[load.Message]) -> None:
    """Message bytes to events."""
    decode = compiled.decoder.decode
    events = benchmark(lambda: [decode(value) for _, value, _ in messages])
    assert len(events) == len(messages)


def test_route(benchmark: BenchmarkFixture, compiled: CompiledConfig, messages: list[load.Message]) -> None:
    """Messages to key groups."""
    step, chunk = route(compiled), Chunk(list(messages), PROGRESS, announce=False)
    routed = benchmark(lambda: step([chunk]))
    assert len(routed) > 1


def test_feed(benchmark: BenchmarkFixture, compiled: CompiledConfig, messages: list[load.Message]) -> None:
    """Message bytes to contributions, in one key group that was empty."""
    group = benchmark(lambda: fed(compiled, messages))
    assert sum(tally.accepted for tally in group.take().values()) > 0.9 * EVENTS


def test_regroup(benchmark: BenchmarkFixture, compiled: CompiledConfig, messages: list[load.Message]) -> None:
    """Contributions of one tenant to deltas by series."""
    tenant = load.TENANTS[0]
    tally = fed(compiled, messages).take()[tenant]
    table = SeriesTable(compiled.tenants[tenant], METRIC_GROUPS)
    assert benchmark(lambda: deltas_of([tally], table))


def test_apply(benchmark: BenchmarkFixture, compiled: CompiledConfig, messages: list[load.Message]) -> None:
    """Deltas of one tenant to new totals."""
    tenant = load.TENANTS[0]
    table = SeriesTable(compiled.tenants[tenant], METRIC_GROUPS)
    deltas = deltas_of([fed(compiled, messages).take()[tenant]], table)
    assert benchmark(lambda: [point for some in deltas.values() for point in Ledger().apply(some)])


def test_snapshot(benchmark: BenchmarkFixture, compiled: CompiledConfig, messages: list[load.Message]) -> None:
    """Sessions that are awake to the bytes of a snapshot."""
    definitions = {name: packed_definitions(tenant.program.tenant) for name, tenant in compiled.tenants.items()}

    def awake() -> tuple[tuple[SessionGroup], dict[str, Any]]:
        return (fed(compiled, messages),), {}

    state = benchmark.pedantic(lambda group: pickle.dumps(group_state(group, definitions)), setup=awake, rounds=20)  # type: ignore[no-untyped-call]
    assert state


def test_wake(benchmark: BenchmarkFixture, compiled: CompiledConfig, messages: list[load.Message]) -> None:
    """The second half of the messages, to sessions that a snapshot has put to rest."""
    definitions = {name: packed_definitions(tenant.program.tenant) for name, tenant in compiled.tenants.items()}
    half = len(messages) // 2
    state = group_state(fed(compiled, messages[:half]), definitions)

    def resting() -> tuple[tuple[SessionGroup], dict[str, Any]]:
        return (restored_group(state, compiled),), {}

    benchmark.pedantic(lambda group: group.feed(messages[half:]), setup=resting, rounds=20)  # type: ignore[no-untyped-call]


def test_render(benchmark: BenchmarkFixture) -> None:
    """Points to the gzipped body of a request."""
    renderer, points = Renderer("bench", 3_600), list(sink.points(EVENTS))
    assert benchmark(lambda: body(renderer.render(points)[0]))
