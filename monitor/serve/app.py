"""The HTTP API: paths, parameters, errors as problems, and ETags of final answers.

Answers are computed in the framework's threads. An answer whose minutes are all final has an ETag and may be cached;
all others may not.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

import structlog
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from monitor.serve import answers, spans, states, stored_verdicts
from monitor.serve.anytime import Intervals
from monitor.serve.docs_page import docs_page
from monitor.serve.findings import Answer
from monitor.serve.health import health
from monitor.serve.health_models import HealthAnswer
from monitor.serve.history_models import EvidenceAnswer, HistoryAnswer
from monitor.serve.models import (
    Basis,
    BreakdownAnswer,
    ExperimentAnswer,
    ExperimentsAnswer,
    Measure,
    Scope,
    SeriesAnswer,
    Step,
    TenantsAnswer,
)
from monitor.serve.probes import HeadAsGet, add_probes
from monitor.serve.problems import MEDIA_TYPE, RETRY_AFTER_S, Problem, ProblemError, of_status, refuse_parameter
from monitor.serve.prometheus import add_metrics
from monitor.serve.service import Service
from monitor.serve.spans import Span
from monitor.serve.verdict_models import TenantVerdictsAnswer, VerdictsAnswer
from monitor.serve.verdicts import tenant_verdicts, verdicts

FINAL_FRESH_S = 60
"""The time for which a client may cache a final answer: its data center, or totals after a loss, may still change."""
_VOLATILE = {"basis": {"newest", "newest_age_s", "is_fresh", "serving_dc"}}
"""The fields of an answer about the present, not about its range: no part of the ETag."""
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {MEDIA_TYPE: {}}, "description": words}
    for status, words in (
        (400, "A parameter is wrong, or the answer would be too large"),
        (404, "No such tenant, experiment, point, tag or data center"),
        (502, "The store answers with an error"),
        (503, "The store does not answer"),
    )
}

EXPERIMENT_PATH = "/api/tenants/{tenant}/experiments/{experiment}"

log = structlog.get_logger(__name__)

From = Annotated[
    str | None, Query(alias="from", description="ISO 8601 or ms since 1970; included. Default: a day before `to`")
]
To = Annotated[str | None, Query(description="ISO 8601 or ms since 1970; not included. Default: now")]
TagFilter = Annotated[
    list[str] | None, Query(description="TAG:VALUE; values of one tag are alternatives, tags must all hold")
]
By = Annotated[list[str] | None, Query(description="a tag to split by; may be repeated")]
Dc = Annotated[str | None, Query(description="force this data center")]
Check = Annotated[str | None, Query(description="only this check, by its name")]
Kind = Annotated[Intervals, Query(description="fixed: for one look; anytime: valid at every look since a fixed start")]
InScope = Annotated[Scope, Query(description="the visits that points are counted for")]
Point = Annotated[str | None, Query(description="the point, for total, visits, rate, sum and mean")]


class Api(FastAPI):
    """The application with a description of the errors that it gives, not of those that the framework would."""

    def openapi(self) -> dict[str, Any]:
        """OpenAPI: a parameter that breaks its rule is answered with 400, never with 422."""
        if self.openapi_schema is None:
            described = super().openapi()
            for of_path in described["paths"].values():
                for operation in of_path.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                described["components"]["schemas"].pop(name, None)
        return super().openapi()


def create_app(service: Service) -> FastAPI:
    """The application; `/` is left to the page."""
    app = Api(
        title="AB Monitor",
        description="Experiments and health, read from the store. Each minute is read from one data center.",
        version="1",
        docs_url=None,
        redoc_url=None,
    )
    _add_problems(app)
    _add_docs(app)
    add_probes(app, service)
    add_metrics(app, service)
    _add_overviews(app, service)
    _add_experiment(app, service)
    _add_series(app, service)
    _add_verdicts(app, service)
    _add_nothing(app)
    app.add_middleware(HeadAsGet)
    return app


def _add_docs(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        """The description of the API for people."""
        return Response(docs_page(app.openapi()), media_type="text/html")


def _add_overviews(app: FastAPI, service: Service) -> None:
    @app.get("/api/tenants", response_model=TenantsAnswer, responses=_PROBLEMS)
    def tenants(request: Request) -> Response:
        """All tenants, with their experiments, points and tags."""
        return _live(answers.tenants(service))

    @app.get("/api/tenants/{tenant}/experiments", response_model=ExperimentsAnswer, responses=_PROBLEMS)
    def experiments(tenant: str, dc: Dc = None) -> Response:
        """The experiments of a tenant, with their state over the last 24 hours."""
        return _live(states.experiments(service, tenant, dc))

    @app.get("/api/health", response_model=HealthAnswer)
    def state() -> Response:
        """The state of the monitor: store, data centers, failovers, divergences, and what to do."""
        return _live(health(service))


def _add_experiment(app: FastAPI, service: Service) -> None:
    @app.get(EXPERIMENT_PATH, response_model=ExperimentAnswer, responses=_PROBLEMS)
    def experiment(
        request: Request,
        tenant: str,
        experiment: str,
        start: From = None,
        to: To = None,
        tag: TagFilter = None,
        scope: InScope = Scope.QUALIFIED,
        dc: Dc = None,
        intervals: Kind = Intervals.FIXED,
    ) -> Response:
        """One experiment over a range: each variation's visits, share and points, against the control."""
        span, tags = _span(service, start, to), _tags(tag)
        answer = answers.experiment(
            service, tenant, experiment, span, tags=tags, scope=scope, dc=dc, intervals=intervals
        )
        return _dated(request, answer, answer.basis)

    @app.get(EXPERIMENT_PATH + "/breakdown", response_model=BreakdownAnswer, responses=_PROBLEMS)
    def breakdown(
        request: Request,
        tenant: str,
        experiment: str,
        by: By = None,
        start: From = None,
        to: To = None,
        tag: TagFilter = None,
        scope: InScope = Scope.QUALIFIED,
        dc: Dc = None,
        intervals: Kind = Intervals.FIXED,
    ) -> Response:
        """One experiment over a range, split by tags."""
        span, tags = _span(service, start, to), _tags(tag)
        answer = answers.breakdown(
            service, tenant, experiment, span, by or [], tags=tags, scope=scope, dc=dc, intervals=intervals
        )
        return _dated(request, answer, answer.basis)


