"""The issues of experiments and tenants, each with what to do about it. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from math import log, sqrt
from typing import NamedTuple

from monitor.page import figures
from monitor.serve.health_ranges import REJECTS, WARNINGS
from monitor.serve.models import Count, DcHealth, ExperimentState, Running, SplitVerdict

MESSAGES_S = 300
"""The seconds of which messages are judged: a high rejection rate must be seen soon after it begins."""
JUDGED_MINUTES = 2
"""The number of last minutes, the current one included, that are compared with those before."""
EXPECTED_MIN = 20
"""The expected visits below which nothing proves a drop."""
MISSING_SHARE, MISSING_CHANCE = 0.25, 1e-6
"""A variation with less than this share of its planned visits has no traffic, if chance explains it too rarely."""
DROPPED_SHARE = 0.4
DEVIATIONS = 5.0
"""The standard deviations by which a count must be too low."""
CROSSED_SHARE = 0.02


class Issue(NamedTuple):
    """An issue: a few words for it, a sentence, and what to do."""

    short: str
    text: str
    fix: str


class Messages(NamedTuple):
    """Messages of a tenant in the last minutes: accepted; rejected, and with a warning, by reason."""

    accepted: int
    rejected: Mapping[str, int]
    warnings: Mapping[str, int]


def of_experiment(state: ExperimentState, at: datetime) -> list[Issue]:
    """The issues of one experiment at the moment `at` of its answer, the worst first."""
    if state.state is Running.NO_DATA:
        fix = "Do events carry this experiment? Look for unknown experiment and unknown variation among the warnings."
        return [Issue("no traffic", "No visit was assigned within 24 hours.", fix)]
    issues = []
    if state.state is Running.SILENT:
        fix = "Has the assignment service stopped it? If not, see the Health page."
        issues.append(Issue("no traffic now", "No visit was assigned within 15 minutes.", fix))
    issues += [_without_traffic(name) for name in without_traffic(state)]
    if dropped := _dropped(state, at):
        issues.append(dropped)
    if state.split.verdict is SplitVerdict.MISMATCH:
        text = "The shares of the assigned visits do not match the weights (chi-square test, p < 0.001)."
        fix = "Find the cause before reading any result."
        issues.append(Issue("sample ratio mismatch", text, fix))
    if state.assigned and state.crossed > CROSSED_SHARE * state.assigned:
        share = figures.percent(state.crossed / state.assigned)
        text = f"{share} of the assigned visits were given another variation later."
        issues.append(Issue("many crossovers", text, "Look for a bug in the assignment service."))
    return issues


def of_tenant(messages: Messages) -> list[Issue]:
    """The issues of a tenant's messages."""
    issues = []
    rejected, warnings = sum(messages.rejected.values()), messages.warnings
    if rejected > REJECTS.normal * (messages.accepted + rejected):
        share = figures.percent(rejected / (messages.accepted + rejected))
        reasons = ", ".join(f"{reason} {figures.count(n)}" for reason, n in _largest(messages.rejected))
        text = f"{share} of the messages were rejected: {reasons}."
        fix = "See the reference for each reason; the producer must fix it."
        issues.append(Issue("high rejection rate", text, fix))
    for reason, words in (("unknown_variation", "unknown variation"), ("unknown_experiment", "unknown experiment")):
        if warnings.get(reason, 0) > WARNINGS.normal * max(1, messages.accepted):
            text = f"{figures.plural(warnings[reason], 'event')} carried an {words}."
            issues.append(Issue(words, text, "The names in the events and in the configuration differ."))
    return issues


def messages(dc: DcHealth) -> dict[str, Messages]:
    """The messages of the last minutes in a data center, by tenant."""
    accepted = {flow.tenant: round(flow.events_per_s * MESSAGES_S) for flow in dc.tenants}
    tenants = dict.fromkeys([*accepted, *(count.tenant for count in (*dc.rejected, *dc.warnings))])
    return {
        tenant: Messages(accepted.get(tenant, 0), _lately(dc.rejected, tenant), _lately(dc.warnings, tenant))
        for tenant in tenants
    }


def without_traffic(state: ExperimentState) -> list[str]:
    """The variations with hardly any visits lately, although the others get theirs, by the weights."""
    weights, lately = state.variations, state.assigned_recent
    last_minutes = {name: sum(lately[name][-JUDGED_MINUTES:]) for name in weights}
    current = {name: sum(lately[name][-1:]) for name in weights}
    return [
        name
        for name in weights
        if _lacks_traffic(name, weights, last_minutes) or _lacks_traffic(name, weights, current)
    ]


def _lacks_traffic(name: str, weights: Mapping[str, float], counts: Mapping[str, int]) -> bool:
    """Chernoff's bound: a share this low of n visits has a probability below exp(-n KL(share, planned share))."""
    visits, count, planned = sum(counts.values()), max(0, counts[name]), weights[name] / sum(weights.values())
    if not 0 < planned < 1 or not visits or count >= MISSING_SHARE * planned * visits:
        return False
    share = count / visits
    divergence = (share * log(share / planned) if share else 0.0) + (1 - share) * log((1 - share) / (1 - planned))
    return visits * divergence > -log(MISSING_CHANCE)


def _without_traffic(name: str) -> Issue:
    text = f"{name} gets hardly any visits now, although the others do."
    return Issue(f"{name}: no traffic", text, "Check the assignment service, and the pages of that variation.")


def _dropped(state: ExperimentState, at: datetime) -> Issue | None:
    """All variations together, against the minutes before. Events come late: the current minute proves nothing."""
    by_minute = [sum(minute) for minute in zip(*state.assigned_recent.values(), strict=True)]
    before, now = by_minute[:-JUDGED_MINUTES], by_minute[-JUDGED_MINUTES:]
    filled = [count for count in before if count]
    if not now or len(filled) < len(before) or not before:
        return None
    minutes = JUDGED_MINUTES - 1 + at.second / 60
    expected = sum(before) / len(before) * minutes
    visits = sum(now)
    if expected < EXPECTED_MIN or visits >= DROPPED_SHARE * expected or visits > expected - DEVIATIONS * sqrt(expected):
        return None
    text = f"Visits have fallen to {figures.percent(visits / expected, 0)} of the level of the minutes before."
    return Issue("traffic dropped", text, "Is the site up, and do its events arrive? See the Health page.")


def _lately(counts: Iterable[Count], tenant: str) -> dict[str, int]:
    return {count.reason: count.last_5_min for count in counts if count.tenant == tenant and count.last_5_min}


def _largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: pair[1], reverse=True)[:3]
