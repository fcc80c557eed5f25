"""The content of the page without a browser: words, figures, addresses, small drawings."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.config.reader import parse
from monitor.config.settings import ExperimentTable
from monitor.core import wording
from monitor.page import address, colours, figures, plots
from monitor.page.address import By, Charted, Range, Search, View
from monitor.page.markup import element, joined, moment
from monitor.serve.models import Difference, Scope
from tests.support.messages import shop

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 11, 25, 14, 30, 30, tzinfo=UTC)


# Words


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"event": "page_view"}, "page_view"),
        ({"event": ["order", "click"]}, "order or click"),
        ({"where": {"page": "home"}}, 'any event where page is "home"'),
        (
            {"event": "checkout", "where": {"payment": ["card", "wallet"]}},
            'checkout where payment is "card" or "wallet"',
        ),
        ({"where": {"a": {"min": 20, "max": 30.5}}}, "any event where a is at least 20 and at most 30.5"),
        ({"where": {"a": {"exists": True}, "b": {"exists": False}}}, "any event where a is present and b is absent"),
        ({"event": "add", "where": {"a": {"not": ["x", "y"]}}}, 'add where a is present and not "x" or "y"'),
        ({"event": "add", "where": {"a": {"not": True}}}, "add where a is present and not true"),
        ({"point": "home_page"}, 'page_view where page is "home" (the metric home_page)'),
        ({"all": [{"event": "a"}, {"event": "b"}]}, "both a and b"),
        ({"any": [{"event": "a"}, {"event": "b"}]}, "either a or b"),
        ({"all": [{"event": "a"}]}, "a"),
        ({"all": [{"event": n} for n in "abc"]}, "all of a; b; c"),
        ({"all": [{"event": "a"}, {"any": [{"event": "b"}, {"event": "c"}]}]}, "both a and (either b or c)"),
    ],
)
def test_a_rule_in_words(rule: Any, said: str) -> None:
    """Every kind of rule and condition has words."""
    table = ExperimentTable.model_validate({"control": "a", "variations": {"a": 1}, "qualified_when": rule})
    points = {point.name: point for point in parse(shop()).tenants["uswm"].compiled("uswm").points}
    assert wording.rule(table.compiled("e").qualified_when, points) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (21, "21st"), (112, "112th")],
)
def test_a_point_with_nth_in_words(number: int, said: str) -> None:
    """The n-th matching event, in English."""
    config = shop()
    config["tenants"]["uswm"]["points"]["engaged"]["nth"] = number
    (point,) = (p for p in parse(config).tenants["uswm"].compiled("uswm").points if p.name == "engaged")
    assert wording.point(point) == f"{said} page_view"


# Figures


@pytest.mark.parametrize(
    ("share", "said"), [(0.5134, "51.3 %"), (0.0421, "4.21 %"), (0.00083, "0.083 %"), (0, "0.00 %"), (-0.01, "-1.00 %")]
)
def test_rates_have_the_digits_that_they_need(share: float, said: str) -> None:
    """Small rates have more of them."""
    assert plain(figures.rate(share)) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "never"),
        (0, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (5_900, "98 min"),
        (7_200, "2 h"),
        (7_260, "2 h 1 min"),
        (400_000, "5 days"),
    ],
)
def test_durations_have_the_unit_that_matters(seconds: float | None, said: str) -> None:
    """From seconds to days."""
    assert plain(figures.duration(seconds)) == said


def test_differences_have_signs() -> None:
    """Also a plus, and a minus that is one."""
    assert plain(figures.points(0.0042)) == "+0.42 pp"
    assert plain(figures.points(-0.0042)) == "-0.42 pp"
    assert plain(figures.interval(-0.001, 0.0074, True)) == "-0.10 to +0.74 pp"
    assert plain(figures.interval(-1.5, 2, False)) == "-1.50 to +2.00"
    assert plain(figures.relative(difference(0.01, relative=0.051))) == "+5.1 %"
    assert figures.relative(difference(0.01, relative=None)) == ""


@pytest.mark.parametrize(
    ("number", "said"), [(None, "-"), (999, "999"), (12_345, "12.3k"), (2_000_000, "2M"), (3.2e9, "3.2G"), (0, "0")]
)
def test_compact_numbers(number: float | None, said: str) -> None:
    """Three digits and a letter."""
    assert plain(figures.compact(number)) == said


# Markup


@given(st.text())
def test_text_is_escaped_exactly_once(text: str) -> None:
    """Whatever a name holds, it is text, in content as in attributes."""
    made = element("p", text, element("b", text), title=text)
    reader = _Reader()
    reader.feed(made)
    reader.close()
    assert (reader.tags, reader.attributes, "".join(reader.texts)) == (["p", "b"], [("title", text)], text + text)
    assert joined(made, [made, None]) == made + made
    assert made.count("<") == 4


class _Reader(HTMLParser):
    """Reads markup as a browser does."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_attributes() -> None:
    """True stands alone, False and None are left out, underscores are dashes; SVG's elements are closed."""
    assert element("a", class_="x", data_local=True, hidden=False, title=None, of={"viewBox": "0"}) == (
        '<a class="x" data-local viewBox="0"></a>'
    )
    assert element("input", of={"name": "from"}) == '<input name="from">'
    assert element("circle", r=1.5) == '<circle r="1.5"></circle>'


