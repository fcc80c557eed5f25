"""`monitor incident`: turns incidents on and off in the traffic of a `monitor run`."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from monitor.commands.options import RUN_FOLDER, SWITCHES_FILE, RunFolder
from monitor.commands.run_folder import NoRunError
from monitor.runtime.console import print_line
from monitor.simulate import switch


def incident(
    name: Annotated[
        str, typer.Argument(help="KIND or KIND:SETTING=VALUE,...; the kinds are those of `monitor simulate --help`.")
    ],
    folder: RunFolder = RUN_FOLDER,
    off: Annotated[bool, typer.Option("--off", help="Turn it off; KIND is enough.")] = False,
) -> None:
    """It affects visits that start from now on."""
    if not folder.is_dir():
        message = f"{folder} must be the folder of a `monitor run`; there is no such folder"
        raise NoRunError(message)
    switched = switch(folder / SWITCHES_FILE, name, not off, time.time_ns() // 1_000_000)
    at = datetime.fromtimestamp(switched.at_ms / 1_000, UTC)
    print_line(f"from {at:%H:%M:%S} UTC on these incidents are on: {', '.join(switched.on) or 'none'}")
