"""The judge: what a log of messages comes to, computed the plain way.

Written from the contract alone and sharing no code with the monitor, so that an error in one is not an error in both.
It keeps everything, looks at all of it again for every message, and knows nothing of watermarks, snapshots or flushes.
The rule that a function follows is quoted in its docstring.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeGuard

from tests.support.oracle_highs import highs

MINUTE_MS = 60_000
TIMES_MS = range(10**11, 10**14)
SESSION_ID_CHARACTERS_MAX = 256
VALUE_MAX = 1_000_000_000_000
PARSED_DIGITS_MAX = 4_000
UNKNOWN = "unknown"
DEFAULTS: dict[str, dict[str, Any]] = {
    "kafka": {"key_is_session_id": True},
    "time": {"session_gap_s": 1800, "allowed_lateness_s": 600, "future_tolerance_s": 60, "tardy_s": 60},
    "limits": {
        "message_bytes": 1_048_576,
        "events_per_visit": 5_000,
        "crowded_events": 500,
        "placeholder_ids": [
            *("undefined", "null", "none", "nan", "nil", "anonymous", "unknown", "(not set)", "[object object]"),
            *("0", "-1", "00000000-0000-0000-0000-000000000000"),
        ],
    },
}
TEXTS_MAX = 3
JSON_TYPE = {bool: "boolean", int: "number", float: "number", str: "string"}

Config = Mapping[str, Any]
Tags = tuple[tuple[str, str], ...]
Key = tuple[str, int, Tags]


class Message(NamedTuple):
    """A message of the log; `timestamp` is Kafka's own, in milliseconds."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes


class Event(NamedTuple):
    """A decoded event; attributes that count as absent are left out. `delay`: message timestamp less event time."""

    tenant: str
    session_id: str
    time: int
    event_id: str
    name: str
    assignments: dict[str, Any]
    attributes: dict[str, str | int | float | bool]
    delay: int = 0


class Visit(NamedTuple):
    """The accepted events of one visit, in order."""

    tenant: str
    session_id: str
    events: tuple[Event, ...]


class Verdict(NamedTuple):
    """What becomes of one message: accepted if `reason` is None. `event` is there if the message holds a valid one."""

    tenant: str
    reason: str | None
    event: Event | None


class Answer(NamedTuple):
    """What a log comes to. `totals` hold contributions only, without those that are 0."""

    totals: dict[Key, int | float]
    accepted: Counter[str]
    rejected: Counter[tuple[str, str]]
    warnings: Counter[tuple[str, str]]
    visits: list[Visit]


def answer(config: Config, log: Sequence[Message], create_time: bool = False) -> Answer:
    """The answer for a log in order of arrival; only the order within each session matters.

    With `create_time` the producers set the timestamps, and the order within each partition matters too.
    """
    held: defaultdict[tuple[str, str], list[Event]] = defaultdict(list)
    gap_ms = setting(config, "time", "session_gap_s") * 1000
    crowded: set[int] = set()
    accepted, rejected, warnings = Counter[str](), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    before = highs((message.partition, message.timestamp) for message in log) if create_time else [None] * len(log)
    for message, high in zip(log, before, strict=True):
        verdict = classify(config, message, held, high)
        event = verdict.event
        if event is not None and verdict.tenant in config["tenants"] and is_key_mismatch(config, message, event):
            warnings[verdict.tenant, "key_mismatch"] += 1
        if verdict.reason is not None:
            rejected[verdict.tenant, verdict.reason] += 1
        elif event is not None:
            of_session = held[event.tenant, event.session_id]
            of_session.append(event)
            accepted[event.tenant] += 1
            run = next(run for run in runs(of_session, gap_ms) if event in run)
            if is_crowded(config, run) and not crowded & {id(other) for other in run}:
                warnings[event.tenant, "crowded_visit"] += 1
            if is_crowded(config, run):
                crowded |= {id(other) for other in run}
            warnings.update((event.tenant, note) for note in notes(config, event))
    visits = [Visit(*session, tuple(run)) for session, events in held.items() for run in runs(events, gap_ms)]
    totals: Counter[Key] = Counter()
    for visit in visits:
        totals.update(contributions(config, visit.tenant, visit.events))
    stored = {key: as_stored(key[0], total) for key, total in totals.items() if total != 0}
    return Answer(stored, accepted, rejected, warnings, visits)


def as_stored(name: str, total: int) -> int | float:
    """ "`.sumsq` becomes a point of type `double` (computed exactly, rounded once when written)" """
    return float(total) if name.endswith(".sumsq") else total


