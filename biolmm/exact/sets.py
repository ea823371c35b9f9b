"""Sets of variants: their weighted sum (burden), all of them jointly as fixed effects, and the variance of their effects.

With X̃ (n − C, r) an orthonormal basis of the rotated variants of a set, D = λS + I, ν = n − C − r,

    γ̂ = (X̃ᵀD⁻¹X̃)⁻¹ X̃ᵀD⁻¹ỹ     rss = ỹᵀD⁻¹ỹ − γ̂ᵀX̃ᵀD⁻¹ỹ
    F = (ỹᵀD⁻¹ỹ − rss)/r / (rss/ν) ~ F(r, ν) at λ̂ of REML with the set;     2 (ℓ_ML with − ℓ_ML without) ~ χ²(r)

which is the Wald test and the likelihood-ratio test of `variant_tests` for r = 1. The tests do not depend on the basis.

The test of variance (SKAT; Wu et al. 2011, doi 10.1016/j.ajhg.2011.05.029) takes effects w_j β_j with β_j ~ N(0, τ) and
τ = 0 as the null, at λ̂ of REML without the set:

    Q = Σ w_j² (x̃_jᵀD⁻¹ỹ)² / (ỹᵀD⁻¹ỹ),      P(Q > q) = P( Σ (θ_i − q) χ²(1) − q χ²(n−C−r) > 0 )

with θ the r eigenvalues of W X̃ᵀD⁻¹X̃ W. The denominator is part of the distribution, so that the p-value is exact for any n
as far as λ is known (Chen et al. 2016, doi 10.1002/gepi.21936, for independent samples).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import qr
from scipy.optimize import brentq

from biolmm.chunks import map_tasks
from biolmm.errors import ParameterError, VariantMismatchError, named
from biolmm.exact.axis import T_MAX, T_MIN
from biolmm.exact.blocks import COLLINEAR, Dosages, ExactPanel, System, read_chosen
from biolmm.exact.mixture import neg_log10_p_positive
from biolmm.exact.run import ExactScan
from biolmm.exact.tails import neg_log10_p_chisq_k, neg_log10_p_f
from biolmm.exact.variant_tests import TraitModel, exact_tests
from biolmm.files.variant_sets import VariantSet
from biolmm.genotypes.operator import NO_CONTIG
from biolmm.genotypes.source import Partition

GRID = 21
"""Values of log λ between which the likelihood of a set is searched: two a decade, as for single variants."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class JointTest:
    """The joint test of a set; NaN where nothing of it varies.

    Attributes
    ----------
    rank
        r: variants that are independent of each other and of the covariates.
    f, neg_log_10_p_f
        F, and its p.
    neg_log_10_p_lrt
        Of the likelihood-ratio test.
    l_remle
        λ̂ of REML with the set.
    """

    rank: int
    f: float
    neg_log_10_p_f: float
    neg_log_10_p_lrt: float
    l_remle: float


@dataclass(frozen=True)
class _Place:
    """A set, where its variants are, and what is left out of the relatedness matrix for it."""

    variant_set: VariantSet
    variants: NDArray[np.int64]
    weights: Array
    left_out: int


@dataclass(frozen=True, eq=False)
class _Shared:
    panel: ExactPanel
    systems: tuple[System, ...]
    partitions: tuple[Partition, ...]
    traits: tuple[str, ...]


def joint_test(model: TraitModel, rotated: Array) -> JointTest:
    """Test rotated variants (q, n − C) jointly on one trait.

    Notes
    -----
    **Cost**: about 60 evaluations of the likelihood, each 4·n·r² flop.
    """
    X = independent(rotated)
    r, n, C = X.shape[1], model.basis.n, model.basis.n_covariates
    degrees = n - C - r
    if r == 0 or degrees < 1:
        return JointTest(r, *[float("nan")] * 4)
    basis, y = model.basis, model.rotated
    both = _Profile(X, y, basis.values, basis.values, float(degrees), restricted=True)
    t, _ = _minimum(both)
    full = _Profile(X, y, basis.values, basis.full_values, float(n), restricted=False)
    _, deviance = _minimum(full)
    total, rss = both.forms(t)
    f = (total - rss) / r / (rss / degrees)
    log_likelihood = 0.5 * (n * (np.log(n / (2 * np.pi)) - 1) - deviance)
    ratio = max(2 * (log_likelihood - model.null_log_likelihood), 0.0)
    return JointTest(r, f, neg_log10_p_f(f, r, degrees), neg_log10_p_chisq_k(ratio, r), float(np.exp(t)))


def variance_test(model: TraitModel, weighted: Array) -> float:
    """Return −log₁₀ p of the variance of the effects of rotated variants times their weights (q, n − C); NaN for none.

    Notes
    -----
    **Cost**: n·q² flop, an eigendecomposition of order q, and 100 to 1,000 evaluations of its characteristic function.
    """
    h2 = model.null_h2
    inverse = 1 / (h2 / (1 - h2) * model.basis.values + 1)
    score = weighted @ (inverse * model.rotated)
    share = float(score @ score) / float(inverse @ model.rotated**2)
    theta = np.linalg.eigvalsh((weighted * inverse) @ weighted.T)
    theta = theta[theta > 1e-12 * theta[-1:].max(initial=0.0)]
    if not len(theta):
        return float("nan")
    rest = float(len(model.rotated) - len(theta))
    return neg_log10_p_positive(np.append(theta - share, -share), np.append(np.ones(len(theta)), rest))


