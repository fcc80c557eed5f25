"""Each alert rule fires when it must and not before, as Prometheus itself evaluates it: where promtool is there."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml  # type: ignore[import-untyped]

from tests.project.test_alert_rules import RULES, rules

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not there")

HEALTHY = {
    'up{job="ab-monitor-serve",instance="a"}': 1,
    "monitor_status": 0,
    "monitor_store_up": 1,
    'monitor_dc_state{dc="dal",state="healthy"}': 1,
    'monitor_dc_state{dc="dal",state="stale"}': 0,
    'monitor_dc_state{dc="dal",state="missing"}': 0,
    'monitor_watermark_age_s{dc="dal"}': 640,
    'monitor_figure{dc="dal",figure="lag"}': 10,
    'monitor_figure_normal{figure="watermark delay"}': 700,
    'monitor_figure_normal{figure="lag"}': 100_000,
    'monitor_figure_normal{figure="rejects"}': 0.02,
    'monitor_dead_letters_1h{dc="dal"}': 0,
    'monitor_messages{dc="dal",tenant="t"}': 1_000,
    'monitor_messages{dc="dal",tenant="unknown"}': 19,
    'monitor_rejected{dc="dal",tenant="t",reason="late"}': 19,
    'monitor_rejected{dc="dal",tenant="t",reason="duplicate"}': 600,
    'monitor_rejected{dc="dal",tenant="unknown",reason="not_json"}': 19,
    'monitor_watch_success_age_s{dc="dal"}': 9,
    'monitor_watch_judged_age_s{dc="dal"}': 710,
    'monitor_outbox_up{dc="dal"}': 1,
    'monitor_alert_oldest_waiting_s{dc="dal",target="team"}': 0,
    'monitor_alert_deliveries_total{dc="dal",target="team",outcome="given_up"}': 0,
    'monitor_verdict_state{dc="dal",tenant="t",experiment="e",check="crossed"}': 1,
    'monitor_verdict_state{dc="cdc",tenant="t",experiment="e",check="crossed"}': 1,
}
"""Series and their values while all is well: just within the limits."""
VERDICT = 'monitor_verdict_state{dc="dal",tenant="t",experiment="e",check="crossed"}'
OF_VERDICT = {"tenant": "t", "experiment": "e", "check": "crossed"}


class Case(NamedTuple):
    """What changes, to a value or to none (the series is gone), and the labels of the alert."""

    changed: dict[str, float | None]
    labels: dict[str, str]


DAL, TEAM = {"dc": "dal"}, {"dc": "dal", "target": "team"}
CASES = {
    "MonitorJobDown": Case({'monitor_dc_state{dc="dal",state="stale"}': 1}, {**DAL, "state": "stale"}),
    "MonitorWatermarkBehind": Case({'monitor_watermark_age_s{dc="dal"}': 701}, DAL),
    "MonitorReadsBehind": Case({'monitor_figure{dc="dal",figure="lag"}': 100_001}, DAL),
    "MonitorDeadLetters": Case({'monitor_dead_letters_1h{dc="dal"}': 1}, DAL),
    "MonitorRejects": Case(
        {'monitor_rejected{dc="dal",tenant="t",reason="late"}': 21}, {**DAL, "tenant": "t", "reason": "late"}
    ),
    "MonitorStrangers": Case({'monitor_rejected{dc="dal",tenant="unknown",reason="not_json"}': 30}, DAL),
    "MonitorTargetDown": Case(
        {'up{job="ab-monitor-serve",instance="a"}': 0}, {"job": "ab-monitor-serve", "instance": "a"}
    ),
    "MonitorServiceSilent": Case({"monitor_status": None}, {}),
    "MonitorStoreDown": Case({"monitor_store_up": 0}, {}),
    "MonitorWatchSilent": Case({'monitor_watch_success_age_s{dc="dal"}': 181}, DAL),
    "MonitorWatchBehind": Case({'monitor_watch_judged_age_s{dc="dal"}': 941}, DAL),
    "MonitorAlertsWaiting": Case({'monitor_alert_oldest_waiting_s{dc="dal",target="team"}': 601}, TEAM),
    "MonitorAlertsGivenUp": Case(
        {'monitor_alert_deliveries_total{dc="dal",target="team",outcome="given_up"}': 1}, TEAM
    ),
    "MonitorOutboxDown": Case({'monitor_outbox_up{dc="dal"}': 0}, DAL),
    "MonitorVerdictHold": Case({VERDICT: 4}, OF_VERDICT),
    "MonitorVerdictStop": Case({VERDICT: 5}, OF_VERDICT),
}
HEALTHY_MINUTES, MINUTES = 30, 60


def test_promtool_accepts_the_rules() -> None:
    """Expressions, durations and templates."""
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True, capture_output=True)


def test_each_rule_has_a_case() -> None:
    """In the order of the file."""
    assert [rule["alert"] for rule in rules()] == list(CASES)


@pytest.mark.parametrize("alert", CASES)
def test_a_rule_fires_when_it_must(alert: str, tmp_path: Path) -> None:
    """Not while all is well, and it alone after the change, once that has lasted as long as it has to."""
    case = CASES[alert]
    assert case.changed.keys() <= HEALTHY.keys()
    assert firing(tmp_path, case.changed, alert, case.labels) == ""


def test_a_guard_that_is_gone_is_told(tmp_path: Path) -> None:
    """No series of it at all."""
    assert firing(tmp_path, {'monitor_watch_success_age_s{dc="dal"}': None}, "MonitorWatchSilent", {}) == ""


def firing(folder: Path, changed: dict[str, float | None], alert: str, labels: dict[str, str]) -> str:
    """What promtool objects to: half an hour in health is played, in which nothing fires, then the change."""
    series = []
    for name, healthy in HEALTHY.items():
        after = changed.get(name, healthy)
        later = f"_x{MINUTES}" if after is None else f"{after}x{MINUTES}"
        series.append({"series": name, "values": f"{healthy}x{HEALTHY_MINUTES} {later}"})
    severity = next(rule["labels"]["severity"] for rule in rules() if rule["alert"] == alert)
    all_labels = {"alertname": alert, "alertstate": "firing", "severity": severity, **labels}
    pairs = ",".join(f'{name}="{text}"' for name, text in all_labels.items())
    fired = f"ALERTS{{{pairs}}}"
    expected = {HEALTHY_MINUTES: [], HEALTHY_MINUTES + MINUTES // 2: [{"labels": fired, "value": 1}]}
    tests = [
        {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{minute}m", "exp_samples": samples}
        for minute, samples in expected.items()
    ]
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}],
    }
    file = folder / "test.yml"
    file.write_text(yaml.safe_dump(document))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr
