"""What is odd about an experiment, with what to do about it. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from math import log, sqrt
from typing import NamedTuple

from monitor.page import figures
from monitor.serve.models import Count, DcHealth, ExperimentState, Running, SplitVerdict

MESSAGES_S = 300
"""Of so many last seconds messages are judged: many rejects have to be seen soon after they begin."""
JUDGED_MINUTES = 2
"""Of the last minutes that an answer tells, the last one under way, so many are held against the rest."""
EXPECTED_MIN = 20
"""Fewer expected visits prove no drop."""
MISSING_SHARE, MISSING_CHANCE = 0.25, 1e-6
"""A variation with less than this share of what its weight gives it is missing, if that is hardly ever chance."""
DROPPED_SHARE = 0.4
DEVIATIONS = 5.0
"""By so many standard deviations a count must be too low."""
CROSSED_SHARE = 0.02
REJECTED_SHARE = 0.02
NOTED_SHARE = 0.01


class Issue(NamedTuple):
    """Something odd: in a word or two, whole, and what to do."""

    short: str
    text: str
    fix: str


class Messages(NamedTuple):
    """Messages of a tenant in the last minutes: accepted, and rejected or noted by reason."""

    accepted: int
    rejected: Mapping[str, int]
    noted: Mapping[str, int]


def of_experiment(state: ExperimentState, at: datetime) -> list[Issue]:
    """What is odd about one experiment at the moment `at` of its answer, the worst first."""
    if state.state is Running.NO_DATA:
        fix = "Do events carry it? Look for unknown experiment and unknown variation among what was noted."
        return [Issue("no traffic", "No visit was assigned within 24 hours.", fix)]
    found = []
    if state.state is Running.SILENT:
        fix = "Has the assigning system stopped it? If not, look at the health page."
        found.append(Issue("no traffic now", "No visit was assigned within 15 minutes.", fix))
    found += [_missing(name) for name in missing(state)]
    if dropped := _dropped(state, at):
        found.append(dropped)
    if state.split.verdict is SplitVerdict.WRONG:
        text = "The shares of the assigned visits are not those of the weights (chi-square test, p < 0.001)."
        fix = "Differences between variations may come from that: find out why before you read them."
        found.append(Issue("wrong split", text, fix))
    if state.assigned and state.crossed > CROSSED_SHARE * state.assigned:
        share = figures.percent(state.crossed / state.assigned)
        text = f"{share} of the assigned visits were given another variation later."
        found.append(Issue("many crossed", text, "The assigning system changes its mind within a visit."))
    return found


def of_tenant(messages: Messages) -> list[Issue]:
    """What is odd about a tenant's messages."""
    found = []
    rejected, noted = sum(messages.rejected.values()), messages.noted
    if rejected > REJECTED_SHARE * (messages.accepted + rejected):
        share = figures.percent(rejected / (messages.accepted + rejected))
        reasons = ", ".join(f"{reason} {figures.count(n)}" for reason, n in _largest(messages.rejected))
        text = f"{share} of the messages were rejected: {reasons}."
        found.append(
            Issue("many rejects", text, "The reference says what each reason means; the producer has to mend it.")
        )
    for reason, words in (("unknown_variation", "unknown variation"), ("unknown_experiment", "unknown experiment")):
        if noted.get(reason, 0) > NOTED_SHARE * max(1, messages.accepted):
            text = f"{figures.plural(noted[reason], 'event')} carried an {words}."
            found.append(Issue(words, text, "Names in the events and in the configuration differ."))
    return found


def messages(dc: DcHealth) -> dict[str, Messages]:
    """The messages of the last minutes in a data center, by tenant."""
    accepted = {flow.tenant: round(flow.events_per_s * MESSAGES_S) for flow in dc.tenants}
    tenants = dict.fromkeys([*accepted, *(count.tenant for count in (*dc.rejected, *dc.noted))])
    return {
        tenant: Messages(accepted.get(tenant, 0), _lately(dc.rejected, tenant), _lately(dc.noted, tenant))
        for tenant in tenants
    }


def missing(state: ExperimentState) -> list[str]:
    """Variations that lately get hardly any visits, though others do, going by the weights."""
    weights, lately = state.variations, state.assigned_recent
    judged = {name: sum(lately[name][-JUDGED_MINUTES:]) for name in weights}
    under_way = {name: sum(lately[name][-1:]) for name in weights}
    return [name for name in weights if _is_missing(name, weights, judged) or _is_missing(name, weights, under_way)]


def _is_missing(name: str, weights: Mapping[str, float], counts: Mapping[str, int]) -> bool:
    """Chernoff's bound: so few of n visits have a chance below exp(-n KL(share, planned share))."""
    visits, count, planned = sum(counts.values()), max(0, counts[name]), weights[name] / sum(weights.values())
    if not 0 < planned < 1 or not visits or count >= MISSING_SHARE * planned * visits:
        return False
    share = count / visits
    divergence = (share * log(share / planned) if share else 0.0) + (1 - share) * log((1 - share) / (1 - planned))
    return visits * divergence > -log(MISSING_CHANCE)


def _missing(name: str) -> Issue:
    text = f"{name} gets hardly any visits now, though the others do."
    return Issue(f"{name} missing", text, "Look at what assigns visits, and at the pages of that variation.")


def _dropped(state: ExperimentState, at: datetime) -> Issue | None:
    """All variations together, against the minutes before. Events come late: the minute under way proves nothing."""
    by_minute = [sum(minute) for minute in zip(*state.assigned_recent.values(), strict=True)]
    before, now = by_minute[:-JUDGED_MINUTES], by_minute[-JUDGED_MINUTES:]
    filled = [count for count in before if count]
    if not now or len(filled) < len(before) or not before:
        return None
    minutes = JUDGED_MINUTES - 1 + at.second / 60
    expected = sum(before) / len(before) * minutes
    seen = sum(now)
    if expected < EXPECTED_MIN or seen >= DROPPED_SHARE * expected or seen > expected - DEVIATIONS * sqrt(expected):
        return None
    text = f"Visits have fallen to {figures.percent(seen / expected, 0)} of those of the minutes before."
    return Issue("traffic dropped", text, "Is the site up, and do its events arrive? Look at the health page.")


def _lately(counts: Iterable[Count], tenant: str) -> dict[str, int]:
    return {count.reason: count.last_5_min for count in counts if count.tenant == tenant and count.last_5_min}


def _largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: pair[1], reverse=True)[:3]
