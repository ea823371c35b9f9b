"""Type-I error on contigs without any effect, in a cohort with ancestries and families.

Design. Traits are simulated independently, so tests of different traits are independent. Within a trait, variants in
LD are not: only every so many variants are taken, far enough apart that they share nothing but structure. Whether a
binomial interval then is right is measured, not assumed: were tests correlated, the counts per trait would vary more
than binomially, and the interval is widened by that factor where it is above 1 (at α = 1e-2, where counts are large
enough to measure it).

Ancestry's own environment (`stratification`: 0.2 of the unit variance, along two axes) is not relatedness: as everyone
does, and as `biolmm gwas --pcs` does, principal components are covariates, of both methods. Without them the mixed model
is slightly liberal (measured with this cohort: mean χ² 1.017 ± 0.004, 1.06 % at α = 1 %), plain regression useless
(51 % at α = 1 %).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from biolmm.association import ScanConfig, prepare_scan
from biolmm.association.score import Statistics
from biolmm.cohort import CohortConfig, align_cohort
from biolmm.files.tables import read_table
from biolmm.linalg.operators import Restriction
from biolmm.linalg.probes import row_keys
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.reml.spectrum import principal_components
from biolmm.results.diagnostics import lambda_gc
from biolmm.simulate import SimulateConfig, simulate
from biolmm.store.read import GenotypeStore
from oracles.scan import score_everything, with_predictors
from oracles.toy import operator_of

pytestmark = pytest.mark.slow

LEVELS = (1e-2, 1e-3, 1e-4)
SPACING_BP = 1_000_000
N_COMPONENTS = 4
COHORT = SimulateConfig(
    n_samples=3000, n_variants=12_000, n_traits=300, h2=0.5, causal_contigs="odd", n_populations=3, fst=0.05,
    family_fraction=0.6, stratification=0.2, missing_traits=0.0, missing_genotypes=0.005, seed=11,
)  # fmt: skip


@dataclass(frozen=True)
class Null:
    """−log₁₀p of thinned variants on contigs without effects, (variants, traits), of both methods."""

    mixed: Statistics
    linear: Statistics
    thinned: NDArray[np.int64]
    null: NDArray[np.int64]


@pytest.fixture(scope="module")
def null(tmp_path_factory: pytest.TempPathFactory) -> Null:
    files = simulate(COHORT, tmp_path_factory.mktemp("cohort") / "cohort.zarr")
    store = GenotypeStore.open(files.store)
    tables = read_table(files.traits), read_table(files.covariates)
    cohort = align_cohort(store.sample_id, *tables, CohortConfig(categorical=("batch",)))
    operator = operator_of(store, cohort.sample_index, cache_bytes=2**28)
    design = np.column_stack([np.ones(cohort.n_samples), cohort.covariates])
    whole = Restriction(np.ones(cohort.n_samples, dtype=bool), np.linalg.qr(design)[0])
    keys = row_keys(cohort.sample_id.tolist())
    components = principal_components(operator, keys, whole, N_COMPONENTS, seed=1).vectors
    cohort = cohort.with_covariates([f"PC{i + 1}" for i in range(N_COMPONENTS)], components)
    model = with_predictors(operator, fit_null_model(operator, cohort, FitConfig(solver="stochastic")))
    print(f"\nmean ĥ² {model.h2['h2'].mean():.3f} (simulated {COHORT.h2})")
    found = score_everything(prepare_scan(operator.source, model, operator, ScanConfig(linear=True)))
    without = np.array([int(name) % 2 == 0 for name in store.contig_id])[store.variant_contig]
    p = found["associations"].frequency[:, 0]
    common = np.minimum(p, 1 - p) >= 0.01
    return Null(
        found["associations"],
        found["linear"],
        thinned(store, np.flatnonzero(without & common)),
        np.flatnonzero(without),
    )


def thinned(store: GenotypeStore, variants: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep variants that are `SPACING_BP` apart."""
    kept: list[int] = []
    for variant in variants.tolist():
        last = kept[-1] if kept else -1
        same = last >= 0 and store.variant_contig[last] == store.variant_contig[variant]
        if not same or store.variant_position[variant] - store.variant_position[last] >= SPACING_BP:
            kept.append(variant)
    return np.array(kept)


def overdispersion(hits: NDArray[np.bool_]) -> float:
    """Return the variance of the counts per trait over the binomial one."""
    counts = hits.sum(axis=0)
    rate = hits.mean()
    return float(counts.var(ddof=1) / (len(hits) * rate * (1 - rate)))


def interval(count: int, n: float) -> tuple[float, float]:
    """Return the 95 % interval of Clopper and Pearson."""
    low = float(stats.beta.ppf(0.025, count, n - count + 1)) if count else 0.0
    return low, float(stats.beta.ppf(0.975, count + 1, n - count))


def test_mixed_model_holds_its_level(null: Null) -> None:
    significance = null.mixed.neg_log_10_p_value[null.thinned]
    factor = max(1.0, overdispersion(significance > 2))
    print(f"\n{len(null.thinned)} null variants × {COHORT.n_traits} traits; overdispersion {factor:.2f} (1: none)")
    for level in LEVELS:
        hits = int((significance > -np.log10(level)).sum())
        n = significance.size
        low, high = interval(round(hits / factor), n / factor)
        print(f"  mixed, α = {level:g}: {hits} of {n}, rate {hits / n:.3g}, 95 % interval {low:.3g} to {high:.3g}")
        assert low <= level <= high
    inflation = [lambda_gc(null.mixed.chisq[null.null, t]) for t in range(COHORT.n_traits)]
    print(f"  mixed λ_GC on null contigs: mean {np.mean(inflation):.4f}, s.d. {np.std(inflation):.4f}")
    assert np.mean(inflation) == pytest.approx(1, abs=0.02)


def test_overdispersion_is_small_enough_for_a_binomial_interval(null: Null) -> None:
    assert overdispersion(null.mixed.neg_log_10_p_value[null.thinned] > 2) < 1.5


def test_plain_regression_does_not(null: Null) -> None:
    """The components take out ancestry, families remain."""
    significance = null.linear.neg_log_10_p_value[null.thinned]
    factor = max(1.0, overdispersion(significance > 2))
    for level in LEVELS:
        hits = int((significance > -np.log10(level)).sum())
        low, high = interval(round(hits / factor), significance.size / factor)
        print(f"\n  plain, α = {level:g}: {hits} of {significance.size}, rate {hits / significance.size:.3g}, "
              f"95 % interval {low:.3g} to {high:.3g}", end="")  # fmt: skip
        assert low > 1.2 * level
    inflation = [lambda_gc(null.linear.chisq[null.null, t]) for t in range(COHORT.n_traits)]
    print(f"\n  plain λ_GC on null contigs: mean {np.mean(inflation):.3f}")
