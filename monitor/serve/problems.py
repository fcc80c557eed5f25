"""Errors of the query service, each with what to do, as RFC 9457's `application/problem+json`."""

from collections.abc import Iterable
from typing import NoReturn

from monitor.config.errors import names
from monitor.kairosdb.errors import KairosDbError, Unreachable
from monitor.serve.models import Problem

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5


class ProblemError(Exception):
    """A question that is not answered; `problem` says why, and what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def refuse_unknown(what: str, name: str, known: Iterable[str]) -> NoReturn:
    """There is no such tenant, experiment, point, tag or data center."""
    detail = f"{what} must be one of the configuration; got '{name}'"
    raise _error(
        404, f"unknown_{what.replace(' ', '_')}", f"No such {what}", detail, f"Ask for one of: {names(known)}."
    )


def refuse_parameter(name: str, rule: str, fix: str) -> NoReturn:
    """A parameter does not say what it has to."""
    raise _error(400, "bad_parameter", "A parameter is wrong", f"{name} {rule}", fix)


def refuse_size(detail: str, fix: str) -> NoReturn:
    """The answer would be larger than is allowed."""
    raise _error(400, "too_much", "The answer would be too large", detail, fix)


def store_problem(error: KairosDbError) -> ProblemError:
    """503 where asking again may help, 502 where KairosDB answered, but not as it must."""
    if isinstance(error, Unreachable):
        fix = "Check that KairosDB is up, and kairosdb.url; ask again in some seconds."
        return _error(503, "store_unavailable", "The store does not answer", str(error), fix)
    fix = "With 500, ask for a shorter range or fewer tags; else check kairosdb.url and the proxy before KairosDB."
    return _error(502, "store_failed", "The store cannot answer this", str(error), fix)


def of_status(status: int, detail: str) -> ProblemError:
    """The problem for anything else that the web framework refuses."""
    return _error(status, "http", "The request cannot be answered", detail, "See /docs for what can be asked.")


def _error(status: int, kind: str, title: str, detail: str, fix: str) -> ProblemError:
    return ProblemError(Problem(type=kind, title=title, status=status, detail=detail, fix=fix))
