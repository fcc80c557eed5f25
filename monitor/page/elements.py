"""The parts of a page as NiceGUI elements: HTML that is updated in place, charts, and the refresh loop.

The update in place is 25 lines of `page.js`: the library idiomorph is many times as long, and its matching by ids is of
no use here, since the structure of a fragment stays.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import structlog
from nicegui import context, ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from monitor.page.markup import Html, element, joined
from monitor.runtime.shared_answers import WORK_SHARE
from monitor.serve.problems import Problem, ProblemError, of_status

T = TypeVar("T")
EVERY_S = 5.0
"""The time between two refreshes of a visible page."""
PULSE_S = 3.0
"""The time between two signs of life to a visible page; the browser says that it misses them (`page.js`)."""
SOON_S = 1.5
"""The time until the first refresh where a cached answer was shown: the browser has then loaded its scripts."""
FIRST_S = 0.3
"""The wait for the first answer; after that the page is shown without numbers, which follow."""

SIMPLE = frozenset({"div", "header", "main", "section"})
"""Elements that keep their name in plain HTML; all others become a div."""

log = structlog.get_logger(__name__)


class Fragment(Element, component="fragment.js"):
    """HTML that is updated in place: unchanged parts keep focus, scroll and selection."""

    def __init__(self, content: Html = Html(), classes: str = "") -> None:  # noqa: B008
        super().__init__()
        self._props["content"] = content
        self.classes(classes)

    def show(self, content: Html) -> None:
        """Shows other content; nothing is sent if it is the same."""
        if content != self._props["content"]:
            self._props["content"] = str(content)
            self.update()


class Address(Element, component="address.js"):
    """The query part of the address, as the reader changes it, and the visibility of the page."""

    def __init__(self, query: str, moved: Callable[[str], Any], seen: Callable[[bool], Any]) -> None:
        super().__init__()
        self._props["query"] = query
        self._props["round"] = 0
        self._props["pulse"] = 0

        def on_moved(event: GenericEventArguments) -> Any:
            return moved(str(event.args["query"]))

        def on_seen(event: GenericEventArguments) -> Any:
            return seen(bool(event.args["visible"]))

        self.on("moved", on_moved)
        self.on("seen", on_seen)

    def arrived(self) -> None:
        """Reports to the browser that the requested content is shown."""
        self._props["round"] += 1
        self.update()

    def beat(self) -> None:
        """Shows the browser that the service is there."""
        self._props["pulse"] += 1
        self.update()


class Plot:
    """A chart under a heading; an update leaves the reader's zoom alone. `kind`: the class of its section."""

    def __init__(self, title: str, kind: str = "chart") -> None:
        with ui.element("section").classes(kind) as self._section:
            self._title = Fragment(element("h3", title))
            self._chart = (
                ui.echart({}, renderer="svg").classes("plot").props(f'role="img" aria-label="{title} over time"')
            )

    def show(self, option: dict[str, Any], title: str) -> None:
        """Draws other data."""
        self._title.show(element("h3", title))
        if option != self._chart.options:
            self._chart.options.clear()
            self._chart.options.update(option)
            self._chart.update()

    def set_visible(self, is_visible: bool) -> None:
        """Shows or hides the chart and its heading."""
        self._section.set_visibility(is_visible)


class Notices(Protocol):
    """A place at the top of a page for what is wrong."""

    def show_problem(self, problem: Problem | None) -> None:
        """Shows it, or that nothing is wrong."""


class Living(Generic[T]):
    """Refreshes a page with the answer for its address: one request at a time, with pauses between.

    `ask` may block and raise ProblemError; its argument is the query part of the address. It is not called while the
    page is hidden. `watched` says what is wrong with the store, at once, also while an answer is waited for.
    """

    def __init__(
        self,
        query: str,
        ask: Callable[[str], T],
        show: Callable[[T], None],
        notices: Notices,
        watched: Callable[[], Problem | None],
    ) -> None:
        self._query, self._ask, self._show = query, ask, show
        self._notices, self._watched = notices, watched
        self._asking: asyncio.Task[None] | None = None
        self._is_asked_again = False
        self._rested_s = 0.0
        self._asked_problem: Problem | None = None
        self._address = Address(query, self._moved, self._seen)
        self._timer = ui.timer(EVERY_S, self._tick, immediate=False)
        self._pulse = ui.timer(PULSE_S, self._beat, immediate=False)

    async def begin(self, cached: T | None = None) -> None:
        """Shows the cached answer if there is one; otherwise waits up to FIRST_S for the first answer."""
        if cached is not None:
            self._show(cached)
            ui.timer(SOON_S, self._tick, once=True)
        else:
            await asyncio.wait({self._start()}, timeout=FIRST_S)
        ui.add_body_html(element("div", still(context.client.layout), id="before"))

    def _start(self) -> "asyncio.Task[None]":
        self._asking = asyncio.create_task(self._answer())
        return self._asking

    def _beat(self) -> None:
        self._notices.show_problem(self._watched() or self._asked_problem)
        self._address.beat()

    async def _tick(self) -> None:
        is_asking = self._asking is not None and not self._asking.done()
        if not is_asking and time.monotonic() >= self._rested_s:
            await self._start()

    async def _moved(self, query: str) -> None:
        self._query = query
        if self._asking is not None and not self._asking.done():
            self._is_asked_again = True
        else:
            await self._start()

    async def _seen(self, visible: bool) -> None:
        self._timer.active = self._pulse.active = visible
        if visible:
            self._beat()
            await self._tick()

    async def _answer(self) -> None:
        while True:
            self._is_asked_again = False
            started_s = time.monotonic()
            try:
                self._show(await asyncio.to_thread(self._ask, self._query))
            except ProblemError as error:
                self._asked_problem = error.problem
            except Exception:
                log.exception("page_failed", query=self._query)
                self._asked_problem = of_status(500, "an error of the page itself; see its log").problem
            else:
                self._asked_problem = None
            self._notices.show_problem(self._watched() or self._asked_problem)
            took_s = time.monotonic() - started_s
            self._rested_s = started_s + took_s / WORK_SHARE
            if not self._is_asked_again:
                self._address.arrived()
                return


def still(root: Element) -> Html:
    """An element and its content as plain HTML, which the browser shows until the scripts are loaded."""
    if isinstance(root, Fragment | ui.html):
        inside = Html(root.props["content"] if isinstance(root, Fragment) else root.content)
    else:
        inside = joined(*(still(child) for child in root.default_slot.children))
    tag = root.tag if root.tag in SIMPLE else "div"
    return element(tag, inside, class_=" ".join(root.classes))
