"""The messages of each tenant in the last minutes, and which shares of them are too large. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from monitor.serve.health_models import Count, DcHealth
from monitor.serve.health_ranges import DUPLICATES, REJECTS, WARNINGS

MESSAGES_S = 300
"""The seconds of which messages are judged: a high rejection rate must be seen soon after it begins."""
MESSAGES_MIN = 20
"""Fewer messages than this are no share of anything: 4 of 300 would be more than 1 %."""
DUPLICATE = "duplicate"
"""The reason of rejected messages that lose nothing: the event has been counted already."""
STRANGERS = "unknown"
"""The tenant of messages whose tenant cannot be read or is not configured."""


class Messages(NamedTuple):
    """Messages of a tenant in the last minutes: accepted; rejected, and with a warning, by reason."""

    accepted: int
    rejected: Mapping[str, int]
    warnings: Mapping[str, int]

    @property
    def all(self) -> int:
        """All messages."""
        return self.accepted + sum(self.rejected.values())

    @property
    def lost(self) -> dict[str, int]:
        """The rejected ones without duplicates, by reason."""
        return {reason: count for reason, count in self.rejected.items() if reason != DUPLICATE}

    @property
    def lost_share(self) -> float:
        """Rejected messages without duplicates, as a share of all."""
        return sum(self.lost.values()) / self.all if self.all else 0.0

    @property
    def duplicate_share(self) -> float:
        """Duplicates as a share of all messages."""
        return self.rejected.get(DUPLICATE, 0) / self.all if self.all else 0.0

    @property
    def warned_share(self) -> float:
        """Warnings as a share of the accepted events."""
        return sum(self.warnings.values()) / max(1, self.accepted)

    @property
    def has_many_lost(self) -> bool:
        """True if the rejects are outside of their normal range."""
        return self.lost_share > REJECTS.normal and sum(self.lost.values()) >= MESSAGES_MIN

    @property
    def has_many_duplicates(self) -> bool:
        """True if most messages are duplicates."""
        return self.duplicate_share > DUPLICATES.normal and self.rejected[DUPLICATE] >= MESSAGES_MIN

    def has_many_warnings(self, reason: str) -> bool:
        """True if the warnings of this reason alone are outside of their normal range."""
        count = self.warnings.get(reason, 0)
        return count >= MESSAGES_MIN and count > WARNINGS.normal * max(1, self.accepted)


def messages(dc: DcHealth) -> dict[str, Messages]:
    """The messages of the last minutes in a data center, by tenant."""
    accepted = {flow.tenant: flow.last_5_min for flow in dc.tenants}
    tenants = dict.fromkeys([*accepted, *(count.tenant for count in (*dc.rejected, *dc.warnings))])
    return {
        tenant: Messages(accepted.get(tenant, 0), _lately(dc.rejected, tenant), _lately(dc.warnings, tenant))
        for tenant in tenants
    }


def together(of_tenants: Iterable[Messages]) -> Messages:
    """The messages of several tenants as those of one."""
    accepted, rejected, warnings = 0, dict[str, int](), dict[str, int]()
    for of_tenant in of_tenants:
        accepted += of_tenant.accepted
        for into, counts in ((rejected, of_tenant.rejected), (warnings, of_tenant.warnings)):
            for reason, count in counts.items():
                into[reason] = into.get(reason, 0) + count
    return Messages(accepted, rejected, warnings)


def strangers_share(of_tenants: Mapping[str, Messages]) -> float | None:
    """The share of all messages that belong to no configured tenant; None if they are few or within the range."""
    strangers = of_tenants.get(STRANGERS)
    if strangers is None or sum(strangers.lost.values()) < MESSAGES_MIN:
        return None
    share = sum(strangers.lost.values()) / together(of_tenants.values()).all
    return share if share > REJECTS.normal else None


def largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The three most frequent reasons."""
    return sorted(counts.items(), key=lambda pair: pair[1], reverse=True)[:3]


def _lately(counts: Iterable[Count], tenant: str) -> dict[str, int]:
    return {count.reason: count.last_5_min for count in counts if count.tenant == tenant and count.last_5_min}
