"""What of the monitor's health is told as an alert: each item of the report that is not well, with a name. Pure.

Left out is how long the store takes to answer: it is measured by who asks, and does not follow from the store. While
no job has ever reported, the monitor is not in use yet.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from monitor.serve.health_figures import Ranges, is_apart, of_divergence, text, troubles
from monitor.serve.health_models import DcHealth, HealthAnswer
from monitor.serve.health_ranges import REJECTS, Unit
from monitor.serve.messages import DUPLICATE, MESSAGES_MIN, STRANGERS, Messages, messages, together
from monitor.serve.models import DcState

FUTURE = "future"
PREFIX = "health/"
"""The names of checks of health begin so."""


class HealthAlarm(NamedTuple):
    """An item that is not well: its check, unique in its tenant, and what is wrong with it.

    `tenant`: empty where it concerns all.
    """

    tenant: str
    check: str
    words: str
    details: Mapping[str, Any]


def alarms(health: HealthAnswer, ranges: Ranges) -> list[HealthAlarm]:
    """All that is not well; what several data centers say of a tenant's messages once, as the first one says it."""
    found: dict[tuple[str, str], HealthAlarm] = {}
    for dc in health.dcs:
        if dc.state is DcState.MISSING and all(other.state is DcState.MISSING for other in health.dcs):
            continue
        rejected = list(_of_rejected(dc, ranges))
        for alarm in (*_of_dc(dc, ranges, has_reasons=bool(rejected)), *rejected):
            found.setdefault((alarm.tenant, alarm.check), alarm)
    for apart in health.divergences:
        if is_apart(apart, ranges):
            check = f"{PREFIX}divergence {apart.experiment} {apart.dc}"
            details = {"dc": apart.dc, "against": apart.against, "ppm_max": apart.ppm_max}
            alarm = HealthAlarm(apart.tenant, check, of_divergence(apart), details)
            found.setdefault((alarm.tenant, alarm.check), alarm)
    return list(found.values())


def _of_dc(dc: DcHealth, ranges: Ranges, *, has_reasons: bool) -> Iterator[HealthAlarm]:
    """Of a data center; the share of all rejected messages only where no reason is told."""
    for trouble in troubles(dc, ranges):
        if trouble.about != REJECTS.name or not has_reasons:
            check = f"{PREFIX}{trouble.about.replace(' ', '_')} {trouble.place}"
            yield HealthAlarm("", check, trouble.words, {"dc": trouble.place})


def _of_rejected(dc: DcHealth, ranges: Ranges) -> Iterator[HealthAlarm]:
    """The reasons for which more than the normal share of a tenant's messages is rejected."""
    of_tenants = messages(dc)
    all_messages = together(of_tenants.values()).all
    for tenant, of_tenant in of_tenants.items():
        whole = all_messages if tenant == STRANGERS else of_tenant.all
        for reason, count in _reasons(of_tenant, whole * ranges[REJECTS.name].normal):
            share = text(Unit.SHARE, count / whole)
            of = "all messages are of no configured tenant" if tenant == STRANGERS else f"the messages of {tenant}"
            rejected = ", rejected as" if tenant == STRANGERS else " were rejected as"
            words = f"{share} of {of}{rejected} {reason} in 5 minutes ({count:,} of {whole:,})."
            details: dict[str, Any] = {"dc": dc.dc, "reason": reason, "messages": count, "of": whole}
            if reason == FUTURE and (by_tag := _by_tag(dc, tenant)):
                details |= {"by_tag": by_tag}
                words = f"{words} {_most_of(by_tag)}"
            yield HealthAlarm(tenant, f"{PREFIX}{reason}", f"{words} {_FIXES.get(reason, REJECTS.fix)}", details)


def _by_tag(dc: DcHealth, tenant: str) -> dict[str, dict[str, int]]:
    """The events of a tenant from the future, by tag and value, the most frequent value first."""
    found: dict[str, dict[str, int]] = {}
    for count in sorted(dc.future, key=lambda count: count.last_5_min, reverse=True):
        if count.tenant == tenant and count.last_5_min:
            found.setdefault(count.tag, {})[count.value] = count.last_5_min
    return found


def _most_of(by_tag: Mapping[str, Mapping[str, int]]) -> str:
    """The most frequent value of each tag, with its share; the tag that says the most first."""
    shares = [
        (max(values.values()) / sum(values.values()), tag, max(values, key=lambda value: values[value]))
        for tag, values in by_tag.items()
    ]
    said = [f"{tag} {value} ({text(Unit.SHARE, share)})" for share, tag, value in sorted(shares, reverse=True)]
    return f"Most of them are of {', '.join(said)}."


def _reasons(of_tenant: Messages, normal: float) -> Iterator[tuple[str, int]]:
    """Those with more messages than is normal, the most frequent first; duplicates lose nothing."""
    for reason, count in sorted(of_tenant.lost.items(), key=lambda pair: pair[1], reverse=True):
        if reason != DUPLICATE and count >= MESSAGES_MIN and count > normal:
            yield reason, count


_FIXES = {
    "future": "Their clocks are ahead; monitor rejects --last 10m shows whose.",
    "late": "Look at the delays, and at time.allowed_lateness_s.",
    "unknown_tenant": "Configure the tenant, or the producer must fix its name.",
}
"""What to do about a reason."""
