"""Numbers for people: thousands, significant digits, p-values that never underflow, durations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

NOTHING = "–"

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def count(value: Any) -> str:
    """Write a whole number with thousands separated.

    Examples
    --------
    >>> count(1234567), count(None)
    ('1,234,567', '–')
    """
    return NOTHING if _missing(value) else f"{int(value):,}"


def fixed(value: Any, digits: int = 3) -> str:
    """Write a number with this many decimals.

    Examples
    --------
    >>> fixed(-0.01234), fixed(float("nan"))
    ('−0.012', '–')
    """
    return NOTHING if _missing(value) else f"{float(value):.{digits}f}".replace("-", "−")


def significant(value: Any, digits: int = 2) -> str:
    """Write a number with this many significant digits, tiny and huge ones as powers of ten.

    Examples
    --------
    >>> significant(0.00123), significant(2.5e-7), significant(0), significant(1234.5)
    ('0.0012', '2.5 × 10⁻⁷', '0', '1,234')
    """
    if _missing(value):
        return NOTHING
    number = float(value)
    if number == 0 or math.isinf(number):
        return "0" if number == 0 else str(number)
    exponent = math.floor(math.log10(abs(number)))
    if -4 <= exponent < 6:
        return f"{number:,.{max(0, digits - 1 - exponent)}f}".replace("-", "−")
    mantissa, power = f"{number:.{digits - 1}e}".split("e")
    return f"{mantissa} × 10{str(int(power)).translate(_SUPERSCRIPTS)}".replace("-", "−")


def p_value(neg_log10_p: Any) -> str:
    """Write a p-value given as −log₁₀ p, however small.

    Examples
    --------
    >>> p_value(7.30103), p_value(0.5), p_value(1234.5)
    ('5.0 × 10⁻⁸', '0.32', '3.2 × 10⁻¹²³⁵')
    """
    if _missing(neg_log10_p):
        return NOTHING
    number = float(neg_log10_p)
    if math.isinf(number):
        return "0"
    if number < 3:
        return significant(10.0**-number)
    exponent = math.floor(-number)
    mantissa = 10.0 ** (-number - exponent)
    if mantissa >= 9.95:
        mantissa, exponent = 1.0, exponent + 1
    return f"{mantissa:.1f} × 10{str(exponent).translate(_SUPERSCRIPTS)}"


def p_plain(p: Any) -> str:
    """Write a p-value given as such; one that has underflowed is written as a bound.

    Examples
    --------
    >>> p_plain(0.04), p_plain(0.0)
    ('0.040', '< 10⁻³⁰⁷')
    """
    if _missing(p):
        return NOTHING
    return p_value(-math.log10(p)) if p > 0 else "< 10⁻³⁰⁷"


def seconds(value: Any) -> str:
    """Write a duration.

    Examples
    --------
    >>> seconds(0.034), seconds(75), seconds(7322)
    ('0.03 s', '1 min 15 s', '2 h 2 min')
    """
    if _missing(value):
        return NOTHING
    number = float(value)
    if number < 60:
        return f"{number:.2f} s" if number < 1 else f"{number:.1f} s"
    minutes, rest = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def when(text: Any) -> str:
    """Write an ISO time as a date and a time.

    Examples
    --------
    >>> when("2026-01-31T12:05:09+00:00")
    '2026-01-31 12:05 UTC'
    """
    if not text:
        return NOTHING
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".strip()


def words(name: Any) -> str:
    """Write a key as words.

    Examples
    --------
    >>> words("memory_bytes")
    'memory bytes'
    """
    return str(name).replace("_", " ")


def plain(value: Any) -> str:
    """Write a parameter: lists joined, mappings as pairs, nothing as a dash.

    Examples
    --------
    >>> plain(["a", 1]), plain(True), plain(None)
    ('a, 1', 'yes', '–')
    """
    if value is None or value in ("", [], {}):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{words(key)} {plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(inner) for inner in value)
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)
