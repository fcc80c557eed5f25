"""Sessions as bytes: whatever a session holds comes back, and goes on as if it had never been packed."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.packing import last_ms
from monitor.core.visits import Visit, runs
from tests.support import oracle
from tests.support.driver import Core
from tests.support.messages import BASE_MS, SESSION, message, shop
from tests.support.strategies import EVENT_NAMES, Config, configs, logs, to_toml

MASK_BITS = 63
"""The widest mask that msgpack can write as a number."""


@st.composite
def narrow_and_wide(draw: st.DrawFn) -> Config:
    """Any configuration; now and then with so many points, half of them with `nth`, that masks do not fit a number."""
    config: Config = tomllib.loads(to_toml(draw(configs())))
    if draw(st.booleans()):
        for tenant in config["tenants"].values():
            for i in range(draw(st.integers(24, 70))):
                point = {"event": EVENT_NAMES[i % 3], "nth": i % 4 + 1} if i % 2 else {"event": EVENT_NAMES[i % 3]}
                tenant["points"][f"wide-{i}"] = point | ({"value": {"attribute": "total"}} if i % 5 == 0 else {})
            rules = [{"point": f"wide-{i}"} for i in (23, 22)]
            next(iter(tenant["experiments"].values()))["qualified_when"] = {"any": rules}
    return config


@given(data=st.data(), config=narrow_and_wide())
def test_packing_comes_back(data: st.DataObject, config: Config) -> None:
    """Every session that a log leads to, packed, unpacked and packed again, is the same, field by field."""
    core = Core(config)
    core.feed([arriving._replace(partition=0) for arriving in data.draw(logs(config))])
    awake = {name: dict(sessions) for name, sessions in core.group.sessions.items()}
    for name, sessions in core.group.pack().items():
        packer = core.compiled.tenants[name].packer
        for session_id, packed in sessions.items():
            before = awake[name][session_id]
            assert isinstance(before, Visit)
            back = packer.unpack(packed)
            assert packer.pack(back) == packed
            assert last_ms(packed) == back.last_ms == before.last_ms
            assert list(map(seen_of, runs(back))) == list(map(seen_of, runs(before)))


@given(data=st.data(), config=narrow_and_wide())
def test_a_packed_session_goes_on_as_if_it_were_not(data: st.DataObject, config: Config) -> None:
    """Each message changes the same, however often the sessions were packed before it; the oracle agrees in the end."""
    log = data.draw(logs(config))
    partitions = sorted({str(arriving.partition) for arriving in log})
    awake, resting = Core(config, partitions), Core(config, partitions)
    for arriving in log:
        pack = data.draw(st.sampled_from(("", "pack", "restart")))
        if pack == "restart":
            resting.restart()
        elif pack:
            resting.group.pack()
        assert resting.feed([arriving]) == awake.feed([arriving])
    assert resting.answer() == awake.answer() == oracle.answer(config, log).totals


@pytest.mark.parametrize("points", [27, 28, 29, 30, 31, 64, 200])
def test_masks_around_the_width_of_a_number(points: int) -> None:
    """A visit that has counted for every point, on both sides of the width at which masks become texts."""
    config = shop()
    tenant = config["tenants"]["uswm"]
    tenant["points"] = {f"p{i}": {"event": "page_view"} for i in range(points)}
    tenant["experiments"]["button_color"]["qualified_when"] = {"all": [{"point": f"p{i}"} for i in range(points)]}
    log = [message(0, "home"), message(60_000, "home"), message(30_000, "home", 60_000)]
    core = Core(config)
    assert (core.compiled.tenants["uswm"].program.bits > MASK_BITS) is (points >= 28)
    for arriving in log:
        core.feed([arriving])
        core.restart()
    assert core.answer() == oracle.answer(config, log).totals


def test_sums_at_the_end_of_the_range() -> None:
    """The largest sum that the configuration allows survives, of either sign."""
    config = shop(events_per_visit=1)
    largest = 2**43
    config["tenants"]["uswm"]["points"]["order"]["value"] |= {"max": largest, "scale": 1}
    for sign in (1, -1):
        core = Core(config)
        core.feed(
            [message(0, None, event="order", attributes={"total": sign * 10**30}), message(1, "home", tenant="no")]
        )
        packed = core.group.pack()["uswm"][SESSION]
        assert set(core.compiled.tenants["uswm"].packer.unpack(packed).state.sums.values()) == {sign * largest}


def test_several_visits_of_a_session() -> None:
    """Visits that a late event can still reach are packed with the latest one."""
    config = shop(lateness_s=100, gap_s=100)
    core = Core(config)
    core.feed([message(150_000, "home"), message(260_000, "home")])
    packed = core.group.pack()["uswm"][SESSION]
    visits = list(runs(core.compiled.tenants["uswm"].packer.unpack(packed)))
    assert [(visit.first_ms - BASE_MS, visit.last_ms - BASE_MS) for visit in visits] == [
        (260_000, 260_000),
        (150_000, 150_000),
    ]


@pytest.mark.parametrize("events", [50, 400])
def test_what_is_packed_is_small(events: int) -> None:
    """A visit at rest is little more than its identities, 8 bytes each, when its last minute is sealed."""
    core = Core(shop(lateness_s=0))
    core.feed([message(i * 1_000, "item") for i in range(events)])
    core.feed([message(events * 1_000 + 60_000, "x", sessionId="s-2")])
    assert len(core.group.pack()["uswm"][SESSION]) < events * 8 + 200


def seen_of(visit: Visit) -> dict[str, Any]:
    """What can be compared of a visit: all but the objects that stand for kinds and states."""
    visit.unpack_tail()
    state = visit.state
    return {
        "times": (visit.first_ms, visit.last_ms),
        "ids": visit.ids,
        "state": (state.seen, state.counts, state.codes(), state.sums),
        "tail": [
            (
                entry.time,
                entry.event_id,
                entry.event_class.points,
                entry.event_class.clauses,
                entry.event_class.is_tardy,
                entry.bucket,
                entry.variations,
                entry.values,
            )
            for entry in visit.tail
        ],
    }
