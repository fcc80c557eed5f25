"""The issues of experiments and tenants, each with what to do about it. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import log, sqrt
from typing import NamedTuple

from monitor.page import figures, judgements
from monitor.serve.findings import LargeVisit
from monitor.serve.health_models import DcHealth
from monitor.serve.messages import MESSAGES_MIN, MESSAGES_S, Messages, largest
from monitor.serve.models import Basis, ExperimentState, Running
from monitor.serve.verdict_models import CheckAnswer, VerdictsAnswer
from monitor.verdicts.judge import Kind
from monitor.verdicts.traffic import TrafficKind

JUDGED_MINUTES = 2
"""The number of last minutes, the current one included, that are compared with those before."""
BEFORE_MINUTES_MIN = 6
"""Fewer minutes before those, each with visits, are no level to fall from."""
LATELY_MINUTES = MESSAGES_S // 60
EXPECTED_MIN = 20
"""The expected visits below which nothing proves a drop."""
MISSING_SHARE, MISSING_CHANCE = 0.25, 1e-6
"""A variation with less than this share of its planned visits has no traffic, if chance explains it too rarely."""
DROPPED_SHARE = 0.4
DEVIATIONS = 5.0
"""The standard deviations by which a count must be too low."""
NAMED_MIN = 5
"""Fewer events or visits that were not counted under a name are no issue."""
LATE_SHARE = 0.01
"""Late visits of a variation up to this share of its assigned ones are none either."""
UNKNOWN_SHARE = 0.05
"""Nor are events with an unknown variation, against the assigned visits: a visit has some ten events."""
BAD_VALUE_SHARE = 0.001
"""Bad values of a point up to this share of its tenant's events are none: single orders are broken everywhere."""
NAMES_SHOWN = 5
"""Names in one sentence; the Health page has more."""


class Issue(NamedTuple):
    """An issue: a few words for it, a sentence, and what to do."""

    short: str
    text: str
    fix: str


def issues_of(tenant: str, state: ExperimentState, at: datetime, basis: Basis, serving: DcHealth | None) -> list[Issue]:
    """The issues of one experiment at the moment `at`, with what the active data center says of it by name."""
    named = [] if serving is None else by_name(tenant, state, serving)
    return of_experiment(state, at, counted_until(basis, serving)) + named


def by_name(tenant: str, state: ExperimentState, dc: DcHealth) -> list[Issue]:
    """What the job did not count of this experiment: late visits by variation, and variations that it does not know."""
    issues = []
    late = [
        of
        for of in dc.late
        if (of.tenant, of.experiment) == (tenant, state.experiment)
        and of.last_5_min >= NAMED_MIN
        and of.last_5_min > LATE_SHARE * sum(state.assigned_recent.get(of.variation, [])[-LATELY_MINUTES:])
    ]
    if late:
        text = ", ".join(f"{of.variation} {figures.plural(of.last_5_min, 'visit')}" for of in late)
        fix = "Their numbers are too low: look at the delays on the Health page, and at time.allowed_lateness_s."
        issues.append(
            Issue("late events", f"Visits with events that came too late to count, in 5 minutes: {text}.", fix)
        )
    unknown = [of for of in dc.unknown_names if (of.tenant, of.experiment) == (tenant, state.experiment)]
    events = sum(of.last_5_min for of in unknown)
    visits = sum(sum(minutes[-LATELY_MINUTES:]) for minutes in state.assigned_recent.values())
    if events >= MESSAGES_MIN and events > UNKNOWN_SHARE * visits:
        unknown = [of for of in unknown if of.last_5_min]
        text = ", ".join(f"{of.name} {figures.plural(of.last_5_min, 'event')}" for of in unknown[:NAMES_SHOWN])
        fix = "Configure them, or add them to the experiment's aliases; or the producer must fix them."
        issues.append(Issue("unknown variations", f"Variations that are not configured, in 5 minutes: {text}.", fix))
    return issues


