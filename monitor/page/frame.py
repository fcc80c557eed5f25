"""The frame of all pages: the header, the footer, and the notices in place of content."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from nicegui import context, ui
from nicegui.element import Element

from monitor.page import address, figures
from monitor.page.elements import Fragment
from monitor.page.health import STATUS
from monitor.page.markup import Html, element, joined
from monitor.serve.health_models import HealthAnswer, Status
from monitor.serve.problems import Problem

SERVER_ERRORS = 500
"""From this status on the fault is not the reader's."""
PAGES = {"/": "Experiments", "/health": "Health"}

_announced: list[Html] = []


def announce(text: str) -> None:
    """Puts a line on top of every page from now on, instead of the one before; what is in backticks is code."""
    parts = (element("code", part) if i % 2 else part for i, part in enumerate(text.split("`")))
    _announced[:] = [element("p", *parts, class_="announced", role="note")] if text else []


class Top:
    """The places at the top of every page: the state of the monitor, and a notice where something is wrong."""

    def __init__(self, status: Fragment, notice: Fragment, lost: Element, stale_after_s: float) -> None:
        self._status, self._notice, self._lost, self._stale_after_s = status, notice, lost, stale_after_s
        self._health: HealthAnswer | None = None
        self._age_s: float | None = None
        self._shown_s = time.monotonic()

    def expect_signs_of_life(self) -> None:
        """Lets the browser say so when it hears nothing any more: for a page that is told that the service lives."""
        with self._lost:
            ui.html(_lost(), sanitize=False)

    def show(self, health: HealthAnswer, now: datetime) -> None:
        """Shows the state of the monitor, as it is at the moment `now`."""
        serving = next((dc for dc in health.dcs if dc.is_serving), None)
        newest = None if serving is None else serving.last_heartbeat
        if newest is not None:
            self._age_s = (now - newest).total_seconds()
        self._health, self._shown_s = health, time.monotonic()
        self._status.show(status(health.status, self._age_s, self._stale_after_s, now.isoformat()))

    def show_problem(self, problem: Problem | None) -> None:
        """Shows what is wrong above everything else, and the light of a monitor that is down; None: nothing is."""
        if problem is None:
            self._notice.show(Html())
            return
        waited_s = time.monotonic() - self._shown_s
        age_s = None if self._age_s is None else self._age_s + waited_s
        self._notice.show(problem_notice(problem))
        if problem.status >= SERVER_ERRORS:
            self._status.show(status(Status.DOWN, age_s, self._stale_after_s, f"{waited_s}"))


@contextmanager
def page(here: str, stale_after_s: float) -> Iterator[Top]:
    """The frame of a page; yields the places at its top. `here` is its path in PAGES."""
    for line in _announced:
        ui.html(line, sanitize=False)
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
            lost, notice = ui.element("div"), Fragment()
            yield Top(status_place, notice, lost, stale_after_s)
        foot = element("a", "API", href="/docs")
        ui.html(
            element("p", "Times are in your time zone, with UTC beside them. ", foot, class_="foot"), sanitize=False
        )


def _leave_main_to_the_content() -> None:
    """Makes NiceGUI's own <main>, which encloses the header and footer too, a plain element: a page has only one."""
    (whole,) = context.client.page_container.default_slot.children
    whole.tag = "div"


def status(of: Status, age_s: float | None, stale_after_s: float, moment: str) -> Html:
    """The state of the monitor in a few words, with a link to more; the browser counts the age on.

    `moment` differs from one state to the next, so that the browser counts from there.
    """
    kind, words = STATUS[of]
    light = element("span", class_=f"light {kind}")
    if age_s is None:
        return element("a", light, words, href="/health", title=words, aria_label=words)
    text = f"{figures.duration(age_s)} ago"
    counted = element("span", text, data_age=f"{age_s:.3f}", data_stale=f"{stale_after_s:g}", data_moment=moment)
    return element("a", light, counted, href="/health", title=words, aria_label=f"{words}. Age of the data:")


def _lost() -> Html:
    """The notice that the browser shows when it hears nothing from the service any more."""
    return element(
        "div",
        element("p", element("strong", "The monitor's page service is silent.")),
        element("p", element("span", data_lost_words=True), " Trying again until it does; the numbers below are old."),
        class_="notice bad",
        role="alert",
        data_lost=True,
        hidden=True,
    )


def problem_notice(of: Problem) -> Html:
    """A notice of an error, with what to do; the numbers that were shown before stay."""
    again = " Any numbers shown are from before. Retrying every few seconds." if of.status >= SERVER_ERRORS else ""
    return element(
        "div",
        element("p", element("strong", f"{of.title}.")),
        element("p", f"{of.detail}. {of.fix}{again}"),
        class_="notice bad",
        role="alert",
    )


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
