"""What `make calibrate` measures with: simulated weeks, and the figures that are made of them."""

import math
from io import StringIO
from statistics import mean

import pytest
from rich.console import Console

from bench import calibrate, healthy_week, looks
from bench.weeks import DAY_MINUTES, HEALTHY, INCIDENTS, Incident, expected_visits, week


def test_a_week_is_a_function_of_its_number_and_incident() -> None:
    """Whatever machine or process simulates it."""
    assert week(3, days=1) == week(3, days=1)
    assert week(3, days=1) != week(4, days=1)
    assert week(3, INCIDENTS[2], days=1) != week(3, days=1)


def test_a_healthy_week_has_the_traffic_that_it_says() -> None:
    """Twenty visits a minute, few in the night, equal variations, one conversion in twenty, one crossing in fifty."""
    minutes = week(0)
    visits = [sum(minute.visits) for minute in minutes]
    assert mean(visits) == pytest.approx(20, rel=0.02)
    assert mean(visits[180::DAY_MINUTES]) < 10 < 30 < mean(visits[900::DAY_MINUTES])
    assert expected_visits(180) == pytest.approx(4)
    assert expected_visits(900) == pytest.approx(36)
    shares = [sum(minute.visits[i] for minute in minutes) / sum(visits) for i in (0, 1)]
    assert shares == pytest.approx([0.5, 0.5], abs=0.01)
    assert sum(sum(minute.conversions) for minute in minutes) / sum(visits) == pytest.approx(0.05, abs=0.005)
    assert sum(minute.crossed for minute in minutes) / sum(visits) == pytest.approx(0.02, abs=0.003)


def test_an_incident_begins_at_its_minute() -> None:
    """Before it both variations are alike; after it the one converts half as often, on equally many visits."""
    incident = Incident("late", DAY_MINUTES, conversion=0.025)
    minutes = week(1, incident, days=4)
    rates = [
        sum(minute.conversions[i] for minute in part) / sum(minute.visits[i] for minute in part)
        for part in (minutes[:DAY_MINUTES], minutes[DAY_MINUTES:])
        for i in (0, 1)
    ]
    assert rates == pytest.approx([0.05, 0.05, 0.05, 0.025], abs=0.006)


def test_a_gross_incident_is_found_within_the_hour() -> None:
    """And sooner by the plan of restarts than over the phase, where days of health came before it."""
    late = looks.found_after(0, Incident("gross", 3 * DAY_MINUTES + 600, share=0.7))
    assert 0 < late[looks.SPLIT_BY_PLAN] <= 60 < late[looks.SPLIT]


def test_what_is_not_found_is_infinitely_late() -> None:
    """A healthy experiment has no incident to find."""
    none = Incident("none", looks.SEARCHED_DAYS * DAY_MINUTES - 60, HEALTHY.share, HEALTHY.conversion)
    assert set(looks.found_after(0, none).values()) == {math.inf}


def test_a_level_may_be_exceeded_by_two_standard_errors() -> None:
    """8 of 100 weeks at 0.05 are within them, since 0.08 - 2 * 0.027 < 0.05; 11 are not."""

    def weeks(alarms: int) -> list[dict[str, float]]:
        quiet = dict.fromkeys(looks.VERDICTS, 0.0)
        return [quiet | {looks.SPLIT: math.log(21) if number < alarms else 0.0} for number in range(100)]

    assert calibrate.share(weeks(8), looks.SPLIT, 0.05) == pytest.approx((0.08, 0.02713), abs=1e-4)
    assert calibrate.exceeded(weeks(8)) == []
    assert calibrate.exceeded(weeks(12)) == [
        "split, whole phase: 12.00 % ± 3.25 of the healthy weeks have an alarm at 0.05"
    ]


def test_the_tables_show_each_test_with_its_errors() -> None:
    """Shares of weeks by level, and the median of the minutes until an incident was found."""
    console = Console(width=calibrate.TABLE_COLUMNS, record=True, file=StringIO())
    weeks = [dict.fromkeys(looks.VERDICTS, math.log(evidence)) for evidence in (1, 30, 30, 2_000)]
    console.print(calibrate.false_alarms(weeks, looks.VERDICTS, "Healthy weeks with an alarm"))
    late = [{looks.SPLIT: minutes} for minutes in (100.0, 200.0, 300.0, math.inf)]
    console.print(calibrate.times("an incident", late))
    rows = {cells[0]: cells[1:] for line in console.export_text().splitlines() if (cells := _cells(line))}
    assert rows[looks.RATES] == ["75.00 % ± 21.65", "25.00 % ± 21.65", "25.00 % ± 21.65", "25.00 % ± 21.65"]
    assert rows[looks.SPLIT][:2] == ["75 %", "250 ± 100"]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")] if "│" in line else []


def test_a_median_has_the_error_of_its_rank() -> None:
    """Of the numbers 1 to 99 the ranks one standard deviation away are 5 apart."""
    assert calibrate.median(list(range(99, 0, -1))) == (50.0, 5.0)
    assert calibrate.median([4.0]) == (4.0, 0.0)
    assert calibrate.median([1.0, 2.0, math.inf])[0] == 2.0


def test_the_picture_shows_what_it_says() -> None:
    """A healthy week in which the test for one look alarms, on more than one day, and the monitor says nothing."""
    chi_squared, monitor = healthy_week.looks_of(healthy_week.WEEK)
    alarms = {minute // DAY_MINUTES for minute, p in chi_squared if p < looks.LEVEL}
    assert len(alarms) > 1
    assert max(e for _, e in monitor) < healthy_week.NOTE
    assert healthy_week.NOTE < healthy_week.HOLD
