"""The long simulation, behind `make faults SEEDS=500`: scenario after scenario, on a real Kafka of its own.

    python -m tests.support.faults --seeds 500             # new seeds; the first is printed
    python -m tests.support.faults --seeds 500 --first 1   # these
    python -m tests.support.faults --seed 17               # one again

Exit status 0: all as they should be. 1: at least one was not; its folder, with configuration and logs, is kept.
"""

import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from tests.support.job import ROOT
from tests.support.servers import Kafka
from tests.support.simulation import Found, play

SEED_BITS = 31

app = typer.Typer(add_completion=False)


@app.command()
def faults(
    seeds: Annotated[int, typer.Option(min=1, help="How many scenarios to play.")] = 20,
    first: Annotated[int | None, typer.Option(help="The first seed; a new one unless given.")] = None,
    seed: Annotated[int | None, typer.Option(help="Play this one and no other.")] = None,
    package: Annotated[
        Path, typer.Option(help="The folder of dataflow.py and monitor/: another state of them.")
    ] = ROOT,
) -> None:
    """Plays scenarios of faults, and says which did not leave what they should."""
    start = first if first is not None else secrets.randbits(SEED_BITS)
    chosen = [seed] if seed is not None else list(range(start, start + seeds))
    failed: list[int] = []
    work = Path(tempfile.mkdtemp(prefix="monitor-faults-"))
    with Kafka(work / "kafka") as kafka:
        for number, one in enumerate(chosen, 1):
            began_s = time.monotonic()
            folder = work / f"seed-{one}"
            try:
                said = play(one, kafka, folder, package)
                shutil.rmtree(folder)
            except Found as found:
                failed.append(one)
                said = f"FAILED; logs in {folder}\n{found}"
            typer.echo(f"[{number}/{len(chosen)}] seed {one}, {time.monotonic() - began_s:.0f} s: {said}")
    shutil.rmtree(work / "kafka")
    typer.echo(f"{len(chosen) - len(failed)} of {len(chosen)} scenarios ended as they should")
    if failed:
        typer.echo(f"not these seeds: {', '.join(map(str, failed))}")
        raise typer.Exit(1)
    work.rmdir()


if __name__ == "__main__":
    app()