def test_a_moment_is_readable_before_the_browser_changes_it() -> None:
    """In UTC, which it says."""
    assert moment(AT) == '<time datetime="2026-11-25T14:30:30Z" data-form="time">25 Nov 14:30 UTC</time>'


# The address

VIEWS = st.builds(
    View,
    start=st.none(),
    end=st.none(),
    last=st.sampled_from(Range),
    scope=st.sampled_from(Scope),
    by=st.sampled_from(By),
    charted=st.sampled_from(Charted),
    goal=st.none() | st.text(min_size=1, max_size=9),
    tags=st.lists(st.tuples(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=5)), unique=True).map(tuple),
    dc=st.none() | st.text(min_size=1, max_size=9),
)


@given(VIEWS)
def test_the_address_holds_the_view(view: View) -> None:
    """All choices are in the address, and are read from it again."""
    assert View.read(view.query()) == view


def test_what_is_not_configured_is_left_out_of_a_view() -> None:
    """A tag, a value, a data center and a metric, each by its name; the rest stays."""
    view = View.read("?tag.device=watch&tag.device=mobile&tag.colour=red&dc=xyz&goal=gone&by=hour")
    known, left_out = view.known({"device": ["mobile"]}, ["dal"], ["order"])
    assert known == View(by=By.HOUR, tags=(("device", "mobile"),))
    assert left_out == ["device watch", "colour red", "data center xyz", "metric gone"]
    assert known._replace(dc="dal", goal="order").known({"device": ["mobile"]}, ["dal"], ["order"])[1] == []


@given(st.text())
def test_any_address_is_a_view(query: str) -> None:
    """Unknown parameters are ignored; nothing fails."""
    assert isinstance(View.read(query), View)
    assert isinstance(Search.read(query), Search)


def test_the_plain_address_is_short() -> None:
    """Defaults are left out."""
    assert address.of_experiment("uswm", "button_color", View()) == "/experiments/uswm/button_color"
    chosen = View(by=By.CUMULATIVE).toggled("device", "mobile")
    assert address.of_experiment("uswm", "x", chosen) == "/experiments/uswm/x?by=cumulative&tag.device=mobile"
    assert chosen.toggled("device", "mobile") == View(by=By.CUMULATIVE)
    assert chosen.toggled("login", "true").without("device").filter() == {"login": ["true"]}
    assert View(start="a", end="b", last=Range.DAY).query() == "?from=a&to=b"


def test_a_search_finds_all_words() -> None:
    """In any of the names, in any case."""
    assert Search("USWM red").finds("uswm", "button_color", "blue", "red")
    assert not Search("uswm green").finds("uswm", "button_color", "blue", "red")
    assert Search("").finds("uswm", "x")
    assert Search.read("?q=a+b&only=issues") == Search.read("?q=a+b&only=attention") == Search("a b", True)
    assert Search("a b", True).query() == "?q=a+b&only=attention"


# Colours and plots


def test_a_variation_has_its_colour_wherever_it_is() -> None:
    """The control's is the first; the others' go by their order; more than there are colours begin again."""
    assert colours.of_variations("b", ["a", "b", "c"]) == {"b": "var(--v0)", "a": "var(--v1)", "c": "var(--v2)"}
    many = colours.of_variations("v0", [f"v{i}" for i in range(12)])
    assert len(set(many.values())) == colours.COLOURS
    style = (ROOT / "monitor/page/page.css").read_text()
    assert all(f"--v{i}:" in style for i in range(colours.COLOURS))


@given(st.lists(st.integers(-2, 10**9), max_size=30))
def test_a_spark_line_stays_in_its_place(values: list[int]) -> None:
    """Whatever it shows, also nothing."""
    assert numbers_within(plots.spark(values, "visits"), plots.SPARK_WIDTH, plots.SPARK_HEIGHT)


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(-10, 10), st.floats(0, 10))
def test_an_interval_stays_in_its_place(low: float, value: float, high: float, reach: float) -> None:
    """Values beyond the scale are drawn at its end."""
    drawn = plots.interval(low, value, high, reach, "red") + plots.estimate(low, value, high, (0, reach), "red", "x")
    assert numbers_within(drawn, plots.INTERVAL_WIDTH, plots.INTERVAL_HEIGHT)


def plain(text: str) -> str:
    """With common spaces, dashes and minus signs."""
    return text.replace(figures.THIN, " ").replace(figures.MINUS, "-").replace(figures.NONE, "-")


def difference(absolute: float, relative: float | None) -> Difference:
    return Difference(
        absolute=absolute, relative=relative, standard_error=None, low=None, high=None, is_significant=False
    )


def numbers_within(drawn: str, width: float, height: float) -> bool:
    """True if all coordinates of a drawing are in its view."""
    xs = [float(x) for x in re.findall(r'(?:x[12]|cx)="(-?[\d.]+)"', drawn)]
    ys = [float(y) for y in re.findall(r'(?:y[12]|cy)="(-?[\d.]+)"', drawn)]
    for spots in re.findall(r'points="([^"]*)"', drawn):
        pairs = [spot.split(",") for spot in spots.split()]
        xs += [float(x) for x, _ in pairs]
        ys += [float(y) for _, y in pairs]
    return all(0 <= x <= width for x in xs) and all(0 <= y <= height for y in ys)
