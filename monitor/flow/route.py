"""The step `route`: sends each message to the key group of its session, and progress to all key groups."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias
from zlib import crc32

from monitor.core.compiled import CompiledConfig
from monitor.core.events import Event
from monitor.core.sessions import Message
from monitor.core.watermark import Progress
from monitor.flow.keys import SESSION_GROUPS, SESSION_KEYS
from monitor.flow.source import Chunk
from monitor.runtime.reporting import reported

_SESSION_ID = b'"sessionId"'


class Behind(NamedTuple):
    """A message stamped behind the `high_ms` that its partition had reached before it."""

    message: Message
    high_ms: int


Routed: TypeAlias = tuple[int, list[Message] | Behind | Progress]
"""A session key group's number, and messages for it, or one that is behind, or the progress of a partition."""


def route(compiled: CompiledConfig) -> Callable[[list[Chunk]], list[tuple[str, Routed]]]:
    """The step as a function: messages of chunks by key group, each group's in the order of their partition.

    A chunk that announces progress sends it to every group, after the messages that it covers: a group must not close
    sessions by a watermark that is ahead of its messages. A message that is behind goes alone, in its place.
    """
    by_key = compiled.key_is_session_id

    @reported
    def step(chunks: list[Chunk]) -> list[tuple[str, Routed]]:
        out: list[tuple[str, Routed]] = []
        for chunk in chunks:
            groups: dict[int, list[Message]] = {}
            behind = chunk.behind
            for index, message in enumerate(chunk.messages):
                key, value, _ = message
                if not (by_key and key and value and _is_session_id(key, value)):
                    key = _session_id(compiled, value)
                group = crc32(key) % SESSION_GROUPS
                if behind and index in behind:
                    if before := groups.pop(group, None):
                        out.append((SESSION_KEYS[group], (group, before)))
                    out.append((SESSION_KEYS[group], (group, Behind(message, behind[index]))))
                else:
                    groups.setdefault(group, []).append(message)
            out += [(SESSION_KEYS[group], (group, messages)) for group, messages in groups.items()]
            if chunk.announce:
                out += [(key, (group, chunk.progress)) for group, key in enumerate(SESSION_KEYS)]
        return out

    return step


def _session_id(compiled: CompiledConfig, value: bytes | None) -> bytes:
    """The session id from the message itself; empty if it has none: some group has to count the rejected message."""
    if value is None or len(value) > compiled.limits.message_bytes:
        return b""
    event = compiled.decoder.decode(value)
    return event.sessionId.encode() if isinstance(event, Event) else b""


def _is_session_id(key: bytes, value: bytes) -> bool:
    """True if a search of the text proves that the key is the sessionId; False where only decoding can decide.

    The search may answer True because, without a backslash, every quoted text in valid JSON is what it looks like, and
    `"sessionId"` occurs only once: whatever it is followed by is the value of that field.
    """
    if b"\\" in value or b'"' in key or value.count(_SESSION_ID) != 1:
        return False
    return b'%b:"%b"' % (_SESSION_ID, key) in value or b'%b: "%b"' % (_SESSION_ID, key) in value
