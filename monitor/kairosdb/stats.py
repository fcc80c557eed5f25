"""Counters of what was written to KairosDB, and of how that went."""

from threading import Lock

_NS_PER_MS = 1_000_000


class WriterStats:
    """Counters of all writers of a process; thread-safe. The job writes them as `monitor.points_written` and so on."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._points_written = 0
        self._write_ns = 0
        self._retries = 0
        self._dead_letters = 0
        self._rewritten = 0

    def add(
        self,
        *,
        points_written: int = 0,
        write_ns: int = 0,
        retries: int = 0,
        dead_letters: int = 0,
        rewritten: int = 0,
    ) -> None:
        """Adds to the counters; `write_ns` is time spent in requests, in nanoseconds."""
        with self._lock:
            self._points_written += points_written
            self._write_ns += write_ns
            self._retries += retries
            self._dead_letters += dead_letters
            self._rewritten += rewritten

    def take(self) -> dict[str, int]:
        """The counts since the last call: points_written, write_ms, retries, dead_letters, rewritten.

        The fraction of a millisecond stays for the next call, so that rounding drops nothing.
        """
        with self._lock:
            write_ms, self._write_ns = divmod(self._write_ns, _NS_PER_MS)
            taken = {
                "points_written": self._points_written,
                "write_ms": write_ms,
                "retries": self._retries,
                "dead_letters": self._dead_letters,
                "rewritten": self._rewritten,
            }
            self._points_written = self._retries = self._dead_letters = self._rewritten = 0
        return taken
