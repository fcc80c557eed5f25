"""What is told: a change of a check's state, and the message that carries the changes of one experiment. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from monitor.verdicts.judge import State

_SEVERITY = {State.NOTE: 1, State.WARN: 2, State.HOLD: 3, State.STOP: 4}


def severity(state: State) -> int:
    """From 1 (note) to 4 (stop); 0 for a state that is no alarm."""
    return _SEVERITY.get(state, 0)


class Change(msgspec.Struct, frozen=True):
    """A check has another state than before."""

    id: str
    """Says which change it is, the same wherever it was found: receivers know a repetition by it."""
    tenant: str
    experiment: str
    """Both are empty where it is about the monitor's health, the tenant only if that concerns all."""
    check: str
    """What was checked, such as `split` or `order fewer fc_on`."""
    state: State
    previous: State
    at_ms: int
    """The minute that was judged, when it was final."""
    since_ms: int | None
    """When it began; None if that is not known."""
    words: str
    """What happened, in a sentence."""
    details: Mapping[str, Any] = {}
    """What else is known, as JSON."""
    link: str = ""
    """Where a reader finds more: an address, or a path of the page. Empty: nowhere."""

    @property
    def is_resolved(self) -> bool:
        """Whether the check is well."""
        return self.state is State.HEALTHY


class Message(msgspec.Struct, frozen=True):
    """Changes of one experiment that a target gets at once."""

    changes: tuple[Change, ...]

    @property
    def key(self) -> str:
        """The key of idempotence: the id of a change that is alone; of several a hash of their ids."""
        if len(self.changes) == 1:
            return self.changes[0].id
        ids = "\n".join(sorted(change.id for change in self.changes))
        return f"group-{hashlib.sha256(ids.encode()).hexdigest()[:32]}"

    @property
    def tenant(self) -> str:
        """The tenant of all changes."""
        return self.changes[0].tenant

    @property
    def experiment(self) -> str:
        """The experiment of all changes."""
        return self.changes[0].experiment

    @property
    def worst(self) -> Change:
        """The change to the most severe state; the first of several."""
        return max(self.changes, key=lambda change: severity(change.state))


def grouped(changes: Iterable[Change]) -> list[Message]:
    """A message for each experiment, in the order of their first changes."""
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.tenant, change.experiment), []).append(change)
    return [Message(tuple(group)) for group in groups.values()]


def linked(change: Change, page_url: str | None) -> Change:
    """The change with its link as an address: a path of the page is below `page_url`, and no link without one."""
    if not change.link or change.link.startswith(("http://", "https://")):
        return change
    link = "" if page_url is None else f"{page_url.rstrip('/')}/{change.link.lstrip('/')}"
    return msgspec.structs.replace(change, link=link)
