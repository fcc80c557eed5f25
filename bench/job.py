"""The whole job: `python -m bytewax.run dataflow:flow -r ... -s 10 -b 0` over a topic of a real Kafka, to its end.

Points go to a server in another process that answers 204. What starting and stopping cost is measured with a topic of a
few messages, and taken off. With `--processes 2` the topic is also read by a cluster of two, for the wall time.
"""

import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from bench import kafka, load, null_server, totals
from bench.figures import Figures, details_of, report
from bench.process import JobFolder, Used
from tests.support.servers import Kafka, free_ports

FEW = 1_000


class Run(NamedTuple):
    """What the processes of one run have used, and the digest of what they have sent."""

    processes: list[Used]
    wall_s: float
    digest: str

    @property
    def cpu_s(self) -> float:
        """Of all processes."""
        return sum(used.cpu_s for used in self.processes)


def run(broker: Kafka, topic: str, folder: Path, processes: int) -> Run:
    """Reads a topic to its end with a new job of so many processes."""
    sent = folder.with_suffix(".sent")
    job = JobFolder(folder)
    with null_server.running(sent) as url:
        job.configure(broker.bootstrap, topic, url)
        began_s = time.perf_counter()
        if processes == 1:
            used = [job.to_the_end()]
        else:
            addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(processes))
            started = [job.start("-a", addresses, "-i", str(i), KAFKA__TAIL="false") for i in range(processes)]
            used = [job.await_end(process, began_s) for process in started]
        wall_s = time.perf_counter() - began_s
    return Run(used, wall_s, totals.digest(totals.of_requests(sent)))


def measure(events: int, seed: int, processes: int) -> Figures:
    """Runs the job on the reference load, in one process or in several."""
    made = load.make(events, seed)
    with kafka.broker() as (broker, folder):
        kafka.fill(broker, "few", load.make(FEW, seed).messages)
        kafka.fill(broker, "load", made.messages)
        few = run(broker, "few", folder / "few", processes)
        whole = run(broker, "load", folder / "load", processes)
    return Figures(
        name="job" if processes == 1 else f"job, {processes} processes",
        units=len(made.messages),
        cpu_s=whole.cpu_s - few.cpu_s,
        wall_s=whole.wall_s - few.wall_s,
        memory_bytes=sum(used.memory_bytes for used in whole.processes),
        digest=whole.digest,
        details=details_of(start_cpu_s=few.cpu_s, start_wall_s=few.wall_s, whole_cpu_s=whole.cpu_s),
    )


def main(
    events: Annotated[int, typer.Option(help="About how many events.")] = 500_000,
    seed: Annotated[int, typer.Option()] = load.SEED,
    processes: Annotated[int, typer.Option(help="Processes of the job's cluster.")] = 1,
) -> None:
    """Measures the whole job and prints its figures as JSON."""
    report(measure(events, seed, processes))


if __name__ == "__main__":
    typer.run(main)
