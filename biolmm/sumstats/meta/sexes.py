"""Sex-differentiated meta-analysis: an effect in either sex, and a difference between the sexes.

    differentiated   χ²₂ = z_m² + z_f²                                     an effect in men, women or both
    heterogeneity    χ²₁ = (β_m − β_f)² / (se_m² + se_f² − 2 r se_m se_f)   a difference

(Magi, Lindgren & Morris 2010, 10.1002/gepi.20540; Randall et al. 2013, 10.1371/journal.pgen.1003500 for r, the correlation of
the two estimates.) GWAMA takes |z_m² + z_f² − z_all²| for the second, z_all from all studies of both sexes; with the same
studies and r = 0 the two are the same number. Where a variant is in one sex only, both tests are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from biolmm.errors import ParameterError
from biolmm.results.diagnostics import neg_log10_p, neg_log10_p_chisq
from biolmm.sumstats.meta.block import StudyBlock, Vector, check_lambdas
from biolmm.sumstats.meta.fixed_effects import FixedEffects, inverse_variance
from biolmm.sumstats.meta.tails import neg_log10_p_chisq_df


@dataclass(frozen=True, eq=False)
class SexTests:
    """Meta-analyses of men, women and both, and the two tests of each variant.

    Attributes
    ----------
    male, female, both
        Inverse-variance analyses; `both` of the studies of either sex.
    differentiated_chisq, differentiated_neg_log10_p
        Two degrees of freedom.
    heterogeneity_z, heterogeneity_neg_log10_p
        Positive where the effect is greater in men; of GWAMA's form without a sign.
    """

    male: FixedEffects
    female: FixedEffects
    both: FixedEffects
    differentiated_chisq: Vector
    differentiated_neg_log10_p: Vector
    heterogeneity_z: Vector
    heterogeneity_neg_log10_p: Vector


def sex_tests(
    block: StudyBlock,
    sexes: Sequence[str],
    *,
    correlation: float = 0.0,
    lambda_gc: ArrayLike | None = None,
    result_lambdas: tuple[float, float, float] = (1.0, 1.0, 1.0),
    gwama: bool = False,
) -> SexTests:
    """Test each variant in men and women.

    Parameters
    ----------
    block
        Studies with `beta` and `se`, each of one sex.
    sexes
        `M` or `F` of each study.
    correlation
        Of the two sexes' estimates, where they share relatives; from the correlation of z over unassociated variants.
    lambda_gc
        Genomic control, a factor a study.
    result_lambdas
        Genomic control of the three results, men, women, both, as GWAMA's `-gco` applies: z/√λ in both tests.
    gwama
        Take GWAMA's form of the heterogeneity test.

    Raises
    ------
    ParameterError
        When a study has no sex, one sex has no study, or a number is out of range.
    """
    if len(sexes) != block.n_studies or set(sexes) - {"M", "F"}:
        raise ParameterError(f"Sexes {list(sexes)} must be M or F for each of {block.n_studies} studies.")
    if set(sexes) != {"M", "F"}:
        raise ParameterError(f"All {block.n_studies} studies have the sex {sexes[0]}; a comparison needs both M and F.")
    if not -1 < correlation < 1:
        raise ParameterError(f"The correlation of the sexes is {correlation} but must be between -1 and 1.")
    if not all(value > 0 for value in result_lambdas):
        raise ParameterError(f"λ of the results are {result_lambdas} but must be above 0.")
    lambdas = check_lambdas(lambda_gc, block.n_studies)
    men, women = (np.flatnonzero([sex == wanted for sex in sexes]) for wanted in "MF")
    male = inverse_variance(block.studies(men), lambdas[men])
    female = inverse_variance(block.studies(women), lambdas[women])
    both = inverse_variance(block, lambdas)
    root = np.sqrt(np.maximum(1.0, result_lambdas))
    z_male, z_female, z_both = male.z / root[0], female.z / root[1], both.z / root[2]
    differentiated = z_male**2 + z_female**2
    if gwama:
        z = np.sqrt(np.abs(differentiated - z_both**2))
        tested = neg_log10_p_chisq(z**2)
    else:
        se_male, se_female = male.se * root[0], female.se * root[1]
        z = (male.beta - female.beta) / np.sqrt(se_male**2 + se_female**2 - 2 * correlation * se_male * se_female)
        tested = neg_log10_p(z)
    return SexTests(male, female, both, differentiated, neg_log10_p_chisq_df(differentiated, 2), z, tested)
