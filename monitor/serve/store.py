"""KairosDB as the query service reads it: where it does not answer as it must, a question ends as a problem."""

from collections.abc import Iterable

from monitor.kairosdb.errors import KairosDbError
from monitor.kairosdb.reader import Ask, Reader, Row
from monitor.serve.problems import store_problem


class Store:
    """One KairosDB; may be used from any thread. Raises ProblemError where it does not answer as it must."""

    def __init__(self, url: str, timeout_s: float, parallel: int) -> None:
        self._reader = Reader(url, timeout_s, parallel)
        self.url = self._reader.url

    def close(self) -> None:
        """Waits for the requests in progress, and closes the connections."""
        self._reader.close()

    def rows(self, asks: Iterable[Ask]) -> list[list[Row]]:
        """The rows of each ask, in the order of the asks."""
        try:
            return self._reader.rows(asks)
        except KairosDbError as error:
            raise store_problem(error) from error
