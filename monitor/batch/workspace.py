"""A DuckDB database that spills to a temporary folder: tables larger than memory, filled from rows batch by batch."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import msgspec

MEMORY_BYTES = 1 << 30
"""The memory that DuckDB may use; beyond it, DuckDB spills to disk."""

ROWS_PER_BATCH = 25_000
"""Rows in Python's memory at a time, twice: while DuckDB writes one batch, the next one is made."""


class Workspace:
    """Tables of one comparison."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self._connection = connection
        self._chunk = folder / "rows.ndjson"

    def run(self, sql: str) -> None:
        """Executes a statement."""
        self._connection.execute(sql)

    def rows(self, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query; for small results."""
        return self._connection.execute(sql, list(parameters)).fetchall()

    def each(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, one batch in memory at a time; other statements may run in between."""
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql)
            while batch := cursor.fetchmany(ROWS_PER_BATCH):
                yield from batch
        finally:
            cursor.close()

    def create(self, table: str, columns: Mapping[str, str]) -> None:
        """Creates a table; `columns`: name to SQL type."""
        self.run(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")

    def fill(self, table: str, columns: Mapping[str, str], rows: Iterable[Any], select: str = "*") -> int:
        """Appends rows, dicts or structs (column to value; a column that is left out is null); returns their number.

        `columns` are those of the rows, `select` is the SQL from them to the table's columns. Give an infinite number
        as the text `Infinity` or `-Infinity`, because JSON has no infinities.
        """
        source = f"read_json($1, format = 'newline_delimited', columns = {{{_named(columns)}}})"
        statement = f"INSERT INTO {table} SELECT {select} FROM {source}"
        encoder, remaining, count = msgspec.json.Encoder(), iter(rows), 0
        # DuckDB releases Python's lock while it reads one batch, so the next one is made meanwhile.
        with ThreadPoolExecutor(1) as writer:
            pending: Future[None] | None = None
            while batch := list(islice(remaining, ROWS_PER_BATCH)):
                lines = encoder.encode_lines(batch)
                count += len(batch)
                if pending is not None:
                    pending.result()
                pending = writer.submit(self._append, statement, lines)
            if pending is not None:
                pending.result()
        return count

    def _append(self, statement: str, lines: bytes) -> None:
        self._chunk.write_bytes(lines)
        self._connection.execute(statement, [str(self._chunk)])


@contextmanager
def workspace(memory_bytes: int = MEMORY_BYTES) -> Iterator[Workspace]:
    """A new workspace, deleted at the end. Raises OSError if no temporary folder can be made."""
    with TemporaryDirectory(prefix="monitor-verify-") as folder:
        options: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_bytes}B",
            "temp_directory": folder,
            "preserve_insertion_order": False,
            # DuckDB must not download extensions.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        connection = duckdb.connect(":memory:", config=options)
        try:
            yield Workspace(connection, Path(folder))
        finally:
            connection.close()


def literal(text: str) -> str:
    """A text as an SQL literal."""
    # SQL text ends at a NUL, which TOML and JSON can both write.
    return " || chr(0) || ".join("'" + part.replace("'", "''") + "'" for part in text.split("\0"))


def _named(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
