"""Seeded, realistic traffic with lateness, repeats, bots, malformed messages and incidents, and its true totals.

`Traffic(seed, start_ms, rate).second(k)` gives the messages of one second, reproducibly and from any second on;
`parse_incident` reads the text form of an incident, `switch` turns one on in running traffic; `truth` gives the totals
that any messages must add up to.
"""

from monitor.simulate.incident_switches import Switchboard, switch
from monitor.simulate.incidents import KINDS, Incident, IncidentError, parse_incident
from monitor.simulate.traffic import DEFAULT_RATE, RATE_MAX, SimulatedMessage, Traffic
from monitor.simulate.true_totals import Truth, TruthError, truth

__all__ = [
    "DEFAULT_RATE",
    "KINDS",
    "RATE_MAX",
    "Incident",
    "IncidentError",
    "SimulatedMessage",
    "Switchboard",
    "Traffic",
    "Truth",
    "TruthError",
    "parse_incident",
    "switch",
    "truth",
]