def is_crowded(config: Config, visit: Sequence[Event]) -> bool:
    """ "beyond `limits.crowded_events` events, or more than 3 different texts for an experiment, unknown ones included"

    An alias is the text of its variation.
    """
    if len(visit) > setting(config, "limits", "crowded_events"):
        return True
    experiments = config["tenants"][visit[0].tenant]["experiments"]
    texts = {name: {said(name, table, event) for event in visit} - {None} for name, table in experiments.items()}
    return any(len(of_experiment) > TEXTS_MAX for of_experiment in texts.values())


def classify(
    config: Config, message: Message, held: Mapping[tuple[str, str], Sequence[Event]], high: int | None = None
) -> Verdict:
    """Whether a message is accepted, given the events accepted before it by (tenant, sessionId).

    "`oversized` (value above `limits.message_bytes`) · `not_json` (or not an object, or not UTF-8) · `bad_field` ·
    `unknown_tenant` · `placeholder_id` · `future` · `late` · `duplicate` · `visit_full`. Checked in that order", "by
    tenant where known".
    """
    if len(message.value) > setting(config, "limits", "message_bytes"):
        return Verdict(UNKNOWN, "oversized", None)
    fields = decode(message.value)
    if fields is None:
        return Verdict(UNKNOWN, "not_json", None)
    tenant = fields.get("tenant")
    tenant_known = isinstance(tenant, str) and tenant in config["tenants"]
    event = read_event(fields, message.value)
    if event is None:
        return Verdict(str(tenant) if tenant_known else UNKNOWN, "bad_field", None)
    event = event._replace(delay=message.timestamp - event.time)
    if not tenant_known:
        return Verdict(UNKNOWN, "unknown_tenant", event)
    if event.session_id.strip().casefold() in [
        text.strip().casefold() for text in setting(config, "limits", "placeholder_ids")
    ]:
        return Verdict(event.tenant, "placeholder_id", event)
    visit = visit_joined(config, event, held.get((event.tenant, event.session_id), ()))
    return Verdict(event.tenant, reason_to_reject(config, message, event, visit, high), event)


def reason_to_reject(
    config: Config, message: Message, event: Event, visit: Sequence[Event], high: int | None
) -> str | None:
    """The slug under which a valid event of a known tenant is rejected, or None.

    "`future`: `time > message timestamp + future_tolerance_s`. `late`: `message timestamp - time >
    allowed_lateness_s`, or that of `high` of its partition" (which covers being behind the watermark). "`duplicate`:
    the visit already holds an accepted event with this `eventId`. `visit_full`: the visit already holds
    `limits.events_per_visit` accepted events."
    """
    if event.time > message.timestamp + setting(config, "time", "future_tolerance_s") * 1000:
        return "future"
    come = message.timestamp if high is None else max(message.timestamp, high)
    if come - event.time > setting(config, "time", "allowed_lateness_s") * 1000:
        return "late"
    if any(other.event_id == event.event_id for other in visit):
        return "duplicate"
    return "visit_full" if len(visit) >= setting(config, "limits", "events_per_visit") else None


