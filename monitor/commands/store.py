"""`monitor store`: the embedded store in the foreground."""

from pathlib import Path
from typing import Annotated

import typer

from monitor import devstore


def store(
    path: Annotated[Path, typer.Argument(help="The SQLite file; created if it does not exist.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8080,
) -> None:
    """For development and trials; Ctrl-C stops it."""
    devstore.serve(path, host, port)
