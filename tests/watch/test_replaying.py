"""A change of a verdict is computed again: from its bundle, and from the store."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from monitor import devstore
from monitor.serve.past_phases import Provenance
from monitor.serve.spans import iso
from monitor.serve.verdicts import judged_of_tenant
from monitor.verdicts.judge import State
from monitor.watch.audit import Audit
from monitor.watch.bundles import CONSTANTS, BundleError, bundled, narrowed, read_bundle
from monitor.watch.plain import Marks, plain, typed
from monitor.watch.replaying import Outcome, ReplayError, replayed
from monitor.watch.watcher import Watcher
from tests.support import served
from tests.support.strategies import to_toml
from tests.support.verdict_case import CONFIG, broken_ms, config_with, fill, serving

HARM = "guardrail order on"
MINUTE_MS = 60_000
PRESENT_MS = time.time_ns() // 1_000_000
"""The command has no other clock."""
MINUTES = range(broken_ms(PRESENT_MS), PRESENT_MS, MINUTE_MS)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store that no test changes."""
    with devstore.running(tmp_path_factory.mktemp("replay") / "store.sqlite3") as url:
        fill(url, PRESENT_MS)
        yield url


@pytest.fixture(scope="module")
def trail(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a watcher that has looked once."""
    folder = tmp_path_factory.mktemp("trail")
    with closing(Audit(folder / "watch.sqlite3")) as audit, serving(url, now_ms=PRESENT_MS) as client:
        Watcher(client.service, "abc", audit, lambda _: None, lambda _: None).once()
    return folder


@pytest.fixture(scope="module")
def bundles(trail: Path) -> dict[str, str]:
    """Its bundles by check."""
    with closing(Audit(trail / "watch.sqlite3")) as audit:
        return {change.name: change.bundle for change in audit.changes()}


@pytest.fixture
def repaired(tmp_path: Path) -> Iterator[str]:
    """A store in which the orders were there all the time."""
    with devstore.running(tmp_path / "store.sqlite3") as url:
        fill(url, PRESENT_MS)
        tags = {"dc": "dal", "experiment": "checkout", "device": "mobile"}
        served.post(url, [("t.visit.fm.on.order.beta", at_ms, tags, 2) for at_ms in MINUTES])
        yield url


def test_all_is_the_same(url: str, bundles: dict[str, str]) -> None:
    """Of every check, by its own counts and by those of either data center."""
    assert len(bundles) >= 4
    with serving(url, now_ms=PRESENT_MS) as client:
        for text in bundles.values():
            bundle = read_bundle(text)
            found = replayed(bundle, client.service)
            assert (found.outcome, found.state) == (Outcome.SAME, bundle.check.state)
            assert found.ln_e == pytest.approx(bundle.check.ln_e, rel=1e-9)
            assert (found.differences, found.unread) == ((), "")
            assert replayed(bundle, client.service, "cdc") == found
            if bundle.check.note_from:
                assert replayed(bundle, None) == found._replace(unread="it was not asked")
            else:
                with pytest.raises(ReplayError, match="which only the store has"):
                    replayed(bundle, None)


def test_what_a_bundle_holds(bundles: dict[str, str]) -> None:
    """All that a verdict follows from, and where its counts are from."""
    bundle = json.loads(bundles[HARM])
    assert (bundle["check"]["state"], bundle["previous"]) == ("stop", "too_early")
    assert {name: bundle[name] for name in CONSTANTS} == CONSTANTS
    assert bundle["question"]["weights"] == [1.0, 1.0]
    assert bundle["thresholds"]["stop"] == 1_000
    assert bundle["watermarks"].keys() == {"dal", "cdc"}
    (part,) = bundle["served"]
    assert (part["dc"], part["to"]) == ("dal", bundle["phase"]["sealed_until"])
    whole = bundle["counts"]["conversions"]["order"]["whole"]
    assert whole["counts"] == list(bundle["check"]["counts"].values())
    moments = bundle["marks"][whole["before"]["marks"]]
    assert whole["before"]["values"][0][0] == 4 * (moments[0] - served_from(bundle)) // MINUTE_MS


def served_from(bundle: dict[str, Any]) -> int:
    return round(read_bundle(json.dumps(bundle)).phase.conversions_from.timestamp() * 1_000)


def test_the_store_has_other_counts(repaired: str, bundles: dict[str, str]) -> None:
    """Which, where and from when on; and what the check says of them."""
    with serving(repaired, now_ms=PRESENT_MS) as client:
        found = replayed(read_bundle(bundles[HARM]), client.service)
        assert replayed(read_bundle(bundles["crossed"]), client.service).outcome is Outcome.SAME
    assert (found.outcome, found.state) == (Outcome.OTHER_COUNTS, State.STOP)
    assert found.now_state is State.HEALTHY
    first, *others = found.differences
    assert (first.what, first.place, first.before) == ("conversions order", "", "")
    assert first.store[1] - first.bundle[1] == 2 * len([at for at in MINUTES if iso(at) < sealed(bundles)])
    since = iso(broken_ms(PRESENT_MS) + 10 * MINUTE_MS)
    on_mobile = "device=mobile"
    assert [(of.place, of.before) for of in others] == [("", since), (on_mobile, ""), (on_mobile, since)]


def sealed(bundles: dict[str, str]) -> str:
    """The end of the final minutes."""
    return str(json.loads(bundles[HARM])["phase"]["sealed_until"])


@pytest.mark.parametrize("change", ["state", "evidence"])
def test_another_verdict_of_the_same_counts_is_a_bug(url: str, bundles: dict[str, str], change: str) -> None:
    """Whatever the store has."""
    bundle = json.loads(bundles[HARM])
    if change == "state":
        bundle["check"]["state"] = "hold"
    else:
        bundle["check"]["ln_e"] *= 1 + 1e-8
    with serving(url, now_ms=PRESENT_MS) as client:
        assert replayed(read_bundle(json.dumps(bundle)), client.service).outcome is Outcome.BUG


def test_counts_that_the_store_no_longer_has(url: str, bundles: dict[str, str]) -> None:
    """Its own ones decide, and it is said."""
    with serving(url, now_ms=PRESENT_MS + 31 * 86_400_000) as client:
        found = replayed(read_bundle(bundles[HARM]), client.service)
    assert (found.outcome, found.unread) == (Outcome.SAME, "it no longer has the beginning of the phase")


def test_what_cannot_be_computed_again(url: str, bundles: dict[str, str]) -> None:
    """Other variations by now, an experiment that is gone: an error, no verdict."""
    bundle = read_bundle(bundles[HARM])
    with (
        serving(url, config_with(variations={"off": 1, "on": 1, "new": 1}), PRESENT_MS) as client,
        pytest.raises(ReplayError, match="other variations now: off, on, new"),
    ):
        replayed(bundle, client.service)
    with serving(url, now_ms=PRESENT_MS) as client, pytest.raises(ReplayError, match="'gone'"):
        replayed(bundle._replace(experiment="gone"), client.service)


def test_a_check_that_is_a_rule(url: str, repaired: str, bundles: dict[str, str]) -> None:
    """One that is no evidence from counts is compared with what it says of the store now."""
    bundle = json.loads(bundles[HARM])
    bundle["check"]["point"] = None  # as that of no check from counts
    rule, other = read_bundle(json.dumps(bundle)), json.loads(json.dumps(bundle))
    other["check"]["state"] = "warn"
    with serving(url, now_ms=PRESENT_MS) as client:
        assert replayed(rule, client.service).outcome is Outcome.SAME
        assert replayed(read_bundle(json.dumps(other)), client.service).outcome is Outcome.BUG
    with serving(repaired, now_ms=PRESENT_MS) as client:
        found = replayed(rule, client.service)
    assert (found.outcome, found.state, found.now_state) == (Outcome.OTHER_COUNTS, State.STOP, State.HEALTHY)
    with pytest.raises(ReplayError, match="only the store has"):
        replayed(rule, None)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"counts": {}}', "null", '{"bundle": {}}'])
def test_what_is_no_bundle(text: str) -> None:
    """An error that says so."""
    with pytest.raises(BundleError, match=r"no evidence bundle|no counts"):
        read_bundle(text)


def test_counts_come_back_as_they_were(url: str) -> None:
    """To the last digit, also without those that a check does not read: its verdict stays the same."""
    with serving(url, now_ms=PRESENT_MS) as client:
        (of_checkout, *_) = judged_of_tenant(client.service, "t")
    answer, inputs = of_checkout
    assert inputs is not None
    marks = Marks()
    for value in (inputs.question, inputs.counted):
        text = json.dumps(plain(value, marks))
        assert typed(type(value), json.loads(text), Marks(marks.lists)) == value
    assert len(marks.lists) == 1  # all series restart at the same moments
    for check in answer.checks:
        bundle = read_bundle(
            bundled(inputs, NOWHERE, check, tenant="t", experiment="e", phase=phase(answer), config_hash="x")
        )
        assert bundle.counts == narrowed(inputs.counted, check)
        again = bundle.judged(bundle.counts)
        assert (again is None) == (check.note_from == 0), "a rule is no evidence from counts"
        assert again is None or (again.state, again.ln_e) == (check.state, check.ln_e)


NOWHERE = Provenance([], {})


def phase(answer: Any) -> Any:
    return answer.phase.model_dump(mode="json")


def test_the_command(repaired: str, bundles: dict[str, str], trail: Path, tmp_path: Path) -> None:
    """From a file, standard input, a line of `monitor audit` and an id; the exit status says what came out."""
    config, file = tmp_path / "monitor.toml", tmp_path / "bundle.json"
    config.write_text(to_toml({**CONFIG, "kairosdb": {"url": repaired}}))
    file.write_text(bundles[HARM])
    identity, watched = json.loads(bundles[HARM])["id"], str(trail / "watch.sqlite3")
    ended = run("replay-verdict", str(file), "--own")
    assert (ended.returncode, ended.stdout.splitlines()[-1][:4]) == (0, "same")
    printed = run("audit", "--folder", str(trail), "--experiment", "checkout", "--from", "2026-11-24").stdout
    (line,) = [line for line in printed.splitlines() if identity in line]
    bug = json.loads(line)
    bug["bundle"]["check"]["ln_e"] = 1.0
    ended = run("replay-verdict", "-", "--own", text=json.dumps(bug))
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (2, "same counts, other verdict: a bug")
    ended = run("replay-verdict", identity, "--audit", watched, "--config", str(config))
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (1, "other counts")
    assert "device=mobile" in ended.stdout
    ended = run("replay-verdict", "gone", "--audit", watched)
    said = f"monitor: the audit trail {watched} has no change with the id gone"
    assert (ended.returncode, ended.stderr.strip()) == (2, said)


def test_the_audit_without_counts(trail: Path) -> None:
    """And of a range."""
    brief = run("audit", "--folder", str(trail), "--brief", "--tenant", "t").stdout.splitlines()
    assert len(brief) >= 4
    assert {"counts" in json.loads(line)["bundle"] for line in brief} == {False}
    assert run("audit", "--folder", str(trail), "--to", "2026-11-24").stdout == ""
    assert run("audit", "--folder", str(trail), "--to", "soon").returncode == 2


def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitor", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MONITOR_")}
    return subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=False)
