"""The figures of the monitor with their normal ranges, and a sentence for each that is outside. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from monitor.serve.health_models import DcHealth, Divergence, StoreHealth
from monitor.serve.health_ranges import HealthRange, Unit
from monitor.serve.messages import MESSAGES_MIN, STRANGERS, largest, messages, strangers_share, together
from monitor.serve.models import DcState
from monitor.serve.spans import iso

WATERMARK = "watermark delay"
AHEAD_S = 5.0
"""A watermark that is further ahead of the clock is a fault: the clocks of two machines differ by less."""

Ranges = Mapping[str, HealthRange]


class Figure(NamedTuple):
    """One figure with its range; None: it is not known."""

    range: HealthRange
    value: float | None

    @property
    def is_ahead(self) -> bool:
        """True for a watermark that is ahead of the clock."""
        return self.range.name == WATERMARK and self.value is not None and self.value < -AHEAD_S

    @property
    def is_outside(self) -> bool:
        """True if the value is not in its normal range."""
        return self.value is not None and (self.value > self.range.normal or self.is_ahead)


def of_dc(dc: DcHealth, ranges: Ranges) -> list[Figure]:
    """The figures of a data center."""
    lately = together(messages(dc).values())
    is_judged = lately.all >= MESSAGES_MIN
    events = sum(flow.events for flow in dc.tenants)
    means = [flow.delay_ms_mean for flow in dc.tenants if flow.delay_ms_mean is not None]
    values: dict[str, float | None] = {
        "heartbeat age": dc.heartbeat_age_s,
        WATERMARK: dc.watermark_age_s,
        "lag": dc.lag_messages,
        "rejects": lately.lost_share if is_judged else None,
        "duplicates": lately.duplicate_share if is_judged else None,
        "warnings": lately.warned_share if is_judged else None,
        "corrections": dc.corrections / events if events else 0.0,
        "sessions in state": dc.sessions,
        "totals in state": dc.totals,
        "memory": dc.memory_bytes,
        "retries": dc.retries,
        "dead letters": dc.dead_letters,
        "repaired": dc.repaired,
        "new partitions": dc.new_partitions,
        "mean delay": max(means) / 1_000 if means else None,
    }
    return [Figure(ranges[name], value) for name, value in values.items()]


def of_store(store: StoreHealth, ranges: Ranges) -> Figure:
    """The figure of the store."""
    return Figure(ranges["store answer"], store.answer_ms)


class Trouble(NamedTuple):
    """What is wrong, in a sentence with what to do. `about`: its subject; `place`: the data center."""

    about: str
    place: str
    words: str


def advice(dcs: Sequence[DcHealth], store: StoreHealth, divergences: Sequence[Divergence], ranges: Ranges) -> list[str]:
    """A sentence for each figure outside of its normal range, with what to do."""
    said = [sentence for dc in dcs for sentence in _of_dc(dc, ranges)]
    answer = of_store(store, ranges)
    if answer.is_outside:
        said.append(_sentence("KairosDB", answer))
    return said + [of_divergence(apart) for apart in divergences if is_apart(apart, ranges)]


def is_apart(divergence: Divergence, ranges: Ranges) -> bool:
    """True if two data centers differ by more than is normal."""
    return divergence.ppm_max >= ranges["divergence"].normal


def troubles(dc: DcHealth, ranges: Ranges) -> Iterator[Trouble]:
    """What is wrong with a data center; of its messages only as a whole."""
    match dc.state:
        case DcState.MISSING:
            words = f"{dc.dc} has never reported: is its job started, with dc = '{dc.dc}' and this KairosDB?"
            yield Trouble("silent", dc.dc, words)
            return
        case DcState.STALE:
            since = "" if dc.last_heartbeat is None else f" since {dc.last_heartbeat:%Y-%m-%dT%H:%M:%SZ}"
            words = f"{dc.dc} has been silent{since}: look at its job, its log, and whether it reaches KairosDB."
            yield Trouble("silent", dc.dc, words)
            return
        case DcState.BEHIND:
            words = f"{dc.dc} is behind: look at lag_by_partition, and at its CPU; it catches up by itself if it can."
            yield Trouble("behind", dc.dc, words)
    if dc.vanished_partitions:
        words = (
            f"{dc.dc} reports {', '.join(dc.vanished_partitions)} no more: was the topic deleted or made anew, or does "
            "a process of the job not run? Look at its log."
        )
        yield Trouble("vanished partitions", dc.dc, words)
    for figure in of_dc(dc, ranges):
        if figure.is_outside:
            yield Trouble(figure.range.name, dc.dc, _sentence(dc.dc, figure))


def of_divergence(apart: Divergence) -> str:
    """Two data centers that differ, in a sentence."""
    name, at = f"{apart.tenant}/{apart.experiment}", iso(round(apart.worst_minute.timestamp() * 1_000))
    return (
        f"{apart.dc} and {apart.against} differ by {apart.ppm_max / 10_000:.1f} % in {name} at {at}: "
        f"run monitor verify --dc {apart.dc} --against {apart.against}."
    )


def _of_dc(dc: DcHealth, ranges: Ranges) -> Iterator[str]:
    yield from (trouble.words for trouble in troubles(dc, ranges))
    if dc.state not in (DcState.MISSING, DcState.STALE):
        yield from _of_messages(dc, ranges)


def _of_messages(dc: DcHealth, ranges: Ranges) -> Iterator[str]:
    """The tenants whose messages are rejected, by name: a small one does not show in the sum of all."""
    of_tenants = messages(dc)
    for tenant, of_tenant in of_tenants.items():
        if tenant == STRANGERS:
            share, whose = strangers_share(of_tenants), "of no configured tenant"
        else:
            share, whose = (of_tenant.lost_share if of_tenant.has_many_lost else None), f"of tenant {tenant}"
        if share is not None:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in largest(of_tenant.lost))
            of = "all messages are" if tenant == STRANGERS else "the messages"
            rejected = "" if tenant == STRANGERS else "were rejected "
            said = f"{dc.dc}: {text(Unit.SHARE, share)} of {of} {whose} {rejected}in 5 minutes: {reasons}."
            yield f"{said} {ranges['rejects'].fix}"


def _sentence(place: str, figure: Figure) -> str:
    limits, value = figure.range, figure.value or 0.0
    if figure.is_ahead:
        return (
            f"{place}: the watermark is {text(limits.unit, -value)} ahead of the clock, so present events are late: "
            "look for messages with timestamps in the future, and at the clocks of the brokers and of this machine."
        )
    normal = f"normal: up to {text(limits.unit, limits.normal)}" if limits.normal else "normal: 0"
    return f"{place}: {limits.name} {text(limits.unit, value)} ({normal}). {limits.fix}"


def text(unit: Unit, value: float) -> str:
    """A value in its unit, in plain text."""
    match unit:
        case Unit.SECONDS:
            return f"{value:,.0f} s"
        case Unit.MILLISECONDS:
            return f"{value:,.0f} ms"
        case Unit.SHARE:
            return f"{100 * value:.3g} %"
        case Unit.PER_MILLION:
            return f"{value / 10_000:.3g} %"
        case Unit.BYTES:
            return f"{value / 2**20:,.0f} MiB"
        case Unit.RATIO:
            return f"{value:.2f}"
        case Unit.COUNT:
            return f"{value:,.0f}"