@dataclass(frozen=True, eq=False)
class _Profile:
    """−2ℓ of a set along t = log λ.

    Attributes
    ----------
    X, y
        (n − C, r) and (n − C,).
    values, determinant
        Eigenvalues of D, and those whose `Σ log(λs+1)` is the determinant.
    degrees
        What multiplies log rss.
    restricted
        Whether log det X̃ᵀD⁻¹X̃ is added.
    """

    X: Array
    y: Array
    values: Array
    determinant: Array
    degrees: float
    restricted: bool

    def forms(self, t: float) -> tuple[float, float]:
        """Return ỹᵀD⁻¹ỹ and rss."""
        weights = 1 / (np.exp(t) * self.values + 1)
        total = float(weights @ self.y**2)
        residual = self._residual(weights)[0]
        return total, max(float(weights @ residual**2), 1e-14 * total)

    def at(self, t: float) -> tuple[float, float]:
        """Return −2ℓ and its slope: by the envelope theorem that of rss is `Σ (dwᵢ/dt) rᵢ²`, r the residual."""
        at = np.exp(t) * self.values
        weights = 1 / (at + 1)
        slopes = -at * weights**2
        residual, gram = self._residual(weights)
        rss = max(float(weights @ residual**2), 1e-14 * float(weights @ self.y**2))
        other = np.exp(t) * self.determinant
        value = self.degrees * np.log(rss) + np.log1p(other).sum()
        slope = self.degrees * float(slopes @ residual**2) / rss + (other / (1 + other)).sum()
        if self.restricted:
            value += np.linalg.slogdet(gram)[1]
            slope += np.trace(np.linalg.solve(gram, (self.X.T * slopes) @ self.X))
        return float(value), float(slope)

    def _residual(self, weights: Array) -> tuple[Array, Array]:
        """Return ỹ − X̃γ̂ and X̃ᵀD⁻¹X̃."""
        gram = (self.X.T * weights) @ self.X
        return self.y - self.X @ np.linalg.solve(gram, self.X.T @ (weights * self.y)), gram


def independent(rotated: Array) -> Array:
    """Return an orthonormal basis of the rows, (n − C, r), without those that the others leave nothing of."""
    norms = np.linalg.norm(rotated, axis=1)
    units = rotated[norms > 0] / norms[norms > 0, None]
    if not len(units):
        return np.zeros((rotated.shape[1], 0))
    Q, R, _ = qr(units.T, mode="economic", pivoting=True)
    return np.asarray(Q[:, np.abs(np.diag(R)) > np.sqrt(COLLINEAR)])


def set_tests(scan: ExactScan, sets: Sequence[VariantSet]) -> pd.DataFrame:
    """Test every set on every trait: burden and joint.

    Parameters
    ----------
    scan
        Traits, genotypes and relatedness. With LOCO the contig of a set is left out; a set on several contigs is tested
        with the whole matrix.
    sets
        From `read_variant_sets`. Ids that are not among the genotypes are left out; `n_variants` counts what is there.

    Returns
    -------
    DataFrame
        A row a trait and set, see `SET_COLUMNS`.

    Raises
    ------
    ParameterError
        When the trait has several records an individual.
    VariantMismatchError
        When no variant of any set is among the genotypes, or an id is there more than once.

    Notes
    -----
    **Cost**: one eigendecomposition for each contig left out and set of observed samples; 2·n² flop a variant.
    """
    if scan.records is not None:
        raise ParameterError(
            "Sets of variants are tested on traits with one record an individual: give means of the records."
        )
    places = _locate(scan, sets)
    rows: dict[str, list[dict[str, object]]] = {}
    for contig in sorted({place.left_out for place in places}):
        chosen = [place for place in places if place.left_out == contig]
        shared = _Shared(
            scan.panel(contig, ()), scan.trait_systems(contig), scan.source.partitions, scan.cohort.trait_names
        )
        for place, found in zip(chosen, map_tasks(_test_set, chosen, shared), strict=True):
            rows[place.variant_set.name] = found
    ordered = [row for one in sets if one.name in rows for row in rows[one.name]]
    table = pd.DataFrame(ordered, columns=list(SET_COLUMNS))
    order = {name: index for index, name in enumerate(scan.cohort.trait_names)}
    return table.sort_values("trait", key=lambda names: names.map(order), kind="stable", ignore_index=True)


SET_COLUMNS = (
    "trait", "set", "n", "n_listed", "n_variants", "burden_beta", "burden_standard_error", "burden_neg_log_10_p_value",
    "burden_neg_log_10_p_lrt", "burden_neg_log_10_p_score", "joint_rank", "joint_f", "joint_neg_log_10_p_value",
    "joint_neg_log_10_p_lrt", "joint_l_remle",
    "variance_neg_log_10_p_value",
)  # fmt: skip
"""Columns of `sets.tsv`: the burden is the sum of weight times copies of ALT."""


