"""The frame of all pages: the header, the footer, and the notices in place of content."""

from collections.abc import Iterator
from contextlib import contextmanager

from nicegui import ui

from monitor.page import address, figures
from monitor.page.elements import Fragment
from monitor.page.health import STATUS
from monitor.page.markup import Html, element, joined
from monitor.serve.models import HealthAnswer, Problem

PAGES = {"/": "Experiments", "/health": "Health"}

_announced: list[Html] = []


def announce(text: str) -> None:
    """Puts a line on top of every page from now on, instead of the one before; what is in backticks is code."""
    parts = (element("code", part) if i % 2 else part for i, part in enumerate(text.split("`")))
    _announced[:] = [element("p", *parts, class_="announced", role="note")] if text else []


@contextmanager
def page(here: str) -> Iterator[Fragment]:
    """The frame of a page; yields the place for the state of the monitor. `here` is its path in PAGES."""
    for line in _announced:
        ui.html(line, sanitize=False)
    links = [
        element("a", text, href=path, aria_current="page" if path == here else None) for path, text in PAGES.items()
    ]
    with ui.element("div").classes("monitor"):
        with ui.element("header").classes("top"):
            ui.html(element("a", "AB Monitor", href="/", class_="brand"), sanitize=False)
            ui.html(element("nav", links, aria_label="Pages"), sanitize=False)
            with ui.element("div").classes("right"):
                status_place = Fragment()
                ui.html(element("span", data_zone=True), sanitize=False)
                button = element("button", "Theme: auto", type="button", data_theme_button=True)
                ui.html(button, sanitize=False)
        with ui.element("main"):
            yield status_place
        foot = element("a", "API", href="/docs")
        ui.html(
            element("p", "Times are in your time zone, with UTC beside them. ", foot, class_="foot"), sanitize=False
        )


def status(health: HealthAnswer) -> Html:
    """The state of the monitor in a few words, with a link to more."""
    kind, words = STATUS[health.status]
    serving = next((dc for dc in health.dcs if dc.is_serving), None)
    age = "" if serving is None else f"{figures.duration(serving.heartbeat_age_s)} ago"
    light = element("span", class_=f"light {kind}")
    return element("a", light, age or words, href="/health", title=words, aria_label=f"{words}. {age}")


def waiting() -> Html:
    """A note until the first answer comes."""
    return element("p", "Loading …", class_="note", role="status")


def crumbs(tenant: str, experiment: str) -> Html:
    """Links back to an experiment and the overview."""
    return element(
        "nav",
        element("a", "Experiments", href="/"),
        " / ",
        element("a", f"{tenant} {experiment}", href=address.of_experiment(tenant, experiment)),
        class_="crumbs",
        aria_label="Where",
    )


def not_found(problem: Problem) -> Html:
    """The content of a page for an experiment that is not configured."""
    return joined(
        element("h1", problem.title),
        element(
            "div",
            element("p", element("strong", f"{problem.detail}.")),
            element("p", problem.fix),
            element("p", element("a", "All experiments", href="/", class_="button")),
            class_="empty",
        ),
    )
