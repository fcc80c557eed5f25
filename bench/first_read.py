"""`python -m bytewax.run`, but notes when the first messages came from Kafka: in the file that BENCH_MARK names.

The time is the machine's monotonic clock, in seconds.
"""

import os
import runpy
import time
from pathlib import Path

from monitor.flow.source import Chunk, KafkaPartition

MARK = "BENCH_MARK"


def main() -> None:
    """Runs the job with a probe in its source."""
    mark, next_batch = Path(os.environ[MARK]), KafkaPartition.next_batch

    def probed(partition: KafkaPartition) -> list[Chunk]:
        found = next_batch(partition)
        if any(chunk.messages for chunk in found) and not mark.exists():
            unfinished = mark.with_suffix(".unfinished")
            unfinished.write_text(str(time.monotonic()))
            unfinished.rename(mark)
        return found

    setattr(KafkaPartition, next_batch.__name__, probed)
    runpy.run_module("bytewax.run", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
