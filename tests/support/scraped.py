"""What a scraper reads of `/metrics`."""

from typing import NamedTuple

import requests
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


class Sample(NamedTuple):
    """A value with its labels."""

    labels: dict[str, str]
    value: float


def scrape(url: str, accept: str = "text/plain;version=0.0.4") -> dict[str, list[Sample]]:
    """The samples at an address, by name; the library's own parsers refuse what breaks the format."""
    answer = requests.get(f"{url}/metrics", headers={"Accept": accept}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(accept.partition(";")[0])
    is_open = answer.headers["content-type"].startswith("application/openmetrics-text")
    parse = openmetrics.text_string_to_metric_families if is_open else text_string_to_metric_families
    found: dict[str, list[Sample]] = {}
    for family in parse(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(Sample(dict(sample.labels), sample.value))
    return found


def value(samples: dict[str, list[Sample]], name: str, **labels: str) -> float:
    """The only value of a name with these labels, among others."""
    (of,) = [one.value for one in samples.get(name, []) if labels.items() <= one.labels.items()]
    return of
