"""The frame of all pages: the header, the footer, and the notices in place of content."""

from collections.abc import Iterator
from contextlib import contextmanager

from nicegui import context, ui

from monitor.page import address, figures
from monitor.page.elements import Fragment
from monitor.page.health import STATUS
from monitor.page.markup import Html, element, joined
from monitor.serve.models import HealthAnswer, Problem

PAGES = {"/": "Experiments", "/health": "Health"}


@contextmanager
def page(here: str) -> Iterator[Fragment]:
    """The frame of a page; yields the place for the state of the monitor. `here` is its path in PAGES."""
    links = [
        element("a", text, href=path, aria_current="page" if path == here else None) for path, text in PAGES.items()
    ]
    _leave_main_to_the_content()
    with ui.element("div").classes("monitor"):
        ui.html(element("a", "Skip to the content", href="#content", class_="skip"), sanitize=False)
        with ui.element("header").classes("top"):
            ui.html(element("a", "AB Monitor", href="/", class_="brand"), sanitize=False)
            ui.html(element("nav", links, aria_label="Pages"), sanitize=False)
            with ui.element("div").classes("right"):
                status_place = Fragment()
                ui.html(element("span", data_zone=True), sanitize=False)
                button = element("button", "Theme: auto", type="button", data_theme_button=True)
                ui.html(button, sanitize=False)
        ui.html(element("p", data_printed=True, class_="printed"), sanitize=False)
        ui.html(element("div", aria_live="polite", data_live=True, class_="unseen"), sanitize=False)
        with ui.element("main").props('id="content" tabindex="-1"'):
            yield status_place
        foot = element("a", "API", href="/docs")
        ui.html(
            element("p", "Times are in your time zone, with UTC beside them. ", foot, class_="foot"), sanitize=False
        )


def _leave_main_to_the_content() -> None:
    """Makes NiceGUI's own <main>, which encloses the header and footer too, a plain element: a page has only one."""
    (whole,) = context.client.page_container.default_slot.children
    whole.tag = "div"


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
