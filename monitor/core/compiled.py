"""A configuration, compiled: one per process, shared by all key groups. Pure."""

from collections.abc import Sequence
from typing import final

from monitor.core.attribution import Program
from monitor.core.classify import Classifier, mentioned
from monitor.core.definitions import Limits, Tenant
from monitor.core.events import Decoder, Event, RejectReason
from monitor.core.packing import Packer
from monitor.core.rules import Clauses


@final
class CompiledTenant:
    """One tenant's definitions, compiled."""

    def __init__(self, tenant: Tenant, decoder: Decoder) -> None:
        self.name = tenant.name
        self.program = Program(tenant)
        self.classifier = Classifier(self.program, decoder)
        self.packer = Packer(self.program)


@final
class CompiledConfig:
    """The whole configuration, compiled."""

    def __init__(self, tenants: Sequence[Tenant], limits: Limits, *, key_is_session_id: bool = True) -> None:
        self.decoder = Decoder(_attributes(tenants), limits.message_bytes)
        self.limits = limits
        self.key_is_session_id = key_is_session_id
        self.tenants = {tenant.name: CompiledTenant(tenant, self.decoder) for tenant in tenants}

    def reason_of_stranger(self, event: Event) -> RejectReason:
        """Why an event of an unknown tenant is rejected."""
        well_formed = self.decoder.assignments(bytes(event.assignments)) is not None
        return RejectReason.UNKNOWN_TENANT if well_formed else RejectReason.BAD_FIELD


def _attributes(tenants: Sequence[Tenant]) -> list[str]:
    """The attributes that the configuration mentions."""
    names: list[str] = []
    for tenant in tenants:
        names += mentioned(tenant.tags, Clauses(tenant).predicates)
        names += [point.value.attribute for point in tenant.points if point.value is not None]
    return names
