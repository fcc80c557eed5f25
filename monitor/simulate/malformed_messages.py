"""Malformed messages, as broken clients and wrong deployments send them; the job must reject them and go on."""

from __future__ import annotations

from monitor.simulate.journeys import Draw

_ASSIGNED = '"assignments":{"button_color":"red","fast_checkout":"fc_on"}'
_SEEN = '"attributes":{"device":"desktop","loggedIn":false,"page":"home","userAgent":"Mozilla/5.0 (X11; Linux x86_64)"}'


def malformed(draw: Draw, at_ms: int, session_id: str) -> bytes:
    """The value of one malformed message that arrives at `at_ms` (rejected for one of four reasons, see `_KINDS`)."""
    return _KINDS[int(len(_KINDS) * draw())](draw, at_ms, session_id)


def _event(tenant: str, session_id: str, time: object, event: str) -> bytes:
    text = f'{{"tenant":{tenant},"sessionId":{session_id},"time":{time},"event":{event},{_ASSIGNED},{_SEEN}}}'
    return text.encode()


def _not_json(draw: Draw, at_ms: int, session_id: str) -> bytes:
    whole = _event('"uswm"', f'"{session_id}"', at_ms, '"page_view"')
    texts = (whole[: int(len(whole) * draw())], b"\xff\xfe" + whole, b"[" + whole + b"]", b"GET / HTTP/1.1", b"null")
    return texts[int(len(texts) * draw())]


def _bad_field(draw: Draw, at_ms: int, session_id: str) -> bytes:
    quoted = f'"{session_id}"'
    texts = (
        _event('"uswm"', quoted, f'"{at_ms}"', '"page_view"'),
        _event('"uswm"', quoted, -1, '"page_view"'),
        _event('"uswm"', quoted, f"{at_ms}000", '"page_view"'),
        _event('"uswm"', '""', at_ms, '"page_view"'),
        _event('"uswm"', quoted, at_ms, "null"),
        _event("17", quoted, at_ms, '"click"'),
        f'{{"tenant":"uswm","time":{at_ms},"event":"click",{_ASSIGNED},{_SEEN}}}'.encode(),
    )
    return texts[int(len(texts) * draw())]


def _unknown_tenant(draw: Draw, at_ms: int, session_id: str) -> bytes:
    tenant = '"staging"' if draw() < 0.7 else '"USWM"'
    return _event(tenant, f'"{session_id}"', at_ms - int(2_000 * draw()), '"page_view"')


def _future(draw: Draw, at_ms: int, session_id: str) -> bytes:
    return _event('"uswm"', f'"{session_id}"', at_ms + 61_000 + int(86_400_000 * draw() ** 3), '"page_view"')


_KINDS = (_not_json, _bad_field, _unknown_tenant, _future)
