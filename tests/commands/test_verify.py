"""`monitor verify` as its users run it, against an embedded store that holds what the oracle says of a log."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner, Result

from monitor import devstore
from monitor.batch.queries import MINUTE_MS
from monitor.commands.main import app
from monitor.commands.run_folder import MESSAGES_FOLDER, RunFile, write_run_file
from monitor.topics import recorded
from monitor.topics.recorded import Record
from monitor.verify import stored
from tests.support import oracle, reading
from tests.support.driver import Core
from tests.support.golden import LONG_DAY, chunks
from tests.support.job import expected
from tests.support.oracle import Key, Message
from tests.support.strategies import BASE_MS, Config, to_toml

DC, MIRROR = "golden", "mirror"
HOUR_MS = 60 * MINUTE_MS


class Place(NamedTuple):
    """A log as a file, its configuration, and a store with the totals of it."""

    url: str
    config: Config
    log: list[Message]
    totals: dict[Key, float]
    folder: Path

    def write(self, totals: Mapping[Key, float]) -> None:
        """Writes points, over those that are there."""
        reading.write(self.url, ((name, at_ms, dict(tags), value) for (name, at_ms, tags), value in totals.items()))

    def verify(self, *arguments: str) -> Result:
        """Runs the command."""
        config = ["--config", str(self.folder / "monitor.toml"), "--url", self.url]
        return CliRunner().invoke(app, ["verify", *config, *arguments])

    def verdict(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Its exit status, and what it says as JSON."""
        result = self.verify("--json", *arguments)
        return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """The golden case whose timestamps are the producer's: so the log is the same at any time."""
    config = LONG_DAY.config
    log: list[Message] = []
    for chunk in chunks(LONG_DAY):
        for _, (partition, key, value, timestamp_ms) in chunk:
            assert timestamp_ms is not None
            assert not isinstance(key, str)
            assert isinstance(value, bytes)
            offset = sum(message.partition == partition for message in log)
            log.append(Message(partition, offset, timestamp_ms, key, value))
    log.sort(key=lambda message: message[:2])
    (tmp_path / "monitor.toml").write_text(to_toml(config))
    recorded.write(tmp_path / "log.ndjson", (Record(*message) for message in log))
    with devstore.running(tmp_path / "store.sqlite3") as url:
        place = Place(url, config, log, expected(oracle.answer(config, log), DC), tmp_path)
        place.write(place.totals)
        yield place


def test_an_undamaged_store_is_equal(place: Place) -> None:
    """Status 0 and the number of points; a total of 0 in the store is no difference."""
    key = next(iter(place.totals))
    place.write({(key[0], key[1] + 10_000 * MINUTE_MS, key[2]): 0})
    result = place.verify("--log", str(place.folder / "log.ndjson"))
    assert result.exit_code == 0, result.output
    assert f"equal: {len(place.totals):,} points compared" in result.output


def _changed(key: Key, value: int) -> dict[Key, float]:
    return {key: value + 1}


def _missing(key: Key, _: int) -> dict[Key, float]:
    return {key: 0}


def _added_long_before(key: Key, _: int) -> dict[Key, float]:
    return {(key[0], key[1] - 500_000 * MINUTE_MS, key[2]): 3}


def _added_series(key: Key, _: int) -> dict[Key, float]:
    return {("day.visit.fm.nobody.beta", key[1], key[2]): 3}


def _added_tag(key: Key, _: int) -> dict[Key, float]:
    return {(key[0], key[1], (*key[2], ("weather", "rain"))): 3}


@pytest.mark.parametrize("damage", [_changed, _missing, _added_long_before, _added_series, _added_tag])
def test_a_damaged_point_is_named(place: Place, damage: Callable[[Key, float], dict[Key, float]]) -> None:
    """Status 1, and exactly this one with its metric, minute, tags and values, and the visits behind it."""
    key, value = next((key, value) for key, value in place.totals.items() if key[0].endswith(".fc_on.beta"))
    damaged = damage(key, value)
    place.write(damaged)
    ((name, minute_ms, tags),) = damaged
    status, verdict = place.verdict("--log", str(place.folder / "log.ndjson"))
    assert status == 1
    assert verdict["differing"] == 1
    (found,) = verdict["differences"]
    assert (found["metric"], found["minute_ms"]) == (name, minute_ms)
    assert found["tags"].items() <= dict(tags).items()
    assert found["stored"] != found["wanted"]
    assert bool(found["visits"]) == (found["wanted"] is not None)
    result = place.verify("--log", str(place.folder / "log.ndjson"))
    assert result.exit_code == 1
    assert f"DIFFERENT: 1 of {verdict['compared']:,} points" in result.output


