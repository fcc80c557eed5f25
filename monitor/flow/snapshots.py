"""State as it goes into snapshots: plain dicts, tuples, texts and bytes with a version number, never our own classes.

Whatever reads state checks the version first: state of another format is refused with a clear message.
"""

import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from monitor.core.compiled import CompiledConfig
from monitor.core.definitions import Tenant
from monitor.core.ledger import Ledger
from monitor.core.migrate import migrated
from monitor.core.sessions import SessionGroup
from monitor.core.watermark import Watermark
from monitor.runtime.lifecycle import JobError

VERSION = 1

Plain: TypeAlias = dict[str, Any]


def group_state(group: SessionGroup, definitions: Mapping[str, bytes]) -> Plain:
    """A session group for a snapshot; each tenant's sessions together with the definitions that they refer to."""
    return {
        "version": VERSION,
        "watermark_ms": group.watermark.value_ms,
        "highs": group.watermark.highs(),
        "tenants": {name: (definitions[name], sessions) for name, sessions in group.pack().items()},
    }


def restored_group(state: Plain | None, measures: CompiledConfig) -> SessionGroup:
    """The session group that a snapshot is of; an empty one without a snapshot."""
    lateness_ms = measures.limits.lateness_ms
    if state is None:
        return SessionGroup(measures, Watermark(lateness_ms))
    check_version(state["version"])
    group = SessionGroup(measures, Watermark(lateness_ms, state["watermark_ms"], state["highs"]))
    for name, (definitions, sessions) in state["tenants"].items():
        tenant = measures.tenants.get(name)
        if tenant is None:
            continue
        if definitions != packed_definitions(tenant.program.tenant):
            old = msgspec.json.decode(zlib.decompress(definitions), type=Tenant)
            sessions = migrated(sessions, old, tenant.program)
        group.restore(name, sessions)
    return group


def ledger_state(ledger: Ledger) -> Plain:
    """A ledger for a snapshot."""
    totals = {minute: dict(totals) for minute, totals in ledger.totals.items()}
    return {"version": VERSION, "totals": totals, "watermarks": dict(ledger.watermarks)}


def restored_ledger(state: Plain | None) -> Ledger:
    """The ledger that a snapshot is of; an empty one without a snapshot."""
    if state is None:
        return Ledger()
    check_version(state["version"])
    return Ledger(state["totals"], state["watermarks"])


def packed_definitions(tenant: Tenant) -> bytes:
    """A tenant's definitions as bytes."""
    return zlib.compress(msgspec.json.encode(tenant))


def check_version(version: object, known: int = VERSION) -> None:
    """Raises JobError if state of this format cannot be read."""
    if version != known:
        msg = (
            "the recovery store was written by another version of the monitor "
            f"(state format {version}, this one reads {known}): "
            "start the version that wrote it, or start with a new recovery directory"
        )
        raise JobError(msg)
