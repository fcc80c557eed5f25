"""The file of switches by which `monitor incident` turns incidents on and off in running traffic.

An incident affects the visits that begin while it is on, until they end, and no others. So the traffic of a second is a
function of its seed and this file, however often it is generated.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from monitor.simulate.incidents import KINDS, Incident, IncidentError, parse_incident

AHEAD_MS = 1_000
"""Delay until a switch takes effect, so that visits which begin then have not been generated yet."""
SWITCHES_MAX = 10_000
"""Switches in the file, which is read whole; further ones are refused."""


class IncidentSwitch(msgspec.Struct, frozen=True):
    """An incident is on, or off, from a moment on."""

    at_ms: int
    incident: str
    on: bool


class Switched(NamedTuple):
    """The result of a switch: when it takes effect, and the incidents that are on from then on."""

    at_ms: int
    on: tuple[str, ...]


def switch(path: Path, incident: str, on: bool, now_ms: int) -> Switched:
    """Turns an incident on or off; a kind alone turns off all incidents of that kind. Raises IncidentError."""
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
    """The incidents that are on at a moment, read again whenever the file has grown."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = -1
        self._switches: list[IncidentSwitch] = []

    def look(self) -> None:
        """Reads the file again if its size has changed."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size != self._size:
            self._size, self._switches = size, read(self._path)

    def on_at(self, at_ms: int) -> tuple[Incident, ...]:
        """The incidents that affect visits which begin at this moment."""
        return tuple(parse_incident(text, at_ms) for text in _on(self._switches, at_ms))


def read(path: Path) -> list[IncidentSwitch]:
    """The switches in the file, in order, without a last line that is still being written."""
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
