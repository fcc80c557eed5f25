"""A data center's health in which all is well, and with changes."""

from datetime import UTC, datetime
from typing import Any

from monitor.serve.health_models import DcHealth, TenantFlow
from monitor.serve.models import DcState

AT = datetime(2026, 11, 25, 14, 30, 30, tzinfo=UTC)


def dc_health(events_per_s: float = 20.0, **changes: Any) -> DcHealth:
    """The data center dal, with one tenant t."""
    flow = TenantFlow(
        tenant="t",
        events=72_000,
        last_5_min=round(300 * events_per_s),
        events_per_s=events_per_s,
        delay_ms_mean=900.0,
        delay_ms_max=4_000,
    )
    values: dict[str, Any] = {
        "dc": "dal",
        "state": DcState.HEALTHY,
        "is_serving": True,
        "last_heartbeat": AT,
        "heartbeat_age_s": 3.0,
        "watermark": AT,
        "watermark_age_s": 620.0,
        "lag_messages": 0,
        "lag_by_partition": {"events/0": 0},
        "sessions": 100,
        "totals": 100,
        "memory_bytes": 2**27,
        "corrections": 10,
        "points_written": 100,
        "retries": 0,
        "dead_letters": 0,
        "repaired": 0,
        "unread": 0,
        "tenants": [flow],
        "rejected": [],
        "warnings": [],
        "late": [],
        "future": [],
        "bad_values": [],
        "unknown_names": [],
        "new_partitions": 0,
        "vanished_partitions": [],
        "notices": [],
    }
    return DcHealth(**values | changes)
