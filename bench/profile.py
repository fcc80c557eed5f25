"""Pictures of where the time goes: bench/profile-core.svg and bench/profile-job.svg, flame graphs by py-spy.

make .venv-bench/.ready
.venv/bin/python -m bench.profile
"""

import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from bench import kafka, load, null_server
from bench.figures import ROOT
from bench.process import COMMAND, JobFolder

FOLDER = Path(__file__).parent
PY_SPY = ROOT / ".venv-bench" / "bin" / "py-spy"
RATE_HZ = 400


def main(events: Annotated[int, typer.Option(help="About how many events.")] = 300_000) -> None:
    """Records the core and the whole job on the reference load."""
    messages = load.make(events).messages
    core_picture, job_picture = FOLDER / "profile-core.svg", FOLDER / "profile-job.svg"
    with TemporaryDirectory(prefix="monitor-bench-") as folder:
        log = Path(folder, "load.log")
        load.write(log, messages)
        core = [sys.executable, "-m", "bench.core", "--log", str(log)]
        subprocess.run([*_recording(core_picture, "--native"), *core], cwd=ROOT, check=True)
    with kafka.broker() as (broker, job_folder), null_server.running() as url:
        kafka.fill(broker, "load", messages)
        job = JobFolder(job_folder / "job")
        job.configure(broker.bootstrap, "load", url)
        command = [*_recording(job_picture), *COMMAND]
        job.await_end(job.start(command=command, KAFKA__TAIL="false"), time.perf_counter())
    _title(core_picture, f"the core on {len(messages):,} messages of the reference load")
    _title(job_picture, f"the whole job on {len(messages):,} messages of the reference load")


def _recording(picture: Path, *options: str) -> list[str]:
    """The command that records the command after it; with `--native` compiled functions too, and threads that wait."""
    return [str(PY_SPY), "record", "-f", "flamegraph", "-r", str(RATE_HZ), *options, "-o", str(picture), "--"]


def _title(picture: Path, title: str) -> None:
    """Gives a picture a title, in the place of py-spy's, which is the command line with the paths of this machine."""
    svg = picture.read_text()
    picture.write_text(re.sub(r'(<text id="title"[^>]*>)[^<]*', lambda found: found[1] + title, svg, count=1))


if __name__ == "__main__":
    typer.run(main)
