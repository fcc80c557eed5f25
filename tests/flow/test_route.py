"""Routing: every message to the key group of its session, whatever its key, and progress to all groups."""

import json
from zlib import crc32

import pytest

from monitor.core.sessions import Message as Raw
from monitor.core.watermark import Progress
from monitor.flow.keys import SESSION_GROUPS, session_group_key
from monitor.flow.route import Behind, Routed, route
from monitor.flow.source import Chunk
from tests.support.driver import compiled_of
from tests.support.messages import BASE_MS, message, shop

STILL = Progress(("t/0",), "t/0", BASE_MS, idle=False)


@pytest.mark.parametrize("key_is_session_id", [True, False])
@pytest.mark.parametrize(
    ("key", "value", "session"),
    [
        (b"s-1", b'{"sessionId":"s-1"REST', "s-1"),
        (b"s-1", b'{"sessionId": "s-1"REST', "s-1"),
        (b"s-1", b'{ "sessionId" \n:\t "s-1" REST', "s-1"),
        (None, b'{"sessionId": "s-1"REST', "s-1"),
        (b"", b'{"sessionId": "s-1"REST', "s-1"),
        (b"s-2", b'{"sessionId": "s-1"REST', "s-1"),
        (b"s", b'{"sessionId": "s-1"REST', "s-1"),
        (b"s-1x", b'{"sessionId": "s-1"REST', "s-1"),
        (b"\xff", b'{"sessionId": "s-1"REST', "s-1"),
        ("größe 3".encode(), '{"sessionId": "größe 3"REST'.encode(), "größe 3"),
        ("größe 3".encode(), b'{"sessionId": "gr\\u00f6\\u00dfe 3"REST', "größe 3"),
        (b"gr\\u00f6\\u00dfe 3", b'{"sessionId": "gr\\u00f6\\u00dfe 3"REST', "größe 3"),
        (b"s\\n", b'{"sessionId": "s\\n"REST', "s\n"),
        (b"s\n", b'{"sessionId": "s\\n"REST', "s\n"),
        (b"s\\", b'{"sessionId": "s\\\\"REST', "s\\"),
        (b's"', b'{"sessionId": "s\\""REST', 's"'),
        (b's-1","x":"y', b'{"sessionId":"s-1","x":"y"REST', "s-1"),
        (b"s-2", b'{"attributes": {"sessionId": "s-2"}, "sessionId": "s-1"REST', "s-1"),
        (b"s-2", b'{"sessionId": "s-1", "attributes": {"sessionId": "s-2"}REST', "s-1"),
        (b"s-2", b'{"sessionId": "s-2", "sessionId": "s-1"REST', "s-1"),
        (b"s-2", b'{"note": "\\"sessionId\\": \\"s-2\\"", "sessionId": "s-1"REST', "s-1"),
        (b"s-2", b'{"note": "sessionId", "sessionId": "s-1"REST', "s-1"),
        (b"s-1", b'{"session\\u0049d": "s-1"REST', "s-1"),
        (b"s-2", b'{"session\\u0049d": "s-1", "attributes": {"sessionId": "s-2"}REST', "s-1"),
        (b"x" * 256, b'{"sessionId": "' + b"x" * 256 + b'"REST', "x" * 256),
    ],
)
def test_a_message_goes_to_the_group_of_its_session(
    key_is_session_id: bool, key: bytes | None, value: bytes, session: str
) -> None:
    """The group is crc32(sessionId) % 128, whatever the Kafka key says and however the message is written."""
    value = value.replace(b"REST", b', "tenant": "uswm", "time": 1795491000000, "event": "click"}')
    assert json.loads(value)["sessionId"] == session
    assert _routed([_chunk((key, value, BASE_MS))], key_is_session_id) == [
        (_group(session), [(key, value, BASE_MS)]),
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"[1]",
        b"\xff",
        b'{"sessionId": "s-1"',
        b'{"sessionId": 7}',
        b'{"sessionId": "s-1", "p": "LONG"}',
    ],
)
@pytest.mark.parametrize("key", [b"s-1", None, b"\xff\\"])
def test_a_message_that_will_be_rejected_goes_to_one_group(key: bytes | None, value: bytes | None) -> None:
    """Tombstones, invalid and oversized messages reach exactly one group, which counts them."""
    value = value and value.replace(b"BIG", b"p" * 500)
    ((_, messages),) = _routed([_chunk((key, value, BASE_MS))], message_bytes=420)
    assert messages == [(key, value, BASE_MS)]


def test_the_order_of_a_partition_is_kept() -> None:
    """Messages of a group come in the order of their partition, within a chunk and over the chunks of a batch."""
    ids = [f"s-{number % 300}" for number in range(900)]
    raw = [(s.encode(), message(n, sessionId=s).value, BASE_MS + n) for n, s in enumerate(ids)]
    found: dict[int, list[Raw]] = {}
    for group, item in _routed([_chunk(*raw[:500]), _chunk(*raw[500:])]):
        assert isinstance(item, list)
        found.setdefault(group, []).extend(item)
    assert found == {group: [m for m, s in zip(raw, ids, strict=True) if _group(s) == group] for group in found}
    assert sum(map(len, found.values())) == len(raw)


def test_progress_goes_to_every_group_after_the_messages_it_speaks_of() -> None:
    """Each of the 128 groups is told, behind the data of the chunk; where progress is not due, nobody is."""
    raw = (b"s-1", message(0).value, BASE_MS)
    routed = _routed([_chunk(raw, announce=True), _chunk(raw)])
    data = (_group("s-1"), [raw])
    assert routed == [data, *((group, STILL) for group in range(SESSION_GROUPS)), data]


def test_a_message_that_is_behind_goes_alone_in_its_place() -> None:
    """Between the messages of its group that came before it and after it; the others stay together."""
    first, second, third, fourth = messages = [_message("s-1", at) for at in range(4)]
    other = _message("s-2", 9)
    chunk = Chunk([*messages, other], STILL, announce=False, behind={1: BASE_MS, 2: BASE_MS + 5})
    assert _routed([chunk]) == [
        (_group("s-1"), [first]),
        (_group("s-1"), Behind(second, BASE_MS)),
        (_group("s-1"), Behind(third, BASE_MS + 5)),
        (_group("s-1"), [fourth]),
        (_group("s-2"), [other]),
    ]


def test_progress_comes_alone_when_a_partition_is_silent() -> None:
    """A chunk without messages still tells how far the partition is."""
    assert _routed([_chunk(announce=True)]) == [(group, STILL) for group in range(SESSION_GROUPS)]
    assert _routed([_chunk()]) == []


def _message(session_id: str, at_ms: int) -> Raw:
    return session_id.encode(), b'{"sessionId": "%b"}' % session_id.encode(), BASE_MS + at_ms


def _chunk(*messages: Raw, announce: bool = False) -> Chunk:
    return Chunk(list(messages), STILL, announce)


def _routed(chunks: list[Chunk], key_is_session_id: bool = True, message_bytes: int = 1_048_576) -> list[Routed]:
    """The items for each group; an item's key is its group's."""
    config = shop(message_bytes=message_bytes) | {"kafka": {"key_is_session_id": key_is_session_id}}
    routed = route(compiled_of(config))(chunks)
    assert all(key == session_group_key(group) for key, (group, _) in routed)
    return [item for _, item in routed]


def _group(session_id: str) -> int:
    return crc32(session_id.encode()) % 128
