"""What the configuration says of an experiment and its metrics, below its name. Pure."""

from monitor.page.markup import Html, element, joined
from monitor.serve.abouts import About, ExperimentAbout


def about(of: ExperimentAbout) -> Html:
    """The description, and who owns it and what it is about; what is said of metrics can be opened. May be nothing."""
    goal = None if of.goal is None else f"Primary metric: {of.goal}"
    facts = _facts(of, goal)
    return joined(
        element("p", of.description, class_="about") if of.description else None,
        element("p", facts, class_="about faint") if facts else None,
        _metrics(of) if of.points else None,
    )


def _metrics(of: ExperimentAbout) -> Html:
    rows = [element("div", element("dt", name), element("dd", _said(point))) for name, point in of.points.items()]
    return element("details", element("summary", "About the metrics"), element("dl", rows), class_="about")


def _said(of: About) -> Html:
    facts = _facts(of)
    return joined(of.description, " " if of.description and facts else None, facts)


def _facts(of: About, first: str | None = None) -> Html:
    facts = [
        first,
        f"Unit: {of.unit}" if of.unit else None,
        f"Owner: {of.owner}" if of.owner else None,
        element("a", "More about it", href=of.link, rel="noreferrer") if of.link else None,
    ]
    said = [fact for fact in facts if fact]
    return joined(*(joined(" · " if i else None, fact) for i, fact in enumerate(said)))
