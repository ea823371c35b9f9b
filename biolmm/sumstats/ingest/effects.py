"""What a record says of the association: effect, standard error, p, frequency, N, from whichever columns there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from biolmm.sumstats.ingest.fields import Fields, Mask, Vector
from biolmm.sumstats.ingest.verdicts import Ranges
from biolmm.sumstats.status import Status

_CI_WIDTH = 2 * 1.959963984540054
DISAGREEMENT = (0.02, 0.02)
"""p disagrees where −log10 p is further from that of beta / se than the first number plus the second times itself."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of n records, for the file's effect allele; NaN where missing."""

    beta: Vector
    se: Vector
    eaf: Vector
    info: Vector
    n: Vector
    neg_log10_p: Vector
    status: NDArray[np.uint16]


def neg_log10_p_of_z(z: Vector) -> Vector:
    """Compute −log₁₀ of the two-sided p-value of z, of any size.

    Examples
    --------
    >>> neg_log10_p_of_z(np.array([0.0, 1.959963984540054])).round(6).tolist()
    [0.0, 1.30103]
    """
    return np.asarray(np.abs((np.log(2.0) + log_ndtr(-np.abs(z))) / np.log(10.0)))


def read_statistics(fields: Fields, ranges: Ranges, *, n_given: float | None, exact: bool,
                    effects_from_z: bool) -> Statistics:  # fmt: skip
    """Read a block's statistics; whatever is impossible is missing, and its status says so.

    Parameters
    ----------
    fields
        The block.
    ranges
        Counts what the columns hold, for the verdict on the file.
    n_given
        Sample size of files without one.
    exact
        Keep every −log₁₀ p; otherwise those only that beta / se does not give.
    effects_from_z
        Make beta and se from z, n and the frequency.
    """
    status = np.full(fields.n, Status.PRESENT.value, np.uint16)
    eaf, info, n = _frequency(fields, ranges, status), _info(fields, status), _size(fields, n_given, status)
    beta, se = _effect(fields, ranges), _error(fields, ranges)
    tail, p_wrong = _tail(fields, ranges)
    z = fields.numbers("z")[0] if fields.has("z") else None
    has_se = se is not None
    if z is not None and beta is None and effects_from_z:
        with np.errstate(invalid="ignore", divide="ignore"):
            se = 1 / np.sqrt(2 * eaf * (1 - eaf) * (n + z * z))
            se[~np.isfinite(se)] = np.nan
        beta, has_se = z * se, True
    if beta is None:
        beta = _direction(fields) if z is None else np.where(np.isnan(z), np.nan, np.copysign(1.0, z))
    if tail is None and z is not None and not has_se:
        tail, p_wrong = neg_log10_p_of_z(z), np.zeros(fields.n, bool)
    if se is None:
        se = np.full(fields.n, np.nan)
    _judge(beta, se, tail, p_wrong, status, has_se=has_se)
    kept = _kept_tail(beta, se, tail, status, exact=exact, has_se=has_se)
    left_out = status > Status.BAD_EFFECT.value - 1
    for values in (beta, se, kept):
        values[left_out] = np.nan
    status[left_out] &= ~np.uint16(Status.PRESENT.value)
    return Statistics(beta, se, eaf, info, n, kept, status)


def _judge(beta: Vector, se: Vector, tail: Vector | None, p_wrong: Mask, status: NDArray[np.uint16], *,
           has_se: bool) -> None:  # fmt: skip
    """Set the bits of records that cannot be used."""
    status[~np.isfinite(beta)] |= Status.BAD_EFFECT.value
    if has_se:
        status[~(se > 0) | ~np.isfinite(se)] |= Status.BAD_ERROR.value
    if tail is None:
        return
    zero = np.isposinf(tail)
    status[p_wrong | (tail < 0)] |= Status.BAD_P.value
    if has_se:
        status[zero] |= Status.P_ZERO.value
    else:
        status[zero | np.isnan(tail)] |= Status.BAD_P.value


def _kept_tail(beta: Vector, se: Vector, tail: Vector | None, status: NDArray[np.uint16], *, exact: bool,
               has_se: bool) -> Vector:  # fmt: skip
    """Choose the −log₁₀ p to store."""
    if tail is None:
        return np.full(len(beta), np.nan)
    kept: Vector = np.where(np.isfinite(tail), tail, np.nan)
    if not has_se:
        status |= Status.DIRECTION_ONLY.value
        return kept
    usable = status < Status.BAD_EFFECT.value
    expected = np.full(len(beta), np.nan)
    expected[usable] = neg_log10_p_of_z(beta[usable] / se[usable])
    with np.errstate(invalid="ignore"):
        differs = np.abs(kept - expected) > DISAGREEMENT[0] + DISAGREEMENT[1] * expected
    status[differs & usable] |= Status.P_DISAGREES.value
    return kept if exact else np.where(differs, kept, np.nan)