def of_values(tenant: str, dc: DcHealth) -> list[Issue]:
    """Points whose values cannot be summed, by name: they count as 0, which looks like a loss in every variation."""
    events = sum(flow.last_5_min for flow in dc.tenants if flow.tenant == tenant)
    bad = [
        of
        for of in dc.bad_values
        if of.tenant == tenant and of.last_5_min >= NAMED_MIN and of.last_5_min > BAD_VALUE_SHARE * events
    ]
    if not bad:
        return []
    text = ", ".join(f"{of.point} {figures.plural(of.last_5_min, 'event')}" for of in bad[:NAMES_SHOWN])
    fix = "Such a value counts as 0, so the mean is too low: the producer must send a number."
    return [Issue("bad values", f"Values that are missing or no numbers, in 5 minutes: {text}.", fix)]


def of_large_visits(visits: Sequence[LargeVisit]) -> list[Issue]:
    """Visits that alone make much of a variation's numbers over the range that is shown."""
    if not visits:
        return []
    said = [
        f"one visit has {_size(visit)} of {visit.point} in {visit.variation}, "
        f"{figures.percent(visit.share)} of its total"
        for visit in visits[:NAMES_SHOWN]
    ]
    fix = (
        "A robot, or one id for many visitors: look at the ids of such events. Above limits.crowded_events, "
        "monitor rejects --reason crowded_visit names it."
    )
    return [Issue("large visit", f"In this range {'; '.join(said)}.", fix)]


def _size(visit: LargeVisit) -> str:
    return (
        figures.plural(round(visit.size), "event")
        if visit.of == "events"
        else f"a value of {figures.amount(visit.size)}"
    )


def unknown_experiments(tenant: str, dc: DcHealth) -> str:
    """The names of experiments that events carry and nobody has configured, with their numbers of events."""
    names = [of for of in dc.unknown_names if of.tenant == tenant and of.kind == "experiment" and of.last_5_min]
    return ", ".join(f"{of.name} {figures.count(of.last_5_min)}" for of in names[:NAMES_SHOWN])


def of_experiment(state: ExperimentState, at: datetime, counted_until: datetime | None) -> list[Issue]:
    """The issues of one experiment, the worst first.

    `at` is the moment of the state; `counted_until` that until which visits have been counted, None if unknown.
    """
    if state.state is Running.NO_DATA:
        fix = "Do events carry this experiment? Look for unknown experiment and unknown variation among the warnings."
        return [Issue("no traffic", "No visit was assigned within 24 hours.", fix)]
    issues = []
    if state.state is Running.SILENT:
        fix = "Has the assignment service stopped it? If not, see the Health page."
        issues.append(Issue("no traffic now", "No visit was assigned within 15 minutes.", fix))
    issues += [_without_traffic(name) for name in without_traffic(state)]
    if counted_until is not None and (dropped := _dropped(state, at, counted_until)):
        issues.append(dropped)
    return issues


def of_verdicts(verdicts: VerdictsAnswer | None) -> list[Issue]:
    """The checks that warn, hold or stop, the worst first; a split of assigned and of qualified visits is one issue."""
    found: dict[str, Issue] = {}
    for check in verdicts.checks if verdicts is not None else ():
        if check.state in judgements.ALARMING:
            late = f" {check.late.words}" if check.late is not None else ""
            issue = Issue(judgements.short(check), f"{check.words}{_since(check)}{late}", _FIXES[check.kind])
            found.setdefault(issue.short, issue)
    return list(found.values())


def beside(verdicts: VerdictsAnswer | None, issues: Sequence[Issue]) -> list[Issue]:
    """The issues but those that the worst check, which is shown beside them, says in the same words."""
    said = [judgements.short(check) for check in judgements.notable(verdicts)[:1]]
    return [issue for issue in issues if issue.short not in said]


def distinct(issues: Sequence[Issue]) -> list[Issue]:
    """The issues, of those with the same few words the first: a check and the last minutes may say the same."""
    found: dict[str, Issue] = {}
    for issue in issues:
        found.setdefault(issue.short, issue)
    return list(found.values())


