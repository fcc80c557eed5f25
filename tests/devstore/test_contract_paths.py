"""The contract of the metrics store, its other paths: lists, deletion, health, what browsers ask.

Both stores are shared: each test uses a metric name of its own. Expected values were observed on KairosDB 1.3.0-1.
"""

import json

import pytest
import requests

from tests.support.kairosdb_http import TIMEOUT_S, T, ask, by_dc, errors, point, values, write, write_grid


def test_tags_of_a_metric_are_listed_whatever_the_time(kairosdb_url: str, metric: str) -> None:
    """All values of the series that match; an unknown metric has no tags."""
    write_grid(kairosdb_url, metric)
    path = "datapoints/query/tags"
    (answer,) = ask(kairosdb_url, metric, path=path, start_absolute=T * 2).json()["queries"]
    tags = {name: sorted(found) for name, found in answer["results"][0].pop("tags").items()}
    assert answer == {"results": [{"name": metric, "values": []}]}
    assert tags == {"dc": ["eu", "us"], "dev": ["ios", "web"]}
    (answer,) = ask(kairosdb_url, metric, path=path, tags={"dc": "us", "dev": "ios"}).json()["queries"]
    assert answer["results"][0]["tags"] == {"dc": ["us"], "dev": ["ios"]}
    (answer,) = ask(kairosdb_url, f"{metric}.none", path=path).json()["queries"]
    assert answer["results"] == [{"name": f"{metric}.none", "tags": {}, "values": []}]


def test_metric_names_are_listed_by_prefix(kairosdb_url: str, metric: str) -> None:
    """With and without a prefix."""
    assert write(kairosdb_url, [point(f"{metric}.{name}") for name in ("a", "b")]) == (204, [])
    names = f"{kairosdb_url}/api/v1/metricnames"
    found = requests.get(names, params={"prefix": metric}, timeout=TIMEOUT_S)
    assert (found.status_code, sorted(found.json()["results"])) == (200, [f"{metric}.a", f"{metric}.b"])
    assert {f"{metric}.a", f"{metric}.b"} <= set(requests.get(names, timeout=TIMEOUT_S).json()["results"])


def test_points_are_deleted_by_a_query(kairosdb_url: str, metric: str) -> None:
    """Those that it matches and no others; 204 also if there are none."""
    write_grid(kairosdb_url, metric)
    for _ in range(2):
        response = ask(
            kairosdb_url, metric, path="datapoints/delete", start_absolute=T, end_absolute=T, tags={"dc": "us"}
        )
        assert (response.status_code, response.content) == (204, b"")
    left = {result["group_by"][0]["group"]["dc"]: result for result in by_dc(kairosdb_url, metric)}
    assert [len(left[dc]["values"]) for dc in ("eu", "us")] == [13, 10]
    assert min(left["us"]["values"]) == [T + 20000, 11]


def test_a_metric_is_deleted_by_its_name(kairosdb_url: str, metric: str) -> None:
    """With its name and tags; 204 also if there is no such metric."""
    write_grid(kairosdb_url, metric)
    for _ in range(2):
        assert requests.delete(f"{kairosdb_url}/api/v1/metric/{metric}", timeout=TIMEOUT_S).status_code == 204
    assert values(kairosdb_url, metric) == []
    found = requests.get(f"{kairosdb_url}/api/v1/metricnames", params={"prefix": metric}, timeout=TIMEOUT_S)
    assert found.json() == {"results": []}
    assert write(kairosdb_url, [point(metric)]) == (204, [])
    assert values(kairosdb_url, metric) == [[T, 1]]


def test_version_and_health(kairosdb_url: str) -> None:
    """What a client asks first: the version begins with KairosDB, a healthy store answers 204."""
    assert requests.get(f"{kairosdb_url}/api/v1/version", timeout=TIMEOUT_S).json()["version"].startswith("KairosDB 1.")
    check = requests.get(f"{kairosdb_url}/api/v1/health/check", timeout=TIMEOUT_S)
    assert (check.status_code, check.content) == (204, b"")
    assert "Datastore-Query: OK" in requests.get(f"{kairosdb_url}/api/v1/health/status", timeout=TIMEOUT_S).json()


def test_a_query_may_be_in_the_url(kairosdb_url: str, metric: str) -> None:
    """GET with the parameter query; without it 400."""
    assert write(kairosdb_url, [point(metric)]) == (204, [])
    url = f"{kairosdb_url}/api/v1/datapoints/query"
    query = json.dumps({"start_absolute": 0, "metrics": [{"name": metric}]})
    answer = requests.get(url, params={"query": query}, timeout=TIMEOUT_S).json()
    assert answer["queries"][0]["results"][0]["values"] == [[T, 1]]
    assert errors(requests.get(url, timeout=TIMEOUT_S)) == ["query json must not be null or empty"]


@pytest.mark.parametrize("path", ["datapoints", "datapoints/query", "datapoints/query/tags", "metricnames", "version"])
def test_a_browser_of_another_origin_may_ask(kairosdb_url: str, path: str) -> None:
    """The preflight is answered with what it asks for."""
    asked = {"Access-Control-Request-Headers": "content-type", "Access-Control-Request-Method": "POST"}
    response = requests.options(f"{kairosdb_url}/api/v1/{path}", headers=asked, timeout=TIMEOUT_S)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Access-Control-Allow-Headers"] == "content-type"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "tagnames", 404), ("PUT", "datapoints", 405)])
def test_other_paths_and_methods_are_refused(kairosdb_url: str, method: str, path: str, status: int) -> None:
    """404 for paths, among them those that KairosDB gave up, 405 for methods."""
    assert requests.request(method, f"{kairosdb_url}/api/v1/{path}", timeout=TIMEOUT_S).status_code == status


@pytest.mark.parametrize(("accepted", "encoding"), [("gzip", "gzip"), ("identity", None)])
def test_an_answer_is_gzipped_if_asked_for(kairosdb_url: str, metric: str, accepted: str, encoding: str | None) -> None:
    """By Accept-Encoding only."""
    write_grid(kairosdb_url, metric)
    body = json.dumps({"start_absolute": 0, "metrics": [{"name": metric}]})
    headers = {"Accept-Encoding": accepted}
    response = requests.post(f"{kairosdb_url}/api/v1/datapoints/query", body, headers=headers, timeout=TIMEOUT_S)
    assert response.headers.get("Content-Encoding") == encoding
    assert response.json()["queries"][0]["sample_size"] == 25
