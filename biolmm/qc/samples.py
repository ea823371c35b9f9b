"""The table of samples: call rate, heterozygosity, sex, singletons, and who is flagged for what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.contigs import Ploidy
from biolmm.qc.config import QcConfig
from biolmm.qc.groups import FEMALE, MALE, Groups
from biolmm.qc.tally import STEPS, Tally
from biolmm.store.data import GenotypeData

CALL_RATE, EXCESS_HETS, FEW_HETS, SEX, AMBIGUOUS, SINGLETONS = (
    "call_rate", "het_excess", "het_deficit", "sex_mismatch", "sex_ambiguous", "singletons",
)  # fmt: skip
SAMPLE_REASONS = (CALL_RATE, EXCESS_HETS, FEW_HETS, SEX, AMBIGUOUS, SINGLETONS)
"""Why samples are flagged."""

SEX_NAMES = {0: "unknown", MALE: "male", FEMALE: "female"}

NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""

_ROUNDING = 1e-9
"""No spread is smaller than what rounding makes."""


@dataclass(frozen=True, eq=False)
class SampleQuality:
    """What was found of each sample that was looked at.

    Attributes
    ----------
    table
        One row a sample, in the order of the genotypes; `flagged_for` names the reasons, separated by commas.
    f_spread, x_f_spread
        Standard deviation that F has from sampling variants alone, on autosomes and on X; NaN without variants that
        vary. Linked variants make it larger.
    n_flagged
        How many samples each reason flags.
    """

    table: pd.DataFrame
    f_spread: float
    x_f_spread: float
    n_flagged: dict[str, int]

    @property
    def tells_sex(self) -> bool:
        """Whether there are variants enough on X: three standard deviations of a woman's F are within 0.2."""
        return tells_sex(self.x_f_spread)


def tells_sex(x_f_spread: float) -> bool:
    """Whether F on X is known well enough to tell the sexes apart."""
    return bool(x_f_spread <= 0.2 / 3)


def judge_samples(
    data: GenotypeData, ploidy: NDArray[np.uint8], groups: Groups, tally: Tally, config: QcConfig
) -> SampleQuality:
    """Work out each sample's numbers and flag what is beyond the thresholds.

    The inbreeding coefficient is F = 1 − (observed / expected heterozygotes) over the places with a hard call, PLINK's
    `(O − E)/(N − E)` of homozygotes; on X it is near 1 for a man and near 0 for a woman.
    """
    kept = np.flatnonzero(groups.kept)
    n_of = np.bincount(ploidy, minlength=len(Ploidy))
    missing, het, uncalled = (
        counter[:, kept].astype(np.int64) for counter in (tally.missing, tally.het, tally.uncalled)
    )
    expected = (tally.expected[:, :1] - tally.expected_missing[:, kept]) / STEPS
    sex = data.sex[kept]
    has_y = sex == MALE
    n = len(data.variant_id) - np.where(has_y, 0, n_of[Ploidy.Y])
    n_missing = missing.sum(axis=0) - np.where(has_y, 0, missing[Ploidy.Y])
    f, x_f = (_inbreeding(het[kind], expected[kind]) for kind in (Ploidy.DIPLOID, Ploidy.X))
    spread, x_spread = (_spread(tally.expected[kind]) for kind in (0, 1))
    hap_het = het[Ploidy.HAPLOID] + np.where(has_y, het[Ploidy.X] + het[Ploidy.Y], 0)
    table = pd.DataFrame(
        {
            "sample_id": data.sample_id[kept].astype(object),
            "n": n,
            "n_missing": n_missing,
            "call_rate": _share(n - n_missing, n),
            "n_het": het[Ploidy.DIPLOID],
            "heterozygosity": _share(het[Ploidy.DIPLOID], n_of[Ploidy.DIPLOID] - uncalled[0]),
            "expected_het": expected[0],
            "f": f,
            "n_singletons": tally.singletons[0, kept],
            "n_hap_het": hap_het,
            "x_f": x_f,
            "y_call_rate": _share(n_of[Ploidy.Y] - missing[Ploidy.Y], np.full(len(kept), n_of[Ploidy.Y])),
            "sex": [SEX_NAMES.get(int(code), "unknown") for code in sex],
        }
    )
    if tells_sex(x_spread):
        found = np.where(x_f < config.max_female_x_f, FEMALE, np.where(x_f > config.min_male_x_f, MALE, 0))
    else:
        found = np.zeros(len(kept), np.int64)
    table["genetic_sex"] = [SEX_NAMES[int(code)] for code in found]
    flags = _flags(table, spread, config)
    known = (sex == MALE) | (sex == FEMALE)
    flags[SEX] = known & (found > 0) & (found != sex)
    flags[AMBIGUOUS] = known & (found == 0) & tells_sex(x_spread) & ~np.isnan(x_f)
    table["flagged_for"] = _texts(flags)
    return SampleQuality(table, spread, x_spread, {name: int(flags[name].sum()) for name in SAMPLE_REASONS})


def robust_z(values: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Say how many robust standard deviations (1.4826 MAD, but at least `least`) each value is above the median.

    Examples
    --------
    >>> robust_z(np.array([0.0, 1.0, 2.0, 3.0, 100.0]), 0.1).round(2).tolist()
    [-1.35, -0.67, 0.0, 0.67, 66.1]
    """
    present = values[~np.isnan(values)]
    if not len(present):
        return np.full(len(values), np.nan)
    median = np.median(present)
    scale = max(NORMAL_MAD * float(np.median(np.abs(present - median))), least, _ROUNDING)
    return np.asarray((values - median) / scale)


def _flags(table: pd.DataFrame, f_spread: float, config: QcConfig) -> dict[str, NDArray[np.bool_]]:
    """Flag what does not depend on sex; a spread cannot be smaller than sampling alone makes it."""
    f = table["f"].to_numpy(np.float64)
    singletons = table["n_singletons"].to_numpy(np.float64)
    f_z = robust_z(f, f_spread) if config.max_f_deviations else np.zeros(len(f))
    far = (np.abs(f) > config.max_abs_f) | (np.abs(f_z) > config.max_f_deviations)
    side = np.where(np.abs(f) > config.max_abs_f, f, f_z)
    poisson = float(np.sqrt(max(float(np.median(singletons)), 1.0)))
    many = robust_z(singletons, poisson) > config.max_singleton_deviations
    return {
        CALL_RATE: table["call_rate"].to_numpy() < config.min_sample_call_rate,
        EXCESS_HETS: far & (side < 0),
        FEW_HETS: far & (side > 0),
        SINGLETONS: many & bool(config.max_singleton_deviations),
    }


def _inbreeding(het: NDArray[np.int64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """F = 1 − observed / expected; NaN where nothing is expected."""
    return np.asarray(1 - np.divide(het, expected, out=np.full(len(het), np.nan), where=expected > 0))


def _spread(sums: NDArray[np.int64]) -> float:
    """Standard deviation of F over independent variants, √Σ e(1−e) / Σ e."""
    return float(np.sqrt(sums[1] / STEPS) / (sums[0] / STEPS)) if sums[0] > 0 else float("nan")


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))


def _texts(flags: dict[str, NDArray[np.bool_]]) -> list[str]:
    """Name each sample's reasons."""
    codes = sum(flags[name].astype(np.int64) << i for i, name in enumerate(SAMPLE_REASONS))
    spelled = [",".join(n for i, n in enumerate(SAMPLE_REASONS) if c >> i & 1) for c in range(2 ** len(SAMPLE_REASONS))]
    return [spelled[code] for code in np.asarray(codes)]
