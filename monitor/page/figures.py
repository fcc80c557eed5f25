"""Numbers as people read them. Pure.

The package humanize has no percentage points, narrow spaces or real minus signs, and would replace three functions.
"""

import math

from monitor.serve.health_ranges import HealthRange, Unit
from monitor.serve.models import Difference, Estimate

NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
THIN = "\N{NARROW NO-BREAK SPACE}"
EVIDENCE_WRITTEN = 5
"""Evidence from this power of ten on is written as one."""
EVIDENCE_LN_TOP = 700.0
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def count(number: int | None) -> str:
    """12,345."""
    return NONE if number is None else f"{number:,}".replace("-", MINUS)


def compact(number: float | None) -> str:
    """At most four characters and a letter: 999, 12.3k, 4.56M."""
    if number is None:
        return NONE
    size = abs(number)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{number / limit:.3g}{unit}".replace("-", MINUS)
    return f"{number:.3g}".replace("-", MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """51.3 %."""
    return NONE if share is None else f"{100 * share:.{digits}f}{THIN}%".replace("-", MINUS)


def rate(share: float) -> str:
    """A rate, with as many digits as small ones need: 51.3 %, 4.21 %, 0.083 %."""
    return percent(share, 1 if abs(share) >= 0.1 else 2 if abs(share) >= 0.001 or share == 0 else 3)


def amount(value: float) -> str:
    """A value of a point, such as money: 1,234.56."""
    return f"{value:,.2f}".replace("-", MINUS)


def signed(value: float, text: str) -> str:
    """The text of a number with its sign before it, also a plus."""
    return f"{MINUS if value < 0 else '+'}{text.lstrip(MINUS)}"


def points(difference: float) -> str:
    """A difference of rates, in percentage points: +0.42 pp."""
    return signed(difference, f"{abs(100 * difference):.2f}{THIN}pp")


def relative(difference: Difference) -> str:
    """+5.1 % of the control's value; nothing where that is 0."""
    return "" if difference.relative is None else signed(difference.relative, percent(abs(difference.relative)))


def lift(share: float | None) -> str:
    """A relative difference with its sign: +5.1 %; no bound where there is none."""
    return "no bound" if share is None else signed(share, percent(abs(share)))


def evidence(ln_e: float) -> str:
    """E from its logarithm: 0.13, 512, or 3.2 and a power of ten; e^700 stands for anything larger."""
    power = ln_e / math.log(10)
    if power < EVIDENCE_WRITTEN:
        number = math.exp(ln_e)
        return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"
    exponent = math.floor(power)
    size = "" if ln_e < EVIDENCE_LN_TOP else "over "
    return f"{size}{10 ** (power - exponent):.1f} {TIMES} 10{str(exponent).translate(_SUPERSCRIPT)}"


def interval(low: float | None, high: float | None, of_rates: bool) -> str:
    """`+0.10 to +0.74 pp`, or amounts."""
    if low is None or high is None:
        return NONE
    if of_rates:
        return f"{points(low).removesuffix(f'{THIN}pp')} to {points(high)}"
    return f"{signed(low, amount(abs(low)))} to {signed(high, amount(abs(high)))}"


def estimate(value: Estimate | None, of_rate: bool) -> str:
    """A rate or a mean."""
    if value is None:
        return NONE
    return rate(value.value) if of_rate else amount(value.value)


def duration(seconds: float | None) -> str:
    """A duration in the unit that matters: 4 s, 12 min, 3 h 20 min, 5 days."""
    if seconds is None:
        return "never"
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole}{THIN}s"
    minutes = round(whole / 60)
    if minutes < 100:
        return f"{minutes}{THIN}min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}{THIN}h {rest}{THIN}min" if rest else f"{hours}{THIN}h"
    return f"{round(hours / 24)} days"


def size(number: int | None) -> str:
    """Bytes: 512 MiB."""
    if number is None:
        return NONE
    for limit, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= limit:
            return f"{number / limit:.3g}{THIN}{unit}"
    return f"{number}{THIN}B"


def plural(number: int, one: str, more: str | None = None) -> str:
    """`1 visit`, `2,345 visits`."""
    return f"{count(number)} {one if number == 1 else more or one + 's'}"


def in_unit(unit: Unit, value: float | None) -> str:
    """A value in its unit."""
    if value is None:
        return "never" if unit is Unit.SECONDS else NONE
    match unit:
        case Unit.SECONDS:
            return duration(value)
        case Unit.SHARE:
            return percent(value, 2)
        case Unit.PER_MILLION:
            return percent(value / 1_000_000, 2)
        case Unit.RATIO:
            return f"{value:.2f}"
        case Unit.BYTES:
            return size(round(value))
        case Unit.MILLISECONDS:
            return f"{value:,.0f} ms"
        case Unit.COUNT:
            return count(round(value))


def normal_range(of: HealthRange) -> str:
    """The normal range in words: `0`, or `up to 2 %`."""
    if not of.normal:
        return "0"
    match of.unit:
        case Unit.SHARE:
            text = percent(of.normal, 0)
        case Unit.PER_MILLION:
            text = percent(of.normal / 1_000_000, 0)
        case Unit.RATIO:
            text = f"{of.normal:g}"
        case Unit.COUNT:
            text = compact(of.normal)
        case _:
            text = in_unit(of.unit, of.normal)
    return f"up to {text}"
