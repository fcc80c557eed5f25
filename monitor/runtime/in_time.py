"""An answer that may take long, for callers that cannot wait long."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class InTime(Generic[T]):
    """A function that blocks, called in a thread, once at a time; who asks waits a bounded time for it. Thread-safe."""

    def __init__(self, compute: Callable[[], T], name: str) -> None:
        self._compute, self._name = compute, name
        self._lock = threading.Lock()
        self._running: Future[T] | None = None

    def get(self, wait_s: float) -> T | None:
        """The result, or None if it takes longer; then it goes on, and later callers wait for the same. What the
        function raises is raised.
        """
        with self._lock:
            if self._running is None or self._running.done():
                self._running = Future()
                arguments = (self._running,)
                threading.Thread(target=self._run, args=arguments, name=self._name, daemon=True).start()
            running = self._running
        try:
            return running.result(wait_s)
        except TimeoutError:
            return None

    def _run(self, running: "Future[T]") -> None:
        try:
            result = self._compute()
        except BaseException as error:  # it is the caller's
            running.set_exception(error)
        else:
            running.set_result(result)
