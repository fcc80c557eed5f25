"""Errors of the query service as RFC 9457's `application/problem+json`, each with what to do."""

from collections.abc import Iterable
from typing import NoReturn

from pydantic import BaseModel, Field

from monitor.config.errors import names
from monitor.kairosdb.errors import KairosDbError, Unreachable


class Problem(BaseModel):
    """An error, as `application/problem+json` (RFC 9457)."""

    type: str = Field(description="a word for the kind of problem")
    title: str
    status: int
    detail: str = Field(description="the rule, and what came")
    fix: str = Field(description="what to do")


MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5


class ProblemError(Exception):
    """A request that is refused or fails; `problem` says why, and what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def refuse_unknown(what: str, name: str, allowed: Iterable[str]) -> NoReturn:
    """Raises for a tenant, experiment, point, tag or data center that is not configured."""
    detail = f"{what} must be in the configuration; got '{name}'"
    raise _error(404, f"unknown_{what.replace(' ', '_')}", f"No such {what}", detail, f"Use one of: {names(allowed)}.")


def refuse_parameter(name: str, rule: str, fix: str) -> NoReturn:
    """Raises for a parameter that breaks its rule."""
    raise _error(400, "bad_parameter", "A parameter is wrong", f"{name} {rule}", fix)


def refuse_size(detail: str, fix: str) -> NoReturn:
    """Raises for an answer that would exceed a limit."""
    raise _error(400, "too_much", "The answer would be too large", detail, fix)


def store_problem(error: KairosDbError) -> ProblemError:
    """503 where asking again may help, 502 where KairosDB answered, but not as it must."""
    if isinstance(error, Unreachable):
        fix = "Check that KairosDB is up, and kairosdb.url; try again in a few seconds."
        return _error(503, "store_unavailable", "The store does not answer", str(error), fix)
    fix = (
        "After a 500, choose a shorter range or fewer tags; otherwise check kairosdb.url and any proxy before KairosDB."
    )
    return _error(502, "store_failed", "The store cannot answer this", str(error), fix)


def counts_problem(detail: str) -> ProblemError:
    """503 where the watcher's file of counts cannot be used."""
    fix = "If it is damaged, stop `monitor watch`, delete the file, and start it again."
    return _error(503, "counts_unavailable", "The counts of phases cannot be read", detail, fix)


def of_status(status: int, detail: str) -> ProblemError:
    """The error for whatever else the web framework refuses."""
    return _error(status, "http", "The request cannot be answered", detail, "See /docs for the paths and parameters.")


def _error(status: int, kind: str, title: str, detail: str, fix: str) -> ProblemError:
    return ProblemError(Problem(type=kind, title=title, status=status, detail=detail, fix=fix))
