"""Incidents that are switched on and off while the traffic is made, by a file that keeps what was switched when.

A visit that begins while an incident is on is touched by it, to its end; others are not. So the traffic of a second
stays a function of its seed and this file, however often it is made again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from monitor.simulate.incidents import KINDS, Incident, IncidentError, parse_incident

AHEAD_MS = 1_000
"""So much later than it is asked for it takes effect: what begins then has surely not been made yet."""
SWITCHES_MAX = 10_000
"""More are refused: the file is read whole."""


class IncidentSwitch(msgspec.Struct, frozen=True):
    """From a moment on, an incident is on or off."""

    at_ms: int
    incident: str
    on: bool


class Switched(NamedTuple):
    """What a command has done: when it takes effect, and the incidents that are on from then on."""

    at_ms: int
    on: tuple[str, ...]


def switch(path: Path, incident: str, on: bool, now_ms: int) -> Switched:
    """Switches an incident on, or off: then its kind is enough, and all of the kind go off. Raises IncidentError."""
    if "@" in incident:
        message = f"an incident that is switched begins at once; got {incident!r}"
        raise IncidentError(message)
    kind = parse_incident(incident, now_ms).kind
    switches, at_ms = read(path), now_ms + AHEAD_MS
    before = _on(switches, at_ms)
    if on:
        changes = [] if incident in before else [IncidentSwitch(at_ms, incident, True)]
    else:
        changes = [
            IncidentSwitch(at_ms, text, False) for text in before if incident in (text, kind) and _kind(text) == kind
        ]
        if not changes:
            message = f"{incident} is not on; on are: {', '.join(before) or 'none'}"
            raise IncidentError(message)
    if len(switches) + len(changes) > SWITCHES_MAX:
        message = f"{path} holds {len(switches)} switches, of {SWITCHES_MAX} at most; stop the run and delete it"
        raise IncidentError(message)
    _append(path, changes)
    return Switched(at_ms, _on([*switches, *changes], at_ms))


class Switchboard:
    """The incidents that are on, by the moment; looks at the file again when that has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = -1
        self._switches: list[IncidentSwitch] = []

    def look(self) -> None:
        """Takes notice of what was switched since."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size != self._size:
            self._size, self._switches = size, read(self._path)

    def on_at(self, at_ms: int) -> tuple[Incident, ...]:
        """What is on for visits that begin at this moment."""
        return tuple(parse_incident(text, at_ms) for text in _on(self._switches, at_ms))


def read(path: Path) -> list[IncidentSwitch]:
    """What was switched, in order; a line that is being written is left out."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [_SWITCH.decode(line) for line in lines]


_SWITCH = msgspec.json.Decoder(IncidentSwitch)


def _on(switches: list[IncidentSwitch], at_ms: int) -> tuple[str, ...]:
    on: dict[str, None] = {}
    for change in switches:
        if change.at_ms <= at_ms:
            on.pop(change.incident, None)
            if change.on:
                on[change.incident] = None
    return tuple(on)


def _kind(incident: str) -> str:
    return next(kind for kind in KINDS if incident.partition(":")[0] == kind)


def _append(path: Path, changes: list[IncidentSwitch]) -> None:
    """In one write, so that two commands at a time do not mix their lines."""
    text = b"".join(msgspec.json.encode(change) + b"\n" for change in changes)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, text)
    finally:
        os.close(file)