def _add_verdicts(app: FastAPI, service: Service) -> None:
    @app.get(f"{EXPERIMENT_PATH}/verdicts", response_model=VerdictsAnswer, responses=_PROBLEMS)
    def of_experiment(tenant: str, experiment: str, dc: Dc = None) -> Response:
        """What the checks of an experiment say of its present phase, the worst first. Valid at every look."""
        return _live(verdicts(service, tenant, experiment, dc))

    @app.get("/api/tenants/{tenant}/verdicts", response_model=TenantVerdictsAnswer, responses=_PROBLEMS)
    def of_tenant(tenant: str, dc: Dc = None) -> Response:
        """What the checks of all experiments of a tenant say, the worst experiment first."""
        return _live(tenant_verdicts(service, tenant, dc))

    @app.get(f"{EXPERIMENT_PATH}/verdicts/history", response_model=HistoryAnswer, responses=_PROBLEMS)
    def changes(
        tenant: str, experiment: str, check: Check = None, start: From = None, to: To = None, dc: Dc = None
    ) -> Response:
        """When the checks of an experiment said something else, as `monitor watch` has written it."""
        return _live(stored_verdicts.history(service, tenant, experiment, _span(service, start, to), check, dc))

    @app.get(f"{EXPERIMENT_PATH}/verdicts/evidence", response_model=EvidenceAnswer, responses=_PROBLEMS)
    def over_time(
        tenant: str, experiment: str, check: Check = None, start: From = None, to: To = None, dc: Dc = None
    ) -> Response:
        """The evidence of the checks of an experiment over time, as `monitor watch` has written it."""
        return _live(stored_verdicts.evidence(service, tenant, experiment, _span(service, start, to), check, dc))


