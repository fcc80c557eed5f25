"""HTML as text that is escaped exactly once. Pure.

Of MarkupSafe only the two lines of `Html` could be replaced: it builds no elements, and writes floats in full.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Literal, TypeAlias

VOID = frozenset({"br", "hr", "img", "input"})
"""Elements without content, of those used here; those of SVG are closed like others."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "Html | str | int | Iterable[Child] | None"
Attribute: TypeAlias = str | int | float | bool | None


def element(name: str, *children: Child, of: Mapping[str, str] | None = None, **attributes: Attribute) -> Html:
    """An element; text among its children is escaped.

    Attributes: `class_` is class, other underscores are dashes; `of` takes names that are no Python names.
    True is an attribute without a value; False and None omit it.

    >>> element("a", "fish & chips", href="/?q=a&b", class_="dish")
    '<a href="/?q=a&amp;b" class="dish">fish &amp; chips</a>'
    """
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()} | dict(of or {})
    head = "".join([name, *(_attribute(key, value) for key, value in named.items())])
    return Html(f"<{head}>" if name in VOID else f"<{head}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Html:
    """Children one after the other."""
    return Html("".join(_text(child) for child in children))


def moment(at: datetime, form: Literal["time", "day", "date", "age"] = "time") -> Html:
    """A moment that the reader's browser shows in its own time zone, with UTC as the title; UTC until then.

    `time`: hours and minutes, with the day if it is another one; `day`: always with the day; `date`: with the year too;
    `age`: how long ago.
    """
    utc = at.astimezone(UTC)
    return element("time", f"{utc:%d %b %H:%M} UTC", datetime=f"{utc:%Y-%m-%dT%H:%M:%SZ}", data_form=form)


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f' {name}="{escape(text)}"'


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str | int):
        return escape(str(child), quote=False)
    return "".join(_text(each) for each in child)
