"""KairosDB's REST API by hand: what the contract tests send, and what they look at in the answers."""

import json
from typing import Any

import requests

T = 1_700_000_000_000
TIMEOUT_S = 30


def post(url: str, path: str, body: Any, **headers: str) -> requests.Response:
    """The answer to a body, which is sent as JSON unless it is text or bytes."""
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    return requests.post(f"{url}/api/v1/{path}", data=data, headers=headers, timeout=TIMEOUT_S)


def write(url: str, body: Any, **headers: str) -> tuple[int, list[str]]:
    """The status and the errors of the answer to datapoints; a body that is text is sent as it is."""
    response = post(url, "datapoints", body, **headers)
    return response.status_code, response.json()["errors"] if response.content else []


def point(name: str, **fields: Any) -> dict[str, Any]:
    """A data point as it is sent: 1 at T with one tag, but for these fields."""
    return {"name": name, "timestamp": T, "value": 1, "type": "long", "tags": {"a": "b"}, **fields}


def ask(url: str, name: str, path: str = "datapoints/query", **fields: Any) -> requests.Response:
    """The answer to a query of one metric over all time; upper fields of a query go into the query, not the metric."""
    upper = {} if "start_relative" in fields else {"start_absolute": 0}
    for field in ("start_absolute", "end_absolute", "start_relative", "end_relative", "time_zone"):
        if field in fields:
            upper[field] = fields.pop(field)
    return post(url, path, {**upper, "metrics": [{"name": name, **fields}]})


def results(url: str, name: str, **fields: Any) -> list[dict[str, Any]]:
    """The results that hold values: a metric without any has no result or an empty one, by version."""
    response = ask(url, name, **fields)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["queries"][0]["results"]
    return [result for result in found if result["values"]]


def values(url: str, name: str, **fields: Any) -> list[list[Any]]:
    """The values of the one result there is, or of none."""
    found = results(url, name, **fields)
    assert len(found) <= 1
    return found[0]["values"] if found else []


def errors(response: requests.Response, status: int = 400) -> list[str]:
    """The messages of an answer, which must have this status."""
    assert response.status_code == status, response.text
    found: list[str] = response.json()["errors"]
    return found


def write_grid(url: str, name: str) -> None:
    """dc eu or us, dev ios or web, six points 20 s apart, 0..5 for eu and 10..15 for us; and 100 at T with only dc."""
    points = [
        point(name, timestamp=T + step * 20_000, value=float(base + step), type="double", tags={"dc": dc, "dev": dev})
        for dc, base in (("eu", 0), ("us", 10))
        for dev in ("ios", "web")
        for step in range(6)
    ]
    points.append(point(name, value=100.0, type="double", tags={"dc": "eu"}))
    assert write(url, points) == (204, [])


def by_dc(url: str, name: str) -> list[dict[str, Any]]:
    """The results of a metric, one a value of its tag dc."""
    return results(url, name, group_by=[{"name": "tag", "tags": ["dc"]}])
