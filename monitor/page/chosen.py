"""An experiment with the choices of an address, as far as they can be met. Blocks."""

from collections.abc import Sequence
from typing import NamedTuple

from monitor.page.address import View
from monitor.page.data import Asking, OfExperiment
from monitor.serve import answers
from monitor.serve.problems import Problem, ProblemError

REFUSED_FROM, REFUSED_BEFORE = 400, 500
"""The statuses of answers that another choice would get."""


class Chosen(NamedTuple):
    """The content of a page; what of the address is left out, and why its range is, if that cannot be shown."""

    content: OfExperiment
    left_out: Sequence[str]
    refused: Problem | None


def experiment(asking: Asking, tenant: str, name: str, view: View) -> Chosen:
    """The content for a view: without what is not configured, and without a range that is refused.

    Raises ProblemError, if the experiment is not configured or the store fails.
    """
    service = asking.service
    service.experiment(tenant, name)
    known, left_out = view.known(answers.tag_values(service, tenant), service.dcs, service.tenant(tenant).points)
    try:
        return Chosen(asking.experiment(tenant, name, known), left_out, None)
    except ProblemError as error:
        present = known._replace(last=View().last, start=None, end=None)
        if present == known or not REFUSED_FROM <= error.problem.status < REFUSED_BEFORE:
            raise
        return Chosen(asking.experiment(tenant, name, present), left_out, error.problem)
