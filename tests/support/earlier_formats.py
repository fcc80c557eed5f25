"""What a log comes to whose beginning an earlier version of the monitor has read: its events are not tardy."""

from collections import Counter
from collections.abc import Sequence

from tests.support import oracle
from tests.support.oracle import Key, Message
from tests.support.strategies import Config


def totals_after(config: Config, log: Sequence[Message], read: Sequence[Message]) -> dict[Key, int | float]:
    """The totals of a log of which the earlier version has read these messages: the first of each partition."""
    early = {event[:4] for visit in oracle.answer(config, read).visits for event in visit.events}
    totals: Counter[Key] = Counter()
    for visit in oracle.answer(config, log).visits:
        events = [event._replace(delay=0) if event[:4] in early else event for event in visit.events]
        totals.update(oracle.contributions(config, visit.tenant, events))
    return {key: oracle.as_stored(key[0], total) for key, total in totals.items() if total}