def test_a_damaged_point_of_a_sixteenth_is_named(place: Place) -> None:
    """Status 1, with the sixteenth in the place of the variation, the experiment alone as tag, and the visits."""
    key, value = next((key, value) for key, value in place.totals.items() if ".aa-" in key[0])
    place.write({key: value + 1})
    status, verdict = place.verdict("--log", str(place.folder / "log.ndjson"))
    assert (status, verdict["differing"], verdict["aa_left_out"]) == (1, 1, 0)
    (found,) = verdict["differences"]
    assert (found["metric"], found["tags"]) == (key[0], {"experiment": "fast_checkout"})
    assert found["visits"]


def test_live_aa_is_compared_when_all_visits_are_counted(place: Place) -> None:
    """Switched on under running visits: from a gap and the lateness after its first minute; damage is seen from then.

    Switched off: not at all.
    """
    totals = expected(oracle.answer(place.config, place.log), MIRROR)
    by_sixteenth = {key: value for key, value in totals.items() if ".aa-" in key[0]}
    minutes = sorted({at_ms for name, at_ms, _ in by_sixteenth if ".assigned.aa-" in name})
    began_ms = minutes[len(minutes) // 3]
    from_ms = began_ms + 1_000 * (place.config["time"]["session_gap_s"] + place.config["time"]["allowed_lateness_s"])
    place.write({key: value for key, value in totals.items() if key not in by_sixteenth or key[1] >= from_ms})
    place.write({key: 7 for key in by_sixteenth if began_ms <= key[1] < from_ms})
    before = sum(at_ms < from_ms for _, at_ms, _ in by_sixteenth)
    arguments = "--log", str(place.folder / "log.ndjson"), "--dc", MIRROR
    status, verdict = place.verdict(*arguments)
    assert (status, verdict["aa_left_out"], verdict["compared"]) == (0, before, len(totals) - before)
    assert f"{before:,} totals of live A/A left out" in place.verify(*arguments).output
    place.write({key: value + 1 for key, value in by_sixteenth.items() if key[1] >= from_ms})
    assert place.verdict(*arguments)[1]["differing"] == len(by_sixteenth) - before > 0
    off = place.config | {"tenants": {name: {**t, "aa": False} for name, t in place.config["tenants"].items()}}
    (place.folder / "monitor.toml").write_text(to_toml(off))
    status, verdict = place.verdict(*arguments)
    assert (status, verdict["compared"]) == (0, len(totals) - len(by_sixteenth))


def test_the_messages_are_counted_as_the_oracle_does(place: Place) -> None:
    """Accepted and rejected, by tenant and reason, beside what the job has counted: nothing, here."""
    answer = oracle.answer(place.config, place.log)
    _, verdict = place.verdict("--log", str(place.folder / "log.ndjson"))
    found = {(count["tenant"], count["reason"]): (count["wanted"], count["stored"]) for count in verdict["counts"]}
    wanted = {(tenant, None): n for tenant, n in answer.accepted.items()} | dict(answer.rejected.items())
    assert found == {key: (n, 0) for key, n in wanted.items()}


def test_a_range_leaves_the_rest_out(place: Place) -> None:
    """Damage outside of it is not seen, damage in it is."""
    key, value = next(iter(place.totals.items()))
    place.write({key: value + 1})
    log = "--log", str(place.folder / "log.ndjson")
    minute = _iso(key[1])
    assert place.verify(*log, "--from", minute, "--to", _iso(key[1] + MINUTE_MS)).exit_code == 1
    assert place.verify(*log, "--to", minute).exit_code == 0
    assert place.verify(*log, "--from", _iso(key[1] + MINUTE_MS)).exit_code == 0


def test_what_a_log_without_its_beginning_cannot_tell_is_left_out(place: Place) -> None:
    """What messages may have changed that retention has taken is neither called a difference nor passed as equal."""
    rest = [message for message in place.log if message.timestamp > BASE_MS + HOUR_MS]
    recorded.write(place.folder / "rest.ndjson", (Record(*message) for message in rest))
    status, verdict = place.verdict("--log", str(place.folder / "rest.ndjson"))
    assert verdict["differences"] == []
    assert status == 0
    assert verdict["unsure"] > 0
    assert 0 < verdict["compared"] < len(place.totals)
    assert verdict["counts"] == []


@pytest.mark.parametrize("wrong_ms", [BASE_MS * 1_000, BASE_MS // 1_000, -1, 2**63 - 1])
def test_a_wrong_clock_at_the_beginning_of_such_a_log_changes_nothing(place: Place, wrong_ms: int) -> None:
    """The first message of each partition is stamped wrong: as much is compared, but for what it brings along."""
    rest = [message for message in place.log if message.timestamp > BASE_MS + HOUR_MS]
    firsts = {message.partition: message for message in reversed(rest)}
    wrong = [firsts[number]._replace(timestamp=wrong_ms, value=b"{}") for number in firsts]
    recorded.write(place.folder / "rest.ndjson", (Record(*message) for message in rest))
    _, wanted = place.verdict("--log", str(place.folder / "rest.ndjson"))
    recorded.write(place.folder / "wrong.ndjson", (Record(*message) for message in [*wrong, *rest]))
    status, verdict = place.verdict("--log", str(place.folder / "wrong.ndjson"))
    assert (status, verdict["differences"]) == (0, [])
    assert verdict["compared"] > wanted["compared"] / 2


def test_many_points_are_read_in_parts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the parts, the comparison is the same."""
    monkeypatch.setattr(stored, "POINTS_PER_REQUEST", 40)
    result = place.verify("--log", str(place.folder / "log.ndjson"))
    assert f"equal: {len(place.totals):,} points compared" in result.output


def test_mirrors_are_compared(place: Place) -> None:
    """Equal but for dc; or the minutes that differ, and who holds more."""
    other = expected(oracle.answer(place.config, place.log), MIRROR)
    place.write(other)
    whole = "--against", MIRROR, "--from", "2000-01-01", "--to", "2090-01-01"
    result = place.verify(*whole)
    assert result.exit_code == 0
    assert f"equal: {len(other):,} points compared" in result.output
    minute_ms = max(at for _, at, _ in other)
    gone = {key: 0 for key in other if key[1] == minute_ms}
    place.write(gone)
    status, found = place.verdict(*whole)
    assert status == 1
    assert [(m["minute_ms"], m["totals"], m["totals_against"]) for m in found["minutes"]] == [(minute_ms, len(gone), 0)]
    assert f"{DC} is more complete" in place.verify(*whole).output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--log", "no-such-file"], "no-such-file"),
        (["--from", "tomorrow"], "--from must be a time"),
        (["--against", MIRROR], "no monitor.watermark_s of dc golden"),
        (["--log", "LOG", "--url", "http://127.0.0.1:9"], "127.0.0.1"),
        (["--log", "EMPTY"], "there are no messages"),
    ],
)
def test_what_cannot_be_compared_says_why(place: Place, arguments: list[str], words: str) -> None:
    """Status 2 and one message."""
    (place.folder / "EMPTY").write_text("")
    named = {"LOG": str(place.folder / "log.ndjson"), "EMPTY": str(place.folder / "EMPTY")}
    result = place.verify(*[named.get(argument, argument) for argument in arguments])
    assert result.exit_code == 2
    assert words in result.stderr
    assert not result.stdout


def test_the_streaming_core_agrees(place: Place) -> None:
    """What the job's own core makes of the log is what was compared."""
    core = Core(place.config, [str(number) for number in range(4)])
    core.feed(place.log)
    assert core.answer() == {key: n for key, n in place.totals.items() if n}


def test_a_run_is_verified_while_it_goes_on(place: Place) -> None:
    """`--run` names its configuration, store and messages; only final minutes are compared, as later ones change."""
    messages = place.folder / MESSAGES_FOLDER
    messages.mkdir()
    recorded.write(messages / "0.ndjson.gz", (Record(*message) for message in place.log))
    write_run_file(place.folder, RunFile(str(place.folder / "monitor.toml"), place.url, "http://127.0.0.1:1"))
    too_early = CliRunner().invoke(app, ["verify", "--run", str(place.folder)])
    assert (too_early.exit_code, too_early.stdout) == (2, "")
    assert f"no minute of the run in {place.folder} is final yet" in too_early.stderr
    minutes = sorted({minute_ms for _, minute_ms, _ in place.totals})
    final_ms = minutes[len(minutes) // 2]
    reading.write(place.url, [("monitor.watermark_s", final_ms, {"dc": DC}, final_ms // 1_000)])
    place.write({key: 10**6 for key in place.totals if key[1] >= final_ms})
    result = CliRunner().invoke(app, ["verify", "--run", str(place.folder), "--json"])
    verdict = json.loads(result.stdout)
    assert (result.exit_code, verdict["end_ms"]) == (0, final_ms)
    assert verdict["compared"] == sum(key[1] < final_ms for key in place.totals)


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat()
