"""The state of the monitor. Pure: an answer in, HTML out."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monitor.page import figures, plots
from monitor.page.health_ranges import Normal
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.models import Count, DcHealth, DcState, Divergence, Failover, HealthAnswer, ServingReason, Status

REASONS = {
    ServingReason.PREFERRED: "it is the preferred one, and in order",
    ServingReason.STALE: "the preferred one has not reported lately",
    ServingReason.MISSING: "the preferred one has not reported at all",
    ServingReason.BEHIND: "the watermark of the preferred one is too far behind",
    ServingReason.LESS_COMPLETE: "the preferred one holds fewer visits",
    ServingReason.RECOVERING: "the preferred one is in order again, but not for long enough yet",
    ServingReason.FORCED: "it was asked for",
}
"""Why a data center serves, as the rest of a sentence that begins with "because"."""
STATES = {
    DcState.HEALTHY: "good",
    DcState.RECOVERING: "odd",
    DcState.BEHIND: "odd",
    DcState.STALE: "bad",
    DcState.MISSING: "bad",
}
STATUS = {
    Status.OK: ("good", "All is well"),
    Status.DEGRADED: ("odd", "The numbers are right, but something needs a look"),
    Status.DOWN: ("bad", "Numbers are old, or there are none"),
}


class Figure(NamedTuple):
    """One figure of one data center."""

    normal: Normal
    value: float | None
    text: str


def headline(health: HealthAnswer) -> Html:
    """All in one sentence, and what to do."""
    kind, words = STATUS[health.status]
    sealed = (
        joined("; sealed up to ", moment(health.sealed_until)) if health.sealed_until else "; nothing is sealed yet"
    )
    advice = [element("li", text) for text in health.advice]
    return element(
        "div",
        element("p", element("strong", f"{words}.")),
        element("p", "The present is served by ", element("strong", health.serving_dc), sealed, "."),
        element("ul", advice) if advice else None,
        class_=f"notice {kind}",
        role="status",
    )


def data_centers(health: HealthAnswer, normal: Mapping[str, Normal]) -> Html:
    """A card for each data center, and one for the store."""
    cards = [_data_center(dc, normal) for dc in health.dcs]
    return element("div", cards, _store(health, normal), class_="cards-grid")


def messages(health: HealthAnswer) -> Html:
    """Events, delays and rejects of the last hour, by data center and tenant."""
    return joined(*(_messages(dc, len(health.dcs) > 1) for dc in health.dcs))


def switches(found: Sequence[Failover]) -> Html:
    """When another data center took over."""
    if not found:
        return element("p", "None within 24 hours: one data center has served all the time.", class_="note")
    head = element("tr", *(element("th", text, scope="col") for text in ("When", "From", "To", "Of", "Because")))
    rows = [
        element(
            "tr",
            element("th", moment(switch.at, "day"), scope="row"),
            element("td", switch.from_dc, data_label="From"),
            element("td", switch.to_dc, data_label="To"),
            element("td", f"{switch.tenant} {switch.experiment}" if switch.experiment else "all", data_label="Of"),
            element("td", REASONS[switch.reason], data_label="Because"),
        )
        for switch in found
    ]
    return element("table", element("thead", head), element("tbody", rows), class_="cards")


def divergences(health: HealthAnswer, normal: Mapping[str, Normal]) -> Html:
    """How far mirrors are apart."""
    if len(health.dcs) < 2:
        return element("p", "There is one data center, so there is nothing to compare it with.", class_="note")
    if not health.divergences:
        compared = figures.plural(health.compared_experiments, "experiment")
        return element("p", f"None: {compared} compared over sealed minutes, all equal.", class_="note")
    return _divergence_table(health.divergences, normal["divergence"])


def of_dc(dc: DcHealth, normal: Mapping[str, Normal]) -> list[Figure]:
    """The figures of a data center that have a normal range."""
    rejected = sum(count.messages for count in dc.rejected)
    events = sum(flow.events for flow in dc.tenants)
    share = rejected / (events + rejected) if events + rejected else 0.0
    corrected = dc.corrections / events if events else 0.0
    shown = {
        "report age": (dc.report_age_s, figures.duration(dc.report_age_s)),
        "watermark delay": (dc.watermark_age_s, figures.duration(dc.watermark_age_s)),
        "lag": (dc.lag_messages, figures.count(dc.lag_messages)),
        "rejects": (share, figures.percent(share, 2)),
        "corrections": (corrected, f"{corrected:.2f}"),
        "sessions in state": (dc.sessions, figures.count(dc.sessions)),
        "totals in state": (dc.totals, figures.count(dc.totals)),
        "memory": (dc.memory_bytes, figures.size(dc.memory_bytes)),
        "retries": (dc.retries, figures.count(dc.retries)),
        "dead letters": (dc.dead_letters, figures.count(dc.dead_letters)),
    }
    return [Figure(normal[name], value, text) for name, (value, text) in shown.items()]


def most(normal: Normal) -> str:
    """The end of the normal range in words."""
    match normal.name:
        case "report age" | "watermark delay":
            return figures.duration(normal.most)
        case "rejects":
            return figures.percent(normal.most, 0)
        case "corrections":
            return f"{normal.most:g}"
        case "memory":
            return figures.size(round(normal.most))
        case "store answer":
            return f"{normal.most:g} ms"
        case "divergence":
            return f"{figures.count(round(normal.most))} ppm"
    return figures.compact(normal.most)


def _data_center(dc: DcHealth, normal: Mapping[str, Normal]) -> Html:
    state = element("span", dc.state.value, class_=f"tag {STATES[dc.state]}")
    serving = element("span", "serves", class_="tag good") if dc.is_serving else None
    rows = [_figure(figure) for figure in of_dc(dc, normal)]
    by_partition = [
        element("li", f"{partition}: {figures.count(lag)}") for partition, lag in sorted(dc.lag_by_partition.items())
    ]
    sink = f"{figures.plural(dc.points_written, 'point')} written to KairosDB in the last hour."
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


def _store(health: HealthAnswer, normal: Mapping[str, Normal]) -> Html:
    store = health.store
    kind, word = ("good", "answers") if store.reachable else ("bad", "does not answer")
    text = figures.NONE if store.answer_ms is None else f"{store.answer_ms:,.0f} ms"
    return element(
        "section",
        element("header", element("h3", "KairosDB"), element("span", word, class_=f"tag {kind}")),
        element("dl", _figure(Figure(normal["store answer"], store.answer_ms, text)), class_="figures"),
        element("p", store.url, class_="note address"),
        element("p", store.message, class_="note") if store.message else None,
        class_="card",
    )


def _figure(figure: Figure) -> Html:
    normal, value = figure.normal, figure.value
    outside = value is not None and value > normal.most
    range_words = f"normal: up to {most(normal)}" if normal.most else "normal: 0"
    label = f"{figure.text}, {range_words}"
    return element(
        "div",
        element("dt", normal.name, title=normal.meaning),
        element("dd", figure.text, class_="value"),
        element("dd", plots.gauge(value, (0.0, normal.most), normal.reach, label) if value is not None else None),
        element("dd", range_words, class_="normal-words"),
        element("dd", normal.fix, class_="fix") if outside else None,
        class_="outside" if outside else None,
    )


def _messages(dc: DcHealth, is_named: bool) -> Html:
    rejected, noted = _by_tenant(dc.rejected), _by_tenant(dc.noted)
    flows = {flow.tenant: flow for flow in dc.tenants}
    titles = ("Tenant", "Events/s", "Events, 1 h", "Delay, mean", "Delay, longest", "Rejected", "Noted")
    rows = []
    for tenant in dict.fromkeys([*flows, *rejected, *noted]):
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
                element("td", _reasons(noted[tenant]), data_label=titles[6], class_="reasons"),
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


def _divergence_table(found: Sequence[Divergence], normal: Normal) -> Html:
    titles = ("Experiment", "Data centers", "Worst minute", "Apart", "Compared")
    head = element("tr", *(element("th", text, scope="col") for text in titles))
    rows = [
        element(
            "tr",
            element("th", f"{of.tenant} {of.experiment}", scope="row"),
            element("td", f"{of.dc}, {of.against}", data_label=titles[1]),
            element("td", moment(of.worst_minute, "day"), data_label=titles[2]),
            element("td", f"{figures.count(of.ppm_max)} ppm", data_label=titles[3], class_="figure"),
            element("td", figures.plural(of.minutes, "minute"), data_label=titles[4], class_="figure"),
        )
        for of in found
    ]
    table = element("table", element("thead", head), element("tbody", rows), class_="cards")
    return joined(element("p", f"{normal.meaning} Normal: up to {most(normal)}. {normal.fix}", class_="note"), table)