def _locate(scan: ExactScan, sets: Sequence[VariantSet]) -> list[_Place]:
    """Find the variants of the sets among those that are scanned."""
    scanned, store = scan.source.variants, scan.source.store
    ids = store.variant_id[scanned]
    wanted = {name for one in sets for name in one.variants}
    index: dict[str, int] = {}
    repeated = []
    for at, name in zip(scanned.tolist(), ids.tolist(), strict=True):
        if name in wanted:
            if name in index:
                repeated.append(name)
            index[name] = at
    if repeated:
        raise VariantMismatchError(
            f"{len(repeated):,} ids of the sets are in '{store.path}' more than once: {named(repeated)}. Sets need unique ids."
        )
    if not index:
        example = next(iter(sets)).variants[0]
        raise VariantMismatchError(
            f"None of the {len(wanted):,} variants of the sets is in '{store.path}': '{example}' in the sets, "
            f"'{ids[0] if len(ids) else ''}' there. Sets name variants as the genotypes do."
        )
    places = []
    for one in sets:
        known = [(index[name], weight) for name, weight in zip(one.variants, one.weights, strict=True) if name in index]
        known.sort()
        variants = np.array([at for at, _ in known], dtype=np.int64)
        contigs = {str(store.contig_id[c]) for c in np.unique(store.variant_contig[variants])}
        left_out = scan.contig_index.get(contigs.pop(), NO_CONTIG) if len(contigs) == 1 else NO_CONTIG
        places.append(_Place(one, variants, np.array([weight for _, weight in known]), left_out))
    return places


def _test_set(place: _Place, shared: _Shared) -> list[dict[str, object]]:
    """Test one set on every trait."""
    panel = shared.panel
    blocks = []
    for partition in shared.partitions:
        first, last = partition.variants[[0, -1]]  # a run of the variants that are scanned
        mine = place.variants[(place.variants >= first) & (place.variants <= last)]
        if len(mine):
            blocks.append(read_chosen(panel.reader, replace(partition, variants=mine), panel.masks, panel.filters))
    rows = []
    for index, system in enumerate(shared.systems):
        for position, trait in enumerate(system.traits):
            common = {
                "trait": shared.traits[trait], "set": place.variant_set.name, "n": system.basis.n,
                "n_listed": len(place.variant_set.variants), "n_variants": sum(len(block.variants) for block in blocks),
            }  # fmt: skip
            rows.append({**common, **_tests(place, blocks, index, system, system.models[position])})
    return rows


def _tests(place: _Place, blocks: list[Dosages], index: int, system: System, model: TraitModel) -> dict[str, object]:
    """Test a set on one trait."""
    rotated = [system.basis.rotate(block.Z) for block in blocks]
    usable = [block.usable(index, system.basis.rows, one) for block, one in zip(blocks, rotated, strict=True)]
    if not any(one.any() for one in usable):
        return {"joint_rank": 0}
    R, keep = np.concatenate(rotated), np.concatenate(usable)
    weights = place.weights[np.isin(place.variants, np.concatenate([block.variants for block in blocks]))]
    joint = joint_test(model, R[keep])
    row: dict[str, object] = {
        "joint_rank": joint.rank, "joint_f": joint.f, "joint_neg_log_10_p_value": joint.neg_log_10_p_f,
        "joint_neg_log_10_p_lrt": joint.neg_log_10_p_lrt, "joint_l_remle": joint.l_remle,
    }  # fmt: skip
    row["variance_neg_log_10_p_value"] = variance_test(model, R[keep] * weights[keep, None])
    burden = weights @ R
    size = np.abs(weights) @ np.linalg.norm(R, axis=1)
    if np.linalg.norm(burden) > np.sqrt(COLLINEAR) * size:
        found = exact_tests(model, burden[None, :])
        row |= {
            "burden_beta": found.beta[0], "burden_standard_error": found.standard_error[0],
            "burden_neg_log_10_p_value": found.neg_log_10_p_value[0],
            "burden_neg_log_10_p_lrt": found.neg_log_10_p_lrt[0],
            "burden_neg_log_10_p_score": found.neg_log_10_p_score[0],
        }  # fmt: skip
    return row


def _minimum(profile: _Profile) -> tuple[float, float]:
    """Return the t of the lowest −2ℓ between the ends of log λ, and −2ℓ there: every valley of the grid is descended."""
    grid = np.linspace(T_MIN, T_MAX, GRID)
    found = [profile.at(float(t)) for t in grid]
    bottoms = [(found[0][0], float(grid[0])), (found[-1][0], float(grid[-1]))]
    for i in range(GRID - 1):
        if found[i][1] < 0 <= found[i + 1][1]:
            t = float(brentq(lambda at: profile.at(at)[1], grid[i], grid[i + 1], xtol=1e-10))
            bottoms.append((profile.at(t)[0], t))
    height, t = min(bottoms)
    return t, height