def decode(value: bytes) -> dict[str, Any] | None:
    """The JSON object (RFC 8259; of equal names the last counts) of a message, None for `not_json`."""
    try:
        found = json.loads(value.decode("utf-8"), parse_int=read_integer, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_integer(digits: str) -> int | float:
    """An integer literal; one too long for any use is infinite, since Python refuses to convert it."""
    return int(digits) if len(digits) <= PARSED_DIGITS_MAX else float(digits)


def refuse(literal: str) -> NoReturn:
    """Refuse the literals that Python's parser knows and JSON does not."""
    raise ValueError(literal)


def read_event(fields: Mapping[str, Any], value: bytes) -> Event | None:
    """The event a JSON object holds, None for "`bad_field` (required field missing, wrong type or out of range)".

    "tenant, event: string. sessionId: string, 1 to 256 characters. time: integer from 10^11 to 10^14 - 1. eventId:
    string or null; absent, null or empty: `"~"` + hex of the 8-byte BLAKE2b digest of the message value. assignments:
    object or null. attributes: object or null; a value of another type [than string, number, boolean]
    counts as absent."
    """
    tenant, session_id, name = fields.get("tenant"), fields.get("sessionId"), fields.get("event")
    time, event_id = fields.get("time"), fields.get("eventId")
    assignments = {} if fields.get("assignments") is None else fields["assignments"]
    attributes = {} if fields.get("attributes") is None else fields["attributes"]
    if not (is_text(tenant) and is_text(session_id) and is_text(name) and (event_id is None or is_text(event_id))):
        return None
    if not 1 <= len(session_id) <= SESSION_ID_CHARACTERS_MAX or type(time) is not int or time not in TIMES_MS:
        return None
    if not (isinstance(attributes, dict) and isinstance(assignments, dict)):
        return None
    event_id = event_id or "~" + hashlib.blake2b(value, digest_size=8).hexdigest()
    present = {key: item for key, item in attributes.items() if type(item) in JSON_TYPE}
    return Event(tenant, session_id, time, event_id, name, assignments, present)


def is_text(found: object) -> TypeGuard[str]:
    """Whether a value is a string of characters; half of a surrogate pair is none."""
    return isinstance(found, str) and not any("\ud800" <= character <= "\udfff" for character in found)


def is_key_mismatch(config: Config, message: Message, event: Event) -> bool:
    """ "`key_mismatch` (the Kafka key is not the sessionId)"; asked only where the key has to be the sessionId."""
    wanted = event.session_id.encode() if setting(config, "kafka", "key_is_session_id") else message.key
    return message.key not in (None, wanted)


def notes(config: Config, event: Event) -> Iterator[str]:
    """What an accepted event is counted for, once for each assignment and each value point that it matches.

    "`bad_value` (a value point whose attribute is missing or not a finite number counts 0)".
    """
    tenant = config["tenants"][event.tenant]
    named = {name: table for of, table in tenant["experiments"].items() for name in (of, *table.get("names", ()))}
    for name, value in event.assignments.items():
        text = text_of(name, value)
        if value is None:
            continue
        if text is None:
            yield "bad_assignment"
        elif name not in named:
            yield "unknown_experiment"
        elif variation_of(named[name], text) is None:
            yield "unknown_variation"
    for point in tenant["points"].values():
        if "value" in point and matches(point, event) and value_of(point["value"], event) is None:
            yield "bad_value"


def runs(events: Iterable[Event], gap_ms: int) -> list[list[Event]]:
    """The visits: "a run of accepted events in which neighbours are at most `session_gap_s` apart in event time"."""
    found: list[list[Event]] = []
    for event in in_order(events):
        if found and event.time - found[-1][-1].time <= gap_ms:
            found[-1].append(event)
        else:
            found.append([event])
    return found


def visit_joined(config: Config, event: Event, held: Sequence[Event]) -> list[Event]:
    """The accepted events of the visit that an event would belong to; "a late event may join two visits into one"."""
    gap_ms = setting(config, "time", "session_gap_s") * 1000
    near = [run for run in runs(held, gap_ms) if any(abs(other.time - event.time) <= gap_ms for other in run)]
    return [other for run in near for other in run]


def in_order(events: Iterable[Event]) -> list[Event]:
    """ "Order of events within a visit: by (`time`, `eventId`), always." """
    return sorted(events, key=lambda event: (event.time, event.event_id))


def contributions(config: Config, tenant: str, events: Iterable[Event]) -> Counter[Key]:
    """What a visit, a set of events, contributes, each "to the event-time minute (floor) and the tags of the event".

    "`T.visit.SCOPE.aa-BB.beta` and `.P.beta` for every point, BB = crc32(sessionId in UTF-8) mod 16 in two digits,
    summed over variations, with the tags `dc` and `experiment` only".
    """
    visit = in_order(events)
    found: Counter[Key] = Counter()
    for experiment in config["tenants"][tenant]["experiments"]:
        for name, event, amount in attributed(
            config["tenants"][tenant], experiment, visit, setting(config, "time", "tardy_s") * 1000
        ):
            minute = event.time - event.time % MINUTE_MS
            found[f"{tenant}.visit.{name}", minute, tags_of(config, experiment, event)] += amount
            scope, _, *rest = name.split(".")
            if has_aa(config["tenants"][tenant], experiment) and scope in ("assigned", "fm") and rest[-1] == "beta":
                sixteenth = zlib.crc32(event.session_id.encode()) % 16
                counted = ".".join((tenant, "visit", scope, f"aa-{sixteenth:02}", *rest))
                found[counted, minute, (("dc", config["dc"]), ("experiment", experiment))] += amount
    return found


def has_aa(tenant: Config, experiment: str) -> bool:
    """ "only where `aa = true` (key of a tenant, an experiment's own overrides the tenant's; default false)" """
    return bool(tenant["experiments"][experiment].get("aa", tenant.get("aa", False)))


def attributed(
    tenant: Config, experiment: str, visit: Sequence[Event], tardy_ms: float = 60_000
) -> Iterator[tuple[str, Event, int]]:
    """What a visit contributes to one experiment, as (name after `T.visit.`, the event it is attributed to, amount).

    "`assigned_at`, variation: the first event that carries a known variation of the experiment. None: no contribution."
    "`qualified_at = max(assigned_at, rule_time)`, none if the rule is not met." "For scope `assigned` with since =
    `assigned_at`, and for scope `fm` with since = `qualified_at` if there is one."
    "`T.visit.crossed.V.beta` +1 at the first event that carries another known variation of the same experiment."
    "`T.visit.tardy.V.beta` +1 at the first event from the assignment on whose message timestamp is more than
    `time.tardy_s` after its event time."
    """
    definition = tenant["experiments"][experiment]
    carried = [(event, said(experiment, definition, event)) for event in visit]
    carriers = [(event, text) for event, text in carried if text in definition["variations"]]
    if not carriers:
        return
    assigned_at, variation = carriers[0][0].time, carriers[0][1]
    yield from in_scope(tenant, f"assigned.{variation}", visit, assigned_at)
    met_at = rule_time(definition["qualified_when"], tenant["points"], visit)
    if met_at is not None:
        yield from in_scope(tenant, f"fm.{variation}", visit, max(assigned_at, met_at))
    for event in [event for event, text in carriers if text != variation][:1]:
        yield f"crossed.{variation}.beta", event, 1
    for event in [event for event in visit if event.time >= assigned_at and event.delay > tardy_ms][:1]:
        yield f"tardy.{variation}.beta", event, 1


def said(experiment: str, definition: Config, event: Event) -> str | None:
    """The variation that an event carries for an experiment; else its first unknown text; None if it says nothing.

    "of several names of one experiment in an event, the configured one first and then `names` in their order, the first
    whose text is a known variation wins; null or unknown falls through to the next"
    """
    names = [experiment, *definition.get("names", ())]
    texts = [text_of(name, event.assignments[name]) for name in names if event.assignments.get(name) is not None]
    known = [variation_of(definition, text) for text in texts if text is not None]
    unknown = [f"unknown: {text}" for text in texts if text is not None]
    return next((variation for variation in known if variation is not None), unknown[0] if unknown else None)


def variation_of(definition: Config, text: str) -> str | None:
    """The variation that a text means: one of the experiment's, or an alias of one."""
    return text if text in definition["variations"] else definition.get("aliases", {}).get(text)


def text_of(name: str, value: Any) -> str | None:
    """ "A variation given as number or boolean is its text as for tags (`1`, also for `1.0`; `true`); an object, an
    array, half a surrogate pair or a number that is not finite makes that one assignment ignored"
    """
    if not is_text(name):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return str(int(value)) if value == int(value) else repr(value)
    return value if is_text(value) else None


def in_scope(tenant: Config, prefix: str, visit: Sequence[Event], since: int) -> Iterator[tuple[str, Event, int]]:
    """What a visit contributes to one scope.

    "`.beta` +1, once, at the first event with time >= since; for each point P and each event that counts for P and has
    time >= since: `.P` +1; the first of them also `.P.beta` +1; where P has a value: `.P.sum` +x, and `.P.sumsq`
    +((s+x)² - s²), s being the sum of this visit's earlier x in this scope."
    """
    yield f"{prefix}.beta", next(event for event in visit if event.time >= since), 1
    for name, point in tenant["points"].items():
        counting = [event for event in counted(point, visit) if event.time >= since]
        for event in counting[:1]:
            yield f"{prefix}.{name}.beta", event, 1
        s = 0
        for event in counting:
            yield f"{prefix}.{name}", event, 1
            if "value" in point:
                x = value_of(point["value"], event) or 0
                yield f"{prefix}.{name}.sum", event, x
                yield f"{prefix}.{name}.sumsq", event, (s + x) ** 2 - s**2
                s += x


def rule_time(rule: Config, points: Config, visit: Sequence[Event]) -> int | None:
    """When a visit meets a rule, None if it does not.

    "A predicate's is the time of the first event of the visit that meets it (`{point}` respects `nth`); `all` is the
    latest of its parts (none if one is none); `any` is the earliest."
    """
    if "all" in rule:
        times = [rule_time(part, points, visit) for part in rule["all"]]
        known = [time for time in times if time is not None]
        return max(known) if len(known) == len(times) else None
    if "any" in rule:
        times = [rule_time(part, points, visit) for part in rule["any"]]
        return min((time for time in times if time is not None), default=None)
    meeting = counted(points[rule["point"]] if "point" in rule else rule, visit)
    return meeting[0].time if meeting else None


def counted(point: Config, visit: Sequence[Event]) -> list[Event]:
    """The events that count for a point; "`nth` (counts only the n-th matching event of the visit)"."""
    matching = [event for event in visit if matches(point, event)]
    return matching[point["nth"] - 1 : point["nth"]] if "nth" in point else matching


def matches(predicate: Config, event: Event) -> bool:
    """ "`event` (a string or a list; absent: any) and `where` (attribute to condition, all must hold; absent: any)" """
    if "event" in predicate and event.name not in listed(predicate["event"]):
        return False
    return all(holds(condition, event.attributes.get(name)) for name, condition in predicate.get("where", {}).items())


def holds(condition: Any, value: Any) -> bool:
    """Whether an attribute, None if absent, meets a condition.

    "A condition is a value or a list of values (equal to one of them), or a table: `not` (present and none of these),
    `exists` (true or false), `min`, `max` (a number within, inclusive)."
    """
    if not isinstance(condition, Mapping):
        return any(equal(value, wanted) for wanted in listed(condition))
    present = value is not None
    if "not" in condition and not (
        present and not any(equal(value, unwanted) for unwanted in listed(condition["not"]))
    ):
        return False
    if "exists" in condition and present != condition["exists"]:
        return False
    within = condition.get("min", -math.inf), condition.get("max", math.inf)
    return not condition.keys() & {"min", "max"} or (is_number(value) and within[0] <= value <= within[1])


def equal(value: Any, wanted: Any) -> bool:
    """ "JSON types must agree, except that 1 equals 1.0." """
    return JSON_TYPE.get(type(value)) == JSON_TYPE.get(type(wanted)) and bool(value == wanted)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a JSON number; a boolean, an `int` to Python, is none."""
    return JSON_TYPE.get(type(value)) == "number"


def listed(one_or_more: Any) -> list[Any]:
    """A value or a list of values, as a list."""
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]


def value_of(value: Config, event: Event) -> int | None:
    """ "round(attribute * scale) to an integer, clipped to [-max, max]", clipped first: no infinity is rounded."""
    scale, bound = value.get("scale", 1), int(value.get("max", VALUE_MAX))
    attribute = event.attributes.get(value["attribute"])
    if not is_number(attribute) or attribute in (math.inf, -math.inf):
        return None
    try:
        product: float = attribute * scale
    except OverflowError:  # an integer beyond every float, times a float
        product = math.inf if (attribute > 0) == (scale > 0) else -math.inf
    return round(min(max(product, -bound), bound))


def tags_of(config: Config, experiment: str, event: Event) -> Tags:
    """ "Tags of a contribution: `dc`, `experiment`, and the tenant's tags, from the event's attribute." """
    found = {"dc": config["dc"], "experiment": experiment}
    for name, definition in config["tenants"][event.tenant].get("tags", {}).items():
        table = definition if isinstance(definition, Mapping) else {"attribute": name, "values": definition}
        found[name] = tag_value(event.attributes.get(table["attribute"]), table["values"])
    return tuple(sorted(found.items()))


def tag_value(value: str | int | float | bool | None, listed_values: Sequence[str]) -> str:
    """ "`true`/`false` for booleans, the shortest JSON text for numbers (`2`, `2.5`); characters outside
    `[A-Za-z0-9._/-]` become `_`; then: missing or null is `unknown`, not listed is `other`."
    """
    if value is None or value in (math.inf, -math.inf):
        return UNKNOWN
    if isinstance(value, float):
        value = int(value) if value.is_integer() else repr(value)
    text = sanitised({True: "true", False: "false"}[value] if isinstance(value, bool) else str(value))
    return text if text in map(sanitised, listed_values) else "other"


def sanitised(text: str) -> str:
    """ "characters outside `[A-Za-z0-9._/-]` become `_`" """
    return re.sub(r"[^A-Za-z0-9._/-]", "_", text)


def setting(config: Config, section: str, name: str) -> Any:
    """A setting, or its default."""
    return config.get(section, {}).get(name, DEFAULTS[section][name])
