"""Each error of KairosDB's client is one problem of the query service."""

import pytest

from monitor.core.codes import MINUTE_MS
from monitor.kairosdb.reader import Ask
from monitor.serve.problems import ProblemError
from monitor.serve.store import Store
from tests.support.faulty_server import CUT, RESET, Answer, FaultyServer, refuse


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        *((refuse(status, "busy"), 503, "store_unavailable") for status in (429, 502, 503, 504)),
        (RESET, 503, "store_unavailable"),
        (CUT, 503, "store_unavailable"),
        *((refuse(status, "bad"), 502, "store_failed") for status in (200, 302, 400, 401, 404, 500)),
    ],
)
def test_a_store_that_does_not_answer_as_it_must_is_a_problem(answer: Answer, status: int, kind: str) -> None:
    """503 where asking again may help, else 502; the detail says what was asked and what came."""
    with FaultyServer() as server:
        server.script(answer)
        store = Store(server.url, timeout_s=5, parallel=2)
        with pytest.raises(ProblemError) as caught:
            store.rows([Ask(("m",), 0, MINUTE_MS, {})])
        store.close()
    problem = caught.value.problem
    assert (problem.status, problem.type) == (status, kind)
    assert f"POST {server.url}/api/v1/datapoints/query" in problem.detail
    assert problem.fix
