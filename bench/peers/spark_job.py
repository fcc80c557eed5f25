"""The work on Spark Structured Streaming in its usual shape: applyInPandasWithState by session, then a sum per total.

local[2], file source, availableNow. What a session contributes is computed as in plain.py; its state is its events,
pickled. The process is the driver; its Java and Python workers are its children, and their CPU counts too.

    python -m bench.peers.spark_job FOLDER [FILES_A_BATCH]     # of files as `write_parts` makes them
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench import load
from bench.figures import Figures, details_of, report
from bench.peers.plain import Gathered, Kept
from bench.totals import Key, Totals, digest

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

FILE_MESSAGES = 25_000
FILES_PER_BATCH = 4
CHANGES = "name string, minute long, tags string, value long"
STATE = "events binary"
OPTIONS = {
    "spark.driver.memory": "4g",
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
}
_GATHERED = Gathered(load.config())
"""Each Python worker has one."""


def write_parts(folder: Path, messages: Iterable[load.Message]) -> None:
    """A log as files, in the order of their names and of their times, which is that in which Spark takes them."""
    folder.mkdir()
    remaining = iter(messages)
    for number in range(sys.maxsize):
        part = list(islice(remaining, FILE_MESSAGES))
        if not part:
            return
        path = folder / f"{number:05d}.txt"
        load.write(path, part)
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))


def session(key: tuple[str, ...], parts: Iterable["pd.DataFrame"], state: Any) -> Iterator["pd.DataFrame"]:
    """Takes a batch's messages of one session in; what they change."""
    import pandas as pd

    by_tenant: dict[str, list[Kept]] = pickle.loads(state.get[0]) if state.exists else {}
    before = {tenant: _GATHERED.contributions(tenant, events) for tenant, events in by_tenant.items()}
    for part in parts:
        for line in part["value"]:
            at_ms, _, value = line.encode().split(b" ", 2)
            accepted = _GATHERED.accept(value, int(at_ms))
            if accepted is not None:
                by_tenant.setdefault(accepted[0], []).append(accepted[2])
    state.update((pickle.dumps(by_tenant),))
    rows: list[tuple[str, int, str, int]] = []
    for tenant, events in by_tenant.items():
        old, new = before.get(tenant, {}), _GATHERED.contributions(tenant, events)
        for counter in old.keys() | new.keys():
            if change := new.get(counter, 0) - old.get(counter, 0):
                rows.append((*_GATHERED.tenants[tenant].key(counter), change))
    yield pd.DataFrame(rows, columns=["name", "minute", "tags", "value"])


def measure(folder: Path, files_per_batch: int) -> Figures:
    """Reads all files."""
    from pyspark.sql import DataFrame, SparkSession  # type: ignore[import-not-found]
    from pyspark.sql import functions as F

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the workers are of another environment
    builder = SparkSession.builder.master("local[2]").appName("peer")
    for name, value in OPTIONS.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    found: Totals = {}

    def fold(changes: DataFrame, _: int) -> None:
        for row in changes.groupBy("name", "minute", "tags").agg(F.sum("value").alias("value")).collect():
            key: Key = row["name"], row["minute"], row["tags"]
            found[key] = found.get(key, 0) + row["value"]

    lines = spark.readStream.option("maxFilesPerTrigger", files_per_batch).text(str(folder))
    keyed = lines.withColumn("session", F.split("value", " ").getItem(1))
    changes = keyed.groupBy("session").applyInPandasWithState(session, CHANGES, STATE, "append", "NoTimeout")
    with TemporaryDirectory(prefix="monitor-bench-") as checkpoint:
        used_s, began_s = _cpu_s(), time.perf_counter()
        writer = changes.writeStream.foreachBatch(fold).outputMode("append").option("checkpointLocation", checkpoint)
        query = writer.trigger(availableNow=True).start()
        query.awaitTermination()
        wall_s, cpu_s, memory_bytes = time.perf_counter() - began_s, _cpu_s() - used_s, _memory_bytes()
        progress = query.recentProgress
    spark.stop()
    messages = sum(batch["numInputRows"] for batch in progress)
    details = details_of(batches=len(progress))
    return Figures("Spark", messages, cpu_s, wall_s, memory_bytes, digest(found), details)


def _processes() -> list[Any]:
    import psutil

    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _cpu_s() -> float:
    """Of this process and its children, those that have ended included."""
    times = [process.cpu_times() for process in _processes()]
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))


def _memory_bytes() -> int:
    return int(sum(process.memory_info().rss for process in _processes()))


def available(python: Path) -> bool:
    """Whether this interpreter has pyspark."""
    asked = [str(python), "-c", "import pyspark, pandas, pyarrow"]
    return python.exists() and subprocess.run(asked, capture_output=True).returncode == 0


if __name__ == "__main__":
    from bench.peers import spark_job  # as a module, which the workers can import: by value it cannot be pickled

    report(spark_job.measure(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else FILES_PER_BATCH))
