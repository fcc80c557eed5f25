"""A topic on which producers set the timestamps, and a few of their clocks are wrong: the job goes on counting."""

from pathlib import Path

from typer.testing import CliRunner

from monitor.commands.main import app
from tests.support import oracle
from tests.support.job import Job, assert_stored, configured, counted, log_of, messages_counted
from tests.support.messages import shop
from tests.support.oracle import Message
from tests.support.servers import Kafka
from tests.support.wrong_clocks import wrong_log

COUNT = 1_200
"""Of 2 s each: 40 minutes, by the end of which much is final."""


def test_a_few_wrong_clocks_stop_nothing(real_kafka: Kafka, real_kairosdb: str, tmp_path: Path) -> None:
    """A tenth of the messages is stamped a year ahead, in microseconds, or behind, beginning with the first ones.

    The job is stopped in the middle and goes on. It accepts and rejects what the oracle does, verify agrees, and the
    watermark, which every answer can show, is not ahead of the right clocks.
    """
    name = "wrong-clocks"
    job = Job(tmp_path / "job", configured(shop(), name, real_kafka, [name], real_kairosdb, tmp_path / "job"))
    real_kafka.create_topic(name, 2)
    log = wrong_log(5, "ahead", "first", COUNT, partitions=2)
    strange = wrong_log(5, "microseconds", "first", COUNT, partitions=2, wrong_times=0)
    log = [odd if number % 3 == 0 else ahead for number, (ahead, odd) in enumerate(zip(log, strange, strict=True))]
    _produce(real_kafka, name, log[: COUNT // 3])
    with job.running() as run:
        run.awaits(lambda: messages_counted(real_kairosdb, job.dc) == COUNT // 3, "end of the topic")
        run.stop()
    _produce(real_kafka, name, log[COUNT // 3 :])
    with job.running() as run:
        run.awaits(lambda: messages_counted(real_kairosdb, job.dc) == COUNT, "end of the topic")
        run.stop()
    answer = oracle.answer(job.config, log_of(real_kafka, [name]), create_time=True)
    assert answer.accepted["uswm"] > COUNT * 0.8
    assert counted(real_kairosdb, job.dc) == answer[1:4]
    assert_stored(real_kairosdb, job.config, answer)
    file = str(job.folder / "monitor.toml")
    explain = ["explain", "uswm", "s-0-0", "--config", file]
    for command in (["verify", "--config", file], ["state", str(job.recovery)], explain):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output


def _produce(kafka: Kafka, topic: str, log: list[Message]) -> None:
    kafka.produce(topic, [(m.partition, m.key, m.value, m.timestamp) for m in log])
