"""What live A/A says of a tenant, and the memory of it."""

import threading
from datetime import datetime

from pydantic import Field

from monitor.serve.findings import Answer


class IntervalAnswer(Answer):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class LiveAaAnswer(Answer):
    """Live A/A of a tenant, over final minutes of the last days; figures are null until there is enough to judge."""

    tenant: str
    experiments: list[str] = Field(description="those that are judged")
    waiting: list[str] = Field(description="those with `aa = true` that have too little to be judged yet")
    start: datetime | None = Field(description="the first minute that is judged")
    end: datetime | None = Field(description="the end of the last one")
    visits: int = Field(description="assigned, of all these experiments together")
    splits: int = Field(description="15 of each experiment; they make no difference to anything")
    alarms: int = Field(description="splits that alarmed at level 0.2 at some look")
    gauge: IntervalAnswer | None = Field(description="alarms / splits: at most 0.2, if verdicts are right")
    design_effect: IntervalAnswer | None = Field(description="of the assigned visits: 1, if they are independent")
    is_dependent: bool = Field(description="the low end of the design effect is above 1.05: counts are divided by it")
    words: str = Field(description="all of it in a sentence")


class AaMemory:
    """The last answer of each tenant, which is computed once for each end of what it judges. Thread-safe."""

    def __init__(self) -> None:
        self._answers: dict[str, tuple[int, LiveAaAnswer]] = {}
        self._lock = threading.Lock()

    def get(self, tenant: str, end_ms: int) -> LiveAaAnswer | None:
        """The answer up to this moment, if it is the last one."""
        with self._lock:
            known_ms, answer = self._answers.get(tenant, (None, None))
            return answer if known_ms == end_ms else None

    def put(self, tenant: str, end_ms: int, answer: LiveAaAnswer) -> None:
        """Remembers an answer in place of the one before."""
        with self._lock:
            self._answers[tenant] = end_ms, answer
