"""The choices on an experiment's page, as links: they work by keyboard and can be shared. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from monitor.page import address, interval_words
from monitor.page.address import By, Charted, Range, View
from monitor.page.experiment import ExperimentContext
from monitor.page.markup import Html, element, joined
from monitor.serve.models import Scope


def controls(context: ExperimentContext, tags: Mapping[str, Sequence[str]], dcs: Sequence[str]) -> Html:
    """The choices of range, scope, tags and data center."""
    view = context.view
    ranges = [(r.value, view._replace(last=r, start=None, end=None), r is view.last and not view.start) for r in Range]
    scopes = [(scope.value, view._replace(scope=scope), scope is view.scope) for scope in Scope]
    goals = [(name, view._replace(goal=name), name == context.goal) for name in context.points]
    groups = [
        _choices(context, "Range", ("last", "from", "to"), ranges),
        _range_form(context),
        _kept_range(context),
        _choices(context, "Visits", ("scope",), scopes),
    ]
    groups += [_choices(context, "Primary metric", ("goal",), goals)] if goals else []
    kinds = [
        (words, view._replace(intervals=kind), kind is view.intervals) for kind, words in interval_words.CHOICES.items()
    ]
    groups.append(_choices(context, "Intervals", ("intervals",), kinds))
    groups += [_tag_choices(context, tag, values) for tag, values in tags.items()]
    if len(dcs) > 1:
        named = [("automatic", None), *((dc, dc) for dc in dcs)]
        choices = [(text, view._replace(dc=dc), view.dc == dc) for text, dc in named]
        groups.append(_choices(context, "Data center", ("dc",), choices))
    return element("div", groups, class_="controls")


def chart_controls(context: ExperimentContext) -> Html:
    """The choices of the charts' time axis and values."""
    view = context.view
    by = {By.MINUTE: "by minute", By.HOUR: "by hour", By.CUMULATIVE: "cumulative"}
    values = {Charted.RATE: "conversion rate", Charted.VISITS: "visits"}
    return element(
        "div",
        _choices(
            context, "Over time", ("by",), [(text, view._replace(by=of), of is view.by) for of, text in by.items()]
        ),
        _choices(
            context,
            "Show",
            ("show",),
            [(text, view._replace(charted=of), of is view.charted) for of, text in values.items()],
        ),
        class_="controls",
    )


def _choices(
    context: ExperimentContext, label: str, keys: Sequence[str], choices: Iterable[tuple[str, View, bool]]
) -> Html:
    """Links of which one is chosen, by the values of these keys of the address."""
    return _group(
        label,
        [_link(context, text, view, is_chosen, {"data-set": view.setting(*keys)}) for text, view, is_chosen in choices],
    )


def _tag_choices(context: ExperimentContext, tag: str, values: Sequence[str]) -> Html:
    """Links of which any number is chosen."""
    view, chosen = context.view, context.view.filter().get(tag, [])
    links = [_link(context, "all", view.without(tag), not chosen, {"data-set": f"{address.TAG}{tag}="})]
    links += [
        _link(context, value, view.toggled(tag, value), value in chosen, {"data-toggle": f"{address.TAG}{tag}={value}"})
        for value in values
    ]
    return _group(tag, links)


def _group(label: str, links: Sequence[Html]) -> Html:
    nav = element("nav", links, class_="choices", aria_label=label, data_rove=True)
    return element("div", element("span", label, class_="label"), nav, class_="group")


def _link(context: ExperimentContext, text: str, view: View, is_chosen: bool, change: Mapping[str, str]) -> Html:
    href = address.of_experiment(context.answer.tenant, context.answer.experiment, view)
    return element("a", text, of=change, href=href, data_local=True, aria_current="true" if is_chosen else None)


def _range_form(context: ExperimentContext) -> Html:
    basis, view = context.answer.basis, context.view
    inputs = [
        joined(element("label", name, " ", _moment_input(name, at)), element("output", class_="faint"))
        for name, at in (("from", basis.start), ("to", basis.end))
    ]
    return element(
        "details",
        element("summary", "from … to …"),
        element("form", inputs, element("button", "Show", type="submit"), data_params=True),
        open=bool(view.start),
        class_="range",
        data_keep=True,
    )


def _kept_range(context: ExperimentContext) -> Html | None:
    """A link to the same minutes for ever, where the range moves with the present."""
    basis, view = context.answer.basis, context.view
    if view.start or view.end:
        return None
    kept = view._replace(start=f"{basis.start:%Y-%m-%dT%H:%MZ}", end=f"{basis.end:%Y-%m-%dT%H:%MZ}")
    link = _link(context, "keep this range", kept, False, {"data-set": kept.setting("last", "from", "to")})
    return element("span", link, class_="range", title="The address then shows everybody these minutes, also later.")


def _moment_input(name: str, at: datetime) -> Html:
    """A field for a moment in the reader's time, which `page.js` fills; it writes the UTC into the output beside it."""
    utc = f"{at:%Y-%m-%dT%H:%MZ}"
    return element("input", of={"name": name}, type="datetime-local", data_utc=utc, required=True)
