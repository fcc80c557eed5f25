"""State as it goes into snapshots: plain dicts, tuples, strings and bytes with a version number, never our own classes.

Every reader checks the version first: state of another format is refused with a clear message.
"""

import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from monitor.core.codes import FLAG_BITS, FLAG_BITS_BEFORE
from monitor.core.compiled import CompiledConfig
from monitor.core.definitions import Tenant
from monitor.core.ledger import Ledger
from monitor.core.migrate import migrated
from monitor.core.sessions import SessionGroup
from monitor.core.watermark import Watermark
from monitor.runtime.errors import JobError

VERSION = 3
READABLE = (1, 2, VERSION)
"""Format 1 had no marks of visits and wrote all points as longs; 1 and 2 did not know which events are tardy."""

Plain: TypeAlias = dict[str, Any]


def group_state(group: SessionGroup, definitions: Mapping[str, bytes]) -> Plain:
    """A session group for a snapshot; each tenant's sessions together with the definitions that they refer to."""
    packed = group.pack()
    assert packed.keys() <= definitions.keys(), "a group has sessions of configured tenants only"
    return {
        "version": VERSION,
        "watermark_ms": group.watermark.value_ms,
        "highs": group.watermark.highs(),
        "tenants": {name: (definitions[name], sessions) for name, sessions in packed.items()},
    }


def restored_group(state: Plain | None, compiled: CompiledConfig) -> SessionGroup:
    """A session group from a snapshot; an empty one without. Sessions of tenants no longer configured are dropped."""
    lateness_ms = compiled.limits.lateness_ms
    if state is None:
        return SessionGroup(compiled, Watermark(lateness_ms))
    check_version(state["version"])
    group = SessionGroup(compiled, Watermark(lateness_ms, state["watermark_ms"], state["highs"]))
    for name, (definitions, sessions) in state["tenants"].items():
        tenant = compiled.tenants.get(name)
        if tenant is None:
            continue
        is_present = state["version"] == VERSION
        if not is_present or definitions != packed_definitions(tenant.program.tenant):
            old = msgspec.json.decode(zlib.decompress(definitions), type=Tenant)
            sessions = migrated(sessions, old, tenant.program, FLAG_BITS if is_present else FLAG_BITS_BEFORE)
        group.restore(name, sessions)
    return group


def ledger_state(ledger: Ledger) -> Plain:
    """A ledger for a snapshot."""
    totals = {minute: dict(totals) for minute, totals in ledger.totals.items()}
    return {
        "version": VERSION,
        "totals": totals,
        "watermarks": dict(ledger.watermarks),
        "doubles_from": ledger.doubles_from,
    }


def restored_ledger(state: Plain | None) -> Ledger:
    """A ledger from a snapshot; an empty one without."""
    if state is None:
        return Ledger()
    check_version(state["version"])
    totals = state["totals"]
    # of the minutes in a snapshot of format 1 there are longs in the store
    doubles_from = state["doubles_from"] if state["version"] > 1 else max(totals, default=-1) + 1
    return Ledger(totals, state["watermarks"], doubles_from)


def packed_definitions(tenant: Tenant) -> bytes:
    """A tenant's definitions as bytes."""
    return zlib.compress(msgspec.json.encode(tenant))


def check_version(version: object, *readable: int) -> None:
    """Raises JobError if state of this format cannot be read."""
    readable = readable or READABLE
    if version not in readable:
        msg = (
            "the recovery store was written by another version of the monitor "
            f"(state format {version}, this one reads {', '.join(map(str, readable))}): "
            "start the version that wrote it, or start with a new recovery directory"
        )
        raise JobError(msg)