def _add_series(app: FastAPI, service: Service) -> None:
    @app.get(EXPERIMENT_PATH + "/series", response_model=SeriesAnswer, responses=_PROBLEMS)
    def series(
        request: Request,
        tenant: str,
        experiment: str,
        measure: Annotated[Measure, Query(description="the measure")] = Measure.QUALIFIED,
        step: Annotated[Step, Query(description="length of a step")] = Step.MINUTE,
        point: Point = None,
        by: By = None,
        start: From = None,
        to: To = None,
        tag: TagFilter = None,
        scope: InScope = Scope.QUALIFIED,
        dc: Dc = None,
    ) -> Response:
        """A measure over time."""
        answer = answers.series(
            service,
            tenant,
            experiment,
            _span(service, start, to),
            measure,
            step,
            point=point,
            by=by or [],
            tags=_tags(tag),
            scope=scope,
            dc=dc,
        )
        return _dated(request, answer, answer.basis)


def _add_nothing(app: FastAPI) -> None:
    """Adds what is below /api but no path of it: otherwise the page would answer, with HTML."""

    @app.api_route("/api/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    def nothing(request: Request, path: str) -> None:
        if request.method != "GET":
            raise HTTPException(405, "only GET and HEAD are answered", {"Allow": "GET, HEAD"})
        raise HTTPException(404, f"nothing is at /api/{path}")


def _span(service: Service, start: str | None, end: str | None) -> Span:
    return spans.parse(start, end, service.now_ms())


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(ProblemError)
    def refused(_request: Request, error: ProblemError) -> Response:
        return _problem(error.problem)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        rule = f"{first['msg'].removeprefix('Input ')}; got {str(first.get('input'))[:60]!r}"
        try:
            refuse_parameter(name, rule, "See /docs for the values of the parameter.")
        except ProblemError as refusal:
            return _problem(refusal.problem)

    @app.exception_handler(HTTPException)
    def not_served(_request: Request, error: HTTPException) -> Response:
        return _problem(of_status(error.status_code, error.detail).problem, error.headers)

    @app.exception_handler(Exception)
    def failed(_request: Request, error: Exception) -> Response:
        log.error("request_failed", exc_info=error)
        return _problem(of_status(500, "an error of the service itself; its log has it").problem)


def _problem(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    more = {"Retry-After": str(RETRY_AFTER_S)} if problem.status == 503 else {}
    return Response(
        problem.model_dump_json(), problem.status, {**(headers or {}), **more, "Cache-Control": "no-store"}, MEDIA_TYPE
    )


def _live(answer: Answer) -> Response:
    return Response(answer.model_dump_json(), headers={"Cache-Control": "no-store"}, media_type="application/json")


def _dated(request: Request, answer: Answer, basis: Basis) -> Response:
    """The answer, or 304 if the client has it already."""
    if not basis.is_final:
        return _live(answer)
    digest = hashlib.blake2b(answer.model_dump_json(exclude=_VOLATILE).encode(), digest_size=16).hexdigest()
    etag = f'W/"{digest}"'
    headers = {"ETag": etag, "Cache-Control": f"private, max-age={FINAL_FRESH_S}"}
    cached = [tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")]
    if etag in cached or "*" in cached:
        return Response(status_code=304, headers=headers)
    return Response(answer.model_dump_json(), headers=headers, media_type="application/json")


def _tags(listed: list[str] | None) -> dict[str, list[str]]:
    """The filter, parsed from texts TAG:VALUE."""
    tags: dict[str, list[str]] = {}
    for text in listed or ():
        tag, colon, value = text.partition(":")
        if not colon:
            refuse_parameter("tag", f"must be TAG:VALUE; got {text[:60]!r}", "Write tag=device:mobile.")
        tags.setdefault(tag, []).append(value)
    return tags
