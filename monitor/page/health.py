"""The state of the monitor. Pure: an answer in, HTML out."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from monitor.page import figures, plots
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.health_figures import Figure, of_dc, of_store
from monitor.serve.health_models import Count, DcHealth, Divergence, Failover, HealthAnswer, Status
from monitor.serve.health_ranges import HealthRange
from monitor.serve.live_aa_models import IntervalAnswer, LiveAaAnswer
from monitor.serve.models import DcState, ServingReason

REASONS = {
    ServingReason.PREFERRED: "it is the preferred one, and healthy",
    ServingReason.STALE: "the preferred one has sent no heartbeat lately",
    ServingReason.MISSING: "the preferred one has never sent a heartbeat",
    ServingReason.BEHIND: "the watermark of the preferred one is too far behind",
    ServingReason.LESS_COMPLETE: "the preferred one holds fewer visits",
    ServingReason.RECOVERING: "the preferred one is healthy again, but not for long enough yet",
    ServingReason.FORCED: "it was chosen",
}
"""Why a data center serves, as the rest of a sentence that begins with "because"."""
STATES = {
    DcState.HEALTHY: "good",
    DcState.RECOVERING: "warning",
    DcState.BEHIND: "warning",
    DcState.STALE: "bad",
    DcState.MISSING: "bad",
}
NAMES_SHOWN = 40
"""Names that are not configured, of one data center."""
STATUS = {
    Status.OK: ("good", "All is well"),
    Status.DEGRADED: ("warning", "Something needs attention"),
    Status.DOWN: ("bad", "Numbers are old, or missing"),
}


def headline(health: HealthAnswer) -> Html:
    """The state in one sentence, and what to do."""
    kind, words = STATUS[health.status]
    final = joined(" Final until ", moment(health.final_until), ".") if health.final_until else " Nothing is final yet."
    advice = [element("li", text) for text in health.advice]
    notices = [element("li", text) for text in health.notices]
    return element(
        "div",
        element("p", element("strong", f"{words}.")),
        element("p", "Active data center: ", element("strong", health.serving_dc), ".", final),
        element("ul", advice) if advice else None,
        element("p", "Good to know:", element("ul", notices)) if notices else None,
        class_=f"notice {kind}",
        role="status",
    )


def data_centers(health: HealthAnswer, ranges: Mapping[str, HealthRange]) -> Html:
    """A card for each data center, and one for the store."""
    cards = [_data_center(dc, ranges) for dc in health.dcs]
    return element("div", cards, _store(health, ranges), class_="cards-grid")


def messages(health: HealthAnswer) -> Html:
    """Events, delays and rejects of the last hour, by data center and tenant."""
    return joined(*(joined(_messages(dc, len(health.dcs) > 1), _named(dc)) for dc in health.dcs))


def failovers(listed: Sequence[Failover]) -> Html:
    """A table of the failovers: the moment, the data centers, and the reason."""
    if not listed:
        return element("p", "None within 24 hours.", class_="note")
    head = element("tr", *(element("th", text, scope="col") for text in ("When", "From", "To", "Of", "Because")))
    rows = [
        element(
            "tr",
            element("th", moment(failover.at, "day"), scope="row"),
            element("td", failover.from_dc, data_label="From"),
            element("td", failover.to_dc, data_label="To"),
            element(
                "td", f"{failover.tenant} {failover.experiment}" if failover.experiment else "all", data_label="Of"
            ),
            element("td", REASONS[failover.reason], data_label="Because"),
        )
        for failover in listed
    ]
    return element("table", element("thead", head), element("tbody", rows), class_="cards")


def live_aa(health: HealthAnswer) -> Html:
    """A table of what live A/A says of each tenant."""
    if not health.live_aa:
        return element("p", "It is off: aa = true in the table of a tenant switches it on.", class_="note")
    titles = ("Tenant", "Visits", "Splits that alarm", "Design effect", "What it says")
    head = element("tr", *(element("th", text, scope="col") for text in titles))
    rows = [
        element(
            "tr",
            element("th", of.tenant, scope="row"),
            element("td", figures.count(of.visits), data_label=titles[1], class_="figure"),
            element("td", _alarms(of), data_label=titles[2], class_="figure"),
            element("td", _interval(of.design_effect, 1, ""), data_label=titles[3], class_="figure"),
            element("td", of.words, _experiments(of), data_label=titles[4]),
            class_="outside" if of.is_dependent else None,
        )
        for of in health.live_aa
    ]
    about = (
        "Each experiment is split 15 times by its sessions, in ways that make no difference. At most 20 % of them "
        "may alarm at level 0.2; the design effect of independent visits is 1."
    )
    return joined(
        element("p", about, class_="note"),
        element("table", element("thead", head), element("tbody", rows), class_="cards"),
    )


def _alarms(of: LiveAaAnswer) -> str:
    return figures.NONE if of.gauge is None else f"{of.alarms} of {of.splits}: {_interval(of.gauge, 100, ' %')}"


def _interval(figure: IntervalAnswer | None, times: float, unit: str) -> str:
    """A figure with its interval; of shares in percent."""
    if figure is None:
        return figures.NONE
    digits = 0 if unit else 2
    value, low, high = (f"{times * end:.{digits}f}{unit}" for end in (figure.value, figure.low, figure.high))
    return f"{value} ({low} to {high})"


def _experiments(of: LiveAaAnswer) -> Html:
    judged, waiting = ", ".join(of.experiments), ", ".join(of.waiting)
    said = [f"Of {judged}." if judged else "", f"Not judged yet: {waiting}." if waiting else ""]
    return element("p", " ".join(filter(None, said)), class_="note")


def divergences(health: HealthAnswer, ranges: Mapping[str, HealthRange]) -> Html:
    """The experiments in which data centers differ, and by how much."""
    if len(health.dcs) < 2:
        return element("p", "There is one data center, so there is nothing to compare it with.", class_="note")
    if not health.divergences:
        compared = figures.plural(health.compared_experiments, "experiment")
        return element("p", f"None: {compared} compared over final minutes, all equal.", class_="note")
    return _divergence_table(health.divergences, ranges["divergence"])


def _data_center(dc: DcHealth, ranges: Mapping[str, HealthRange]) -> Html:
    state = element("span", dc.state.value, class_=f"tag {STATES[dc.state]}")
    serving = element("span", "active", class_="tag good") if dc.is_serving else None
    rows = [_figure(figure) for figure in of_dc(dc, ranges)]
    by_partition = [
        element("li", f"{partition}: {figures.count(lag)}") for partition, lag in sorted(dc.lag_by_partition.items())
    ]
    sink = f"{figures.plural(dc.points_written, 'data point')} written to KairosDB in the last hour."
    return element(
        "section",
        element("header", element("h3", dc.dc), state, serving),
        element("dl", rows, class_="figures"),
        element("p", sink, class_="note"),
        element("details", element("summary", "Lag by partition"), element("ul", by_partition))
        if by_partition
        else None,
        class_="card",
    )


def _store(health: HealthAnswer, ranges: Mapping[str, HealthRange]) -> Html:
    store = health.store
    kind, word = ("good", "answers") if store.reachable else ("bad", "does not answer")
    return element(
        "section",
        element("header", element("h3", "KairosDB"), element("span", word, class_=f"tag {kind}")),
        element("dl", _figure(of_store(store, ranges)), class_="figures"),
        element("p", store.url, class_="note address"),
        element("p", store.message, class_="note") if store.message else None,
        class_="card",
    )


def _figure(figure: Figure) -> Html:
    limits, value, outside = figure.range, figure.value, figure.is_outside
    range_words = f"normal: {figures.normal_range(limits)}"
    text = (
        figures.in_unit(limits.unit, abs(value)) + " ahead"
        if figure.is_ahead and value
        else figures.in_unit(limits.unit, value)
    )
    label = f"{text}, {range_words}"
    return element(
        "div",
        element("dt", limits.name, title=limits.meaning),
        element("dd", text, class_="value"),
        element("dd", plots.gauge(value, (0.0, limits.normal), limits.alarm, label) if value is not None else None),
        element("dd", range_words, class_="normal-words"),
        element("dd", limits.fix, class_="fix") if outside else None,
        class_="outside" if outside else None,
    )


def _messages(dc: DcHealth, is_named: bool) -> Html:
    rejected, warnings = _by_tenant(dc.rejected), _by_tenant(dc.warnings)
    flows = {flow.tenant: flow for flow in dc.tenants}
    titles = ("Tenant", "Events/s", "Events, 1 h", "Delay, mean", "Delay, longest", "Rejected", "Warnings")
    rows = []
    for tenant in dict.fromkeys([*flows, *rejected, *warnings]):
        flow = flows.get(tenant)
        delay_mean = None if flow is None or flow.delay_ms_mean is None else flow.delay_ms_mean / 1_000
        delay_max = None if flow is None or flow.delay_ms_max is None else flow.delay_ms_max / 1_000
        cells = (
            f"{flow.events_per_s:,.1f}" if flow else figures.NONE,
            figures.count(flow.events) if flow else figures.NONE,
            figures.NONE if delay_mean is None else f"{delay_mean:.1f} s".replace("-", figures.MINUS),
            figures.NONE if delay_max is None else figures.duration(delay_max),
        )
        rows.append(
            element(
                "tr",
                element("th", tenant, scope="row"),
                [
                    element("td", text, data_label=title, class_="figure")
                    for title, text in zip(titles[1:], cells, strict=False)
                ],
                element("td", _reasons(rejected[tenant]), data_label=titles[5], class_="reasons"),
                element("td", _reasons(warnings[tenant]), data_label=titles[6], class_="reasons"),
            )
        )
    caption = (
        element("caption", f"Messages in {dc.dc}") if is_named else element("caption", "Messages", class_="unseen")
    )
    head = element("tr", *(element("th", text, scope="col") for text in titles))
    body = rows or element(
        "tr", element("td", "No messages within the last hour.", colspan=len(titles), class_="faint")
    )
    return element("table", caption, element("thead", head), element("tbody", body), class_="cards messages")


def _named(dc: DcHealth) -> Html:
    """What was not counted in the last hour, by the names of experiments, variations and points."""
    lists = {
        "Visits with events that came too late": [
            (f"{of.tenant} {of.experiment} {of.variation}", of.visits) for of in dc.late
        ],
        "Values that are missing or no numbers, by metric": [
            (f"{of.tenant} {of.point}", of.events) for of in dc.bad_values
        ],
        "Names that are not configured": [
            (" ".join(filter(None, [of.tenant, of.kind, of.experiment, of.name])), of.events)
            for of in dc.unknown_names[:NAMES_SHOWN]
        ],
    }
    return joined(
        *(
            element(
                "details",
                element("summary", f"{title}, in {dc.dc}"),
                element("ul", [element("li", name, " ", element("b", figures.count(n))) for name, n in rows]),
                data_keep=True,
            )
            for title, rows in lists.items()
            if rows
        )
    )


def _by_tenant(counts: Sequence[Count]) -> defaultdict[str, Counter[str]]:
    by_tenant: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for count in counts:
        by_tenant[count.tenant][count.reason] += count.messages
    return by_tenant


def _reasons(counts: Mapping[str, int]) -> Html:
    ordered = sorted(counts.items(), key=lambda pair: pair[1], reverse=True)
    if not ordered:
        return joined("0")
    return element("ul", [element("li", reason, " ", element("b", figures.count(n))) for reason, n in ordered])


def _divergence_table(divergences: Sequence[Divergence], limits: HealthRange) -> Html:
    titles = ("Experiment", "Data centers", "Worst minute", "Difference", "Compared")
    head = element("tr", *(element("th", text, scope="col") for text in titles))
    rows = [
        element(
            "tr",
            element("th", f"{of.tenant} {of.experiment}", scope="row"),
            element("td", f"{of.dc}, {of.against}", data_label=titles[1]),
            element("td", moment(of.worst_minute, "day"), data_label=titles[2]),
            element("td", figures.in_unit(limits.unit, of.ppm_max), data_label=titles[3], class_="figure"),
            element("td", figures.plural(of.minutes, "minute"), data_label=titles[4], class_="figure"),
        )
        for of in divergences
    ]
    table = element("table", element("thead", head), element("tbody", rows), class_="cards")
    return joined(
        element("p", f"{limits.meaning} Normal: {figures.normal_range(limits)}. {limits.fix}", class_="note"), table
    )
