"""The alarms of the past as a table. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from monitor.page import address, judgements
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.alarm_history import PastAlarm

ALARMS_SHOWN = 20
"""The newest alarms of a list; the others are counted."""


def table(alarms: Sequence[tuple[str, PastAlarm]], since: datetime | None, with_names: bool) -> Html:
    """Alarms, each with its tenant, the newest first; `since`: how far back they were looked for; with experiments?"""
    if since is None:
        return joined()
    title = element("h2", "History of alarms")
    begun = joined("since ", moment(since, "day"))
    if not alarms:
        return joined(title, element("p", "No check has noted, warned, held or stopped ", begun, ".", class_="note"))
    columns = (*(("Experiment",) if with_names else ()), "Check", "Worst", "From", "Until")
    more = len(alarms) - ALARMS_SHOWN
    rest = f" The newest {ALARMS_SHOWN}; {more} more are older." if more > 0 else ""
    note = element("p", "By the evidence that the watcher stored ", begun, f", to ten minutes.{rest}", class_="note")
    return joined(
        title,
        note,
        element(
            "table",
            element("caption", "Alarms", class_="unseen"),
            element("thead", element("tr", *(element("th", column, scope="col") for column in columns))),
            element("tbody", [_row(tenant, alarm, with_names) for tenant, alarm in alarms[:ALARMS_SHOWN]]),
            class_="cards alarms",
        ),
    )


def _row(tenant: str, alarm: PastAlarm, with_names: bool) -> Html:
    check = judgements.name(alarm.check)
    until = "goes on" if alarm.end_ms is None else moment(_at(alarm.end_ms), "day")
    link = element("a", alarm.experiment, href=address.of_experiment(tenant, alarm.experiment))
    first = joined(link, element("small", tenant)) if with_names else check.capitalize()
    return element(
        "tr",
        element("th", first, scope="row"),
        element("td", check, data_label="Check") if with_names else None,
        element("td", judgements.label(alarm.state), data_label="Worst"),
        element("td", moment(_at(alarm.start_ms), "day"), data_label="From"),
        element("td", until, data_label="Until"),
    )


def _at(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1_000, UTC)


def newest(alarms: Sequence[tuple[str, PastAlarm]]) -> list[tuple[str, PastAlarm]]:
    """The newest first; those that go on before all."""
    return sorted(alarms, key=lambda pair: (pair[1].end_ms is None, pair[1].start_ms), reverse=True)
