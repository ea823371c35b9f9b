"""What N of a case-control study may mean, and which of it the standard errors fit.

    4/(1/N₁+1/N₀)     effective N of METAL and most meta-analyses; of N₁ = N₀ it is the total
    2/(1/N₁+1/N₀)     GIANT's, half of it
    N₁+N₀             the total; LDSC's N·P/mean(P) is the same where all variants have the same share P of cases

The log odds ratio's standard error has 2p(1−p)·SE² ≈ 1/N₁ + 1/N₀, whatever the column of N holds. So the median of
2p(1−p)·INFO·N·SE² is 4, 2, or 1/(φ(1−φ)) with φ the share of cases, above 4. An effect on the scale 0/1 by plain
regression has φ(1−φ), at most ¼; that of a quantitative trait has the trait's variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NAMES = {
    "effective": "effective, 4/(1/cases + 1/controls)",
    "half": "half of the effective, 2/(1/cases + 1/controls), as GIANT's",
    "total": "total, cases + controls (LDSC's is the same where the share of cases is)",
}

_CLOSE = 0.12


@dataclass(frozen=True)
class Convention:
    """What a column of N is.

    Attributes
    ----------
    name
        Key of `NAMES`, `linear` where effects are not log odds ratios, `none` where nothing fits.
    effective_n
        4/(1/N₁+1/N₀) as the standard errors say.
    case_share
        Share of cases that a total would mean, the smaller group; None where it is no total.
    """

    name: str
    effective_n: float
    case_share: float | None = None


def name_convention(visscher: float, median_n: float, cases: tuple[float, float] | None = None) -> Convention:
    """Find out what N of a study of a binary trait is.

    Parameters
    ----------
    visscher
        Median of 2p(1−p)·INFO·N·SE².
    median_n
        Median of N as given.
    cases
        Numbers of cases and controls, where they are known.

    Examples
    --------
    >>> name_convention(4.02, 8000).name, name_convention(2.0, 4000).name
    ('effective', 'half')
    >>> found = name_convention(11.1, 20_000)
    >>> found.name, round(found.case_share, 2), round(found.effective_n)
    ('total', 0.1, 7207)
    >>> name_convention(4.0, 10_000, (5000, 5000)).name  # as many cases as controls: total and effective are the same
    'effective'
    """
    effective = 4.0 * median_n / visscher if visscher > 0 else float("nan")
    if cases is not None:
        true = 4.0 / (1.0 / cases[0] + 1.0 / cases[1])
        for name, n in (("effective", true), ("half", true / 2), ("total", sum(cases))):
            if _near(median_n, n):
                return Convention(name, effective, min(cases) / sum(cases) if name == "total" else None)
        return Convention("none", effective)
    if _near(visscher, 4.0):
        return Convention("effective", effective)
    if _near(visscher, 2.0):
        return Convention("half", effective)
    if visscher <= 0.25 * (1 + _CLOSE):
        return Convention("linear", float("nan"))
    if 4.0 < visscher <= 1 / (0.0005 * 0.9995):
        return Convention("total", effective, (1 - math.sqrt(1 - 4 / visscher)) / 2)
    return Convention("none", effective)


def _near(value: float, wanted: float) -> bool:
    return abs(value / wanted - 1) <= _CLOSE
