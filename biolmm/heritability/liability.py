"""From the observed scale of cases and controls to the liability scale.

    h²_l = h²_o · K² (1−K)² / ( P (1−P) φ(t)² ),     t = Φ⁻¹(1−K)

with K the prevalence in the population and P the share of cases in the sample (Lee, Wray, Goddard & Visscher 2011,
doi 10.1016/j.ajhg.2011.02.002, equation 23). Without ascertainment, P = K, it is Dempster & Lerner's K(1−K)/φ².
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from biolmm.errors import ParameterError, TraitError, named

TOO_FEW_CASES = 0.005


@dataclass(frozen=True)
class Liability:
    """How one binary trait was sampled.

    Attributes
    ----------
    prevalence
        K, the share of cases in the population.
    sample_share
        P, the share of cases in the sample.
    """

    prevalence: float
    sample_share: float

    @property
    def factor(self) -> float:
        """What h² and its standard error on the observed scale are multiplied with.

        Examples
        --------
        >>> round(Liability(0.01, 0.5).factor, 4)
        0.5519
        """
        K, P = self.prevalence, self.sample_share
        density = float(norm.pdf(norm.isf(K)))
        return K**2 * (1 - K) ** 2 / (P * (1 - P) * density**2)


def parse_prevalences(texts: Sequence[str]) -> dict[str, float]:
    """Read `trait=0.01`, one a trait.

    Raises
    ------
    ParameterError
        When one has another form, is not between 0 and 1, or names a trait twice.

    Examples
    --------
    >>> parse_prevalences(["t2d=0.08", "a=b=0.5"])
    {'t2d': 0.08, 'a=b': 0.5}
    """
    found: dict[str, float] = {}
    for text in texts:
        name, sign, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if not sign or not name or not 0 < value < 1:
            raise ParameterError(
                f"--prevalence {text!r} is not TRAIT=K with K between 0 and 1: write for example t2d=0.08."
            )
        if name in found:
            raise ParameterError(f"--prevalence names the trait '{name}' more than once: give one prevalence.")
        found[name] = value
    return found


def binary_values(y: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return control and case, the two values that a trait takes; None where it takes more."""
    values = np.unique(y[~np.isnan(y)])
    return (float(values[0]), float(values[1])) if len(values) == 2 else None


def liabilities(
    trait_names: Sequence[str], y: NDArray[np.float64], prevalences: Mapping[str, float]
) -> list[Liability | None]:
    """Return how each trait was sampled; None where no prevalence is given.

    Parameters
    ----------
    trait_names, y
        Traits and their values, (N, T), NaN where unobserved; cases are the larger of the two values.
    prevalences
        K by trait.

    Raises
    ------
    ParameterError
        When a prevalence names a trait that is not analysed.
    TraitError
        When a trait with a prevalence takes more than two values.
    """
    unknown = [name for name in prevalences if name not in trait_names]
    if unknown:
        raise ParameterError(
            f"--prevalence names {named(f'{name!r}' for name in unknown)}, not among the {len(trait_names):,} traits "
            f"analysed: {named(trait_names)}."
        )
    found: list[Liability | None] = []
    for name, values in zip(trait_names, y.T, strict=True):
        if name not in prevalences:
            found.append(None)
            continue
        two = binary_values(values)
        if two is None:
            n_values = len(np.unique(values[~np.isnan(values)]))
            raise TraitError(
                f"--prevalence was given for '{name}', which takes {n_values:,} values instead of 2: a prevalence goes "
                "with cases and controls, untransformed (--transform none)."
            )
        found.append(Liability(prevalences[name], float(np.mean(values[~np.isnan(values)] == two[1]))))
    return found
