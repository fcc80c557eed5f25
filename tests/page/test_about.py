"""What the configuration says of an experiment, below its name; and the metric that it is about."""

import re

import pytest

from monitor.config.settings import PointTable
from monitor.page.about import about
from monitor.page.goals import goal_of
from monitor.serve.abouts import About, ExperimentAbout

NOTHING = ExperimentAbout(description=None, owner=None, unit=None, link=None, goal=None, points={})


def text(html: str) -> str:
    """The text between the tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_what_is_said_is_shown() -> None:
    """All of it, escaped; a link leads there."""
    said = NOTHING.model_copy(
        update={
            "description": "One page <b>instead</b> of three.",
            "owner": "checkout team",
            "unit": "visitor",
            "link": "https://wiki.example.org/?a=1&b=2",
            "goal": "order",
        }
    )
    html = about(said)
    assert "One page &lt;b&gt;instead&lt;/b&gt; of three." in html
    assert "Primary metric: order · Unit: visitor · Owner: checkout team · More about it" in text(html)
    assert 'href="https://wiki.example.org/?a=1&amp;b=2"' in html
    assert "About the metrics" not in html


def test_what_is_said_of_metrics_can_be_opened() -> None:
    """Each by its name."""
    order = About(description="A paid order.", owner=None, unit="USD", link=None)
    html = about(NOTHING.model_copy(update={"points": {"order": order}}))
    assert text(html) == "About the metrics order A paid order. Unit: USD"
    assert html.startswith("<details")


def test_nothing_is_shown_of_nothing() -> None:
    """Most experiments say nothing."""
    assert about(NOTHING) == ""


@pytest.mark.parametrize(
    ("chosen", "configured", "goal"),
    [(None, None, "order"), (None, "a", "a"), ("b", "a", "b"), ("gone", "a", "a"), (None, "gone", "order")],
)
def test_the_primary_metric(chosen: str | None, configured: str | None, goal: str) -> None:
    """The reader's choice, else the experiment's goal, else orders."""
    table = PointTable(event="x")
    assert goal_of(dict.fromkeys(("a", "order", "b"), table), chosen, configured) == goal
    unguarded = PointTable(event="y", better="none")
    assert goal_of({"a": unguarded, "b": table}, None) == "b"
    assert goal_of({"a": unguarded}) == "a"
    assert goal_of({}) is None