_FIXES: dict[Kind | TrafficKind, str] = {
    Kind.SPLIT_OF_ASSIGNED: "Find the cause before reading any result.",
    Kind.SPLIT_OF_QUALIFIED: "Qualification depends on the variation: find the cause before reading any result.",
    Kind.GUARDRAIL: "Look at the pages of that variation; consider to stop it.",
    Kind.MEAN: "Look at what changed in that variation, such as prices and amounts; consider to stop it.",
    Kind.CROSSED: "Look for a bug in the assignment service.",
    Kind.LATENESS: "That variation loses more events to lateness: look at how its pages send them.",
    TrafficKind.NO_TRAFFIC: "Has the assignment service stopped it? If not, see the Health page.",
    TrafficKind.TRAFFIC_DROPPED: "Is the site up, and do its events arrive? See the Health page.",
    TrafficKind.VARIATION_WITHOUT_VISITS: "Check the assignment service, and the pages of that variation.",
}


def _since(check: CheckAnswer) -> str:
    return "" if check.since is None else f" It began at about {check.since:%H:%M} UTC, {check.since:%Y-%m-%d}."


def of_tenant(messages: Messages, experiments: str = "") -> list[Issue]:
    """The issues of a tenant's messages; `experiments`: the names of unknown ones."""
    issues = []
    if messages.has_many_lost:
        share, reasons = figures.percent(messages.lost_share), _reasons(messages.lost)
        text = f"{share} of the messages were rejected: {reasons}."
        fix = "See the reference for each reason; the producer must fix it."
        issues.append(Issue("high rejection rate", text, fix))
    if messages.has_many_duplicates:
        text = f"{figures.percent(messages.duplicate_share)} of the messages are duplicates; each event counts once."
        issues.append(Issue("mostly duplicates", text, "Look at the producers, and at what replays the topic."))
    for reason, words in (("unknown_variation", "unknown variation"), ("unknown_experiment", "unknown experiment")):
        if messages.has_many_warnings(reason):
            named = f": {experiments}" if experiments and reason == "unknown_experiment" else ""
            text = f"{figures.plural(messages.warnings[reason], 'event')} carried an {words}{named}."
            issues.append(Issue(words, text, "The names in the events and in the configuration differ."))
    return issues


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {figures.count(n)}" for reason, n in largest(counts))


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


def counted_until(basis: Basis, serving: DcHealth | None) -> datetime | None:
    """The moment until which visits have been counted: the last heartbeat, less the time that the job lags behind."""
    if basis.newest is None or serving is None:
        return None
    per_s = sum(flow.events_per_s for flow in serving.tenants)
    lag = serving.lag_messages or 0
    if not lag:
        return basis.newest
    return basis.newest - timedelta(seconds=lag / per_s) if per_s else None


def _dropped(state: ExperimentState, at: datetime, until: datetime) -> Issue | None:
    """All variations together, against the minutes before. What is not counted yet proves nothing."""
    by_minute = [sum(minute) for minute in zip(*state.assigned_recent.values(), strict=True)]
    uncounted = _minute(at) - _minute(until)
    by_minute = by_minute[: len(by_minute) - max(0, uncounted)]
    before, now = by_minute[:-JUDGED_MINUTES], by_minute[-JUDGED_MINUTES:]
    filled = [count for count in before if count]
    if len(before) < BEFORE_MINUTES_MIN or len(filled) < len(before):
        return None
    minutes = JUDGED_MINUTES - 1 + until.timestamp() % 60 / 60
    expected = sum(before) / len(before) * minutes
    visits = sum(now)
    if expected < EXPECTED_MIN or visits >= DROPPED_SHARE * expected or visits > expected - DEVIATIONS * sqrt(expected):
        return None
    text = f"Visits have fallen to {figures.percent(visits / expected, 0)} of the level of the minutes before."
    return Issue("traffic dropped", text, "Is the site up, and do its events arrive? See the Health page.")


def _minute(at: datetime) -> int:
    return int(at.timestamp() // 60)