def _effect(fields: Fields, ranges: Ranges) -> Vector | None:
    if fields.has("beta"):
        values, wrong = fields.numbers("beta")
        ranges.see_beta(values, wrong)
        return values
    if fields.has("odds_ratio"):
        values, wrong = fields.numbers("odds_ratio")
        ranges.see_odds_ratio(values, wrong)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(values > 0, np.log(values), np.nan)
    return None


def _error(fields: Fields, ranges: Ranges) -> Vector | None:
    if fields.has("se"):
        values, wrong = fields.numbers("se")
        ranges.see_se(values, wrong)
        return values
    if fields.has("ci_lower") and fields.has("ci_upper"):
        low, high = fields.numbers("ci_lower")[0], fields.numbers("ci_upper")[0]
        if not fields.has("beta"):
            with np.errstate(invalid="ignore", divide="ignore"):
                low, high = np.log(low), np.log(high)
        se: Vector = (high - low) / _CI_WIDTH
        ranges.see_se(se, np.zeros(fields.n, bool))
        return se
    return None


def _tail(fields: Fields, ranges: Ranges) -> tuple[Vector | None, Mask]:
    """Read −log₁₀ p, and which are none."""
    if fields.has("p"):
        values, wrong = fields.tails("p")
        ranges.see_p(values, wrong)
    elif fields.has("neg_log10_p"):
        values, wrong = fields.numbers("neg_log10_p")
        ranges.see_neg_log10_p(values, wrong)
    elif fields.has("log10_p"):
        values, wrong = fields.numbers("log10_p")
        ranges.see_log10_p(values, wrong)
        values = 0.0 - values
    elif fields.has("ln_p"):
        values, wrong = fields.numbers("ln_p")
        ranges.see_log10_p(values, wrong)
        values = 0.0 - values / np.log(10.0)
    else:
        return None, np.zeros(fields.n, bool)
    return values, wrong


def _direction(fields: Fields) -> Vector:
    """Read + and -; anything else is missing."""
    data, spans = fields.words("direction")
    first = np.full(fields.n, np.nan)
    there = spans[:, 1] - spans[:, 0] == 1
    letters = data[spans[there, 0]]
    first[there] = np.where(letters == ord("+"), 1.0, np.where(letters == ord("-"), -1.0, np.nan))
    return first


def _frequency(fields: Fields, ranges: Ranges, status: NDArray[np.uint16]) -> Vector:
    if fields.has("eaf"):
        values, wrong = fields.numbers("eaf")
    elif fields.has("other_allele_frequency"):
        values, wrong = fields.numbers("other_allele_frequency")
        values = 1 - values
    elif fields.has("eaf_controls"):
        values, wrong = fields.numbers("eaf_controls")
        if fields.has("eaf_cases") and fields.has("n_cases") and fields.has("n_controls"):
            cases, wrong_too = fields.numbers("eaf_cases")
            n_cases, n_controls = fields.numbers("n_cases")[0], fields.numbers("n_controls")[0]
            with np.errstate(invalid="ignore", divide="ignore"):
                values = (cases * n_cases + values * n_controls) / (n_cases + n_controls)
            wrong = wrong | wrong_too
    else:
        return np.full(fields.n, np.nan)
    ranges.see_eaf(values, wrong)
    return _within(values, wrong, 0.0, 1.0, status)


def _info(fields: Fields, status: NDArray[np.uint16]) -> Vector:
    if not fields.has("info"):
        return np.full(fields.n, np.nan)
    values, wrong = fields.numbers("info")
    return _within(values, wrong, 0.0, 2.0, status)  # IMPUTE's INFO and ratios of variances pass 1


def _size(fields: Fields, given: float | None, status: NDArray[np.uint16]) -> Vector:
    if fields.has("n"):
        values, wrong = fields.numbers("n")
    elif fields.has("n_half"):
        values, wrong = fields.numbers("n_half")
        values = 2 * values
    elif fields.has("n_cases") and fields.has("n_controls"):
        (cases, wrong), (controls, wrong_too) = fields.numbers("n_cases"), fields.numbers("n_controls")
        values, wrong = cases + controls, wrong | wrong_too
    elif given is not None:
        values, wrong = np.full(fields.n, float(given)), np.zeros(fields.n, bool)
        if fields.has("n_missing"):
            missing, wrong = fields.numbers("n_missing")
            values -= np.where(np.isnan(missing), 0.0, missing)
    else:
        return np.full(fields.n, np.nan)
    return _within(values, wrong, np.nextafter(0, 1), np.inf, status)


def _within(values: Vector, wrong: Mask, low: float, high: float, status: NDArray[np.uint16]) -> Vector:
    """Remove what is outside, and say so in the status."""
    with np.errstate(invalid="ignore"):
        outside = wrong | (values < low) | (values > high)
    status[outside] |= Status.VALUE_REMOVED.value
    return np.where(outside, np.nan, values)
