"""LD score regression end to end: genotypes with LD, traits of known h² and r_g, our LD scores, our linear scan.

Given the genotypes, random effects on all variants make E[χ²_j] = 1 + N h² ℓ_j / M exactly, ℓ from the same people and of all
variants that are in LD at all. So estimates over many pairs of traits must have the truth as their mean, and the spread
that the jackknife says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from biolmm.files.encoding import dosages_from_rows
from biolmm.files.ldscore_files import Overlap, read_ld_scores
from biolmm.simulate import SimulateConfig, simulate
from biolmm.store.read import GenotypeStore
from biolmm.sumstats.ldsc.correlation import GeneticCorrelation, estimate_correlations
from biolmm.sumstats.ldsc.heritability import Heritability, estimate_heritability
from biolmm.sumstats.ldsc.join import join
from biolmm.sumstats.ldsc.munge import MungeConfig
from biolmm.sumstats.ldsc.partitioned import PartitionedConfig, fit_partitioned, partitioned_table
from biolmm.sumstats.ldsc.regression import RegressionConfig
from biolmm.sumstats.ldsc.sources import read_traits
from oracles.ldsc_model import draw_z, ld_table, trait
from running import succeed

pytestmark = pytest.mark.slow

COHORT = SimulateConfig(
    n_samples=3000, n_variants=6000, n_contigs=3, n_populations=1, fst=0.0, admixed_fraction=0.0, family_fraction=0.0,
    ld_bp=1_000_000, maf_min=0.05, missing_genotypes=0.0, seed=11,
)  # fmt: skip
PAIRS = 40
H2 = (0.5, 0.3)
RG = 0.6
NOISE_CORRELATION = 0.4
BLOCKS = RegressionConfig(n_blocks=60)
"""Fewer blocks than usual: of 6,000 variants, a block of 30 would be shorter than LD."""


@dataclass(frozen=True)
class Estimates:
    """What was found for each pair of traits."""

    first: list[Heritability]
    second: list[Heritability]
    pairs: list[GeneticCorrelation]


def dosages_of(store: GenotypeStore) -> NDArray[np.float64]:
    """Standardise all genotypes, (M, N)."""
    rows = np.concatenate([store.read_rows(c) for c in range(-(-store.n_variants // store.chunk_variants))])
    dosages = dosages_from_rows(rows, store.encoding, store.n_samples).astype(np.float64)
    spread = dosages.std(axis=1, keepdims=True)
    return np.divide(
        dosages - dosages.mean(axis=1, keepdims=True), spread, out=np.zeros_like(dosages), where=spread > 0
    )


@pytest.fixture(scope="module")
def estimates(tmp_path_factory: pytest.TempPathFactory) -> Estimates:
    folder = tmp_path_factory.mktemp("ldsc")
    files = simulate(COHORT, folder / "cohort.zarr")
    store = GenotypeStore.open(files.store)
    Z = dosages_of(store)
    M, rng = np.count_nonzero(Z.any(axis=1)), np.random.default_rng(5)
    effects = np.linalg.cholesky([[1, RG], [RG, 1]]) @ rng.normal(size=(PAIRS, 2, len(Z)))
    genetic = effects @ Z / np.sqrt(M)
    noise = np.linalg.cholesky([[1, NOISE_CORRELATION], [NOISE_CORRELATION, 1]]) @ rng.normal(
        size=(PAIRS, 2, Z.shape[1])
    )
    h2 = np.array(H2)[:, None]
    y = np.sqrt(h2) * genetic + np.sqrt(1 - h2) * noise
    names = [f"{which}{i}" for i in range(PAIRS) for which in "ab"]
    table = pd.DataFrame(y.reshape(2 * PAIRS, -1).T, columns=names)
    table.insert(0, "sample_id", store.sample_id)
    table.to_csv(folder / "y.tsv", sep="\t", index=False)
    succeed(
        "gwas",
        "--genotypes",
        files.store,
        "--traits",
        folder / "y.tsv",
        "--method",
        "linear-only",
        "--out",
        folder / "out",
    )
    succeed("ld-scores", files.store, "--out", folder / "ld", "--window", "15mb")
    ld = read_ld_scores(folder / "ld")
    traits = read_traits(folder / "out", MungeConfig(alleles="any"), keep=ld.snp, traits=names, effective_n=False)
    joined = join(traits, ld, common=False)
    found = estimate_heritability(joined, BLOCKS)
    pairs = estimate_correlations(joined, BLOCKS, pairs=[(2 * i, 2 * i + 1) for i in range(PAIRS)])
    return Estimates(found[::2], found[1::2], pairs)


def agree(values: NDArray[np.float64], errors: NDArray[np.float64], truth: float) -> None:
    """Hold mean, spread and coverage of intervals against the truth, each within four of its own standard errors."""
    n = len(values)
    spread = values.std(ddof=1)
    assert abs(values.mean() - truth) < 4 * spread / np.sqrt(n), (values.mean(), truth, spread)
    # log of a standard deviation: 1 / √(2 (n − 1)). The median, since a ratio with h² near 0 has an error without bounds.
    ratio = np.median(errors) / spread
    assert abs(np.log(ratio)) < 4 / np.sqrt(2 * (n - 1)), ratio
    covered = np.mean(np.abs(values - truth) < 1.96 * errors)
    assert covered > 0.95 - 4 * np.sqrt(0.95 * 0.05 / n), covered


def test_heritability_and_intercept_are_recovered(estimates: Estimates) -> None:
    for found, truth in ((estimates.first, H2[0]), (estimates.second, H2[1])):
        agree(np.array([f.h2 for f in found]), np.array([f.h2_se for f in found]), truth)
        agree(np.array([f.intercept for f in found]), np.array([f.intercept_se for f in found]), 1.0)
        assert np.mean([f.mean_chisq for f in found]) > 1.2
        assert abs(np.mean([f.ratio for f in found])) < 4 * np.std([f.ratio for f in found]) / np.sqrt(PAIRS)


def test_correlation_covariance_and_overlap_are_recovered(estimates: Estimates) -> None:
    """With everybody in both studies the intercept is the phenotypic correlation."""
    found = estimates.pairs
    covariance = RG * np.sqrt(H2[0] * H2[1])
    phenotypic = covariance + NOISE_CORRELATION * np.sqrt((1 - H2[0]) * (1 - H2[1]))
    agree(np.array([f.covariance for f in found]), np.array([f.covariance_se for f in found]), covariance)
    agree(np.array([f.intercept for f in found]), np.array([f.intercept_se for f in found]), phenotypic)
    agree(np.array([f.rg for f in found]), np.array([f.rg_se for f in found]), RG)


def test_the_jackknife_covers_at_the_usual_size() -> None:
    """From the model itself: 200 blocks, 20,000 variants, 300 pairs of traits with inflation and overlap."""
    rng = np.random.default_rng(6)
    table = ld_table(20_000, rng)
    C = np.array([[0.3, 0.1], [0.1, 0.2]])
    # Weak enough that hardly a variant reaches the limit of step one, which would make it see a smaller slope.
    traits, n = [], np.array([8e3, 6e3])
    for i in range(300):
        z = draw_z(table.scores[:, 0], n, C, np.array([[1.1, 0.15], [0.15, 1.0]]), rng)
        traits += [trait(table, z[t], n[t], f"{t}-{i}") for t in range(2)]
    joined = join(traits, table, alleles=True)
    own = estimate_heritability(joined)[::2]
    pairs = estimate_correlations(joined, pairs=[(2 * i, 2 * i + 1) for i in range(300)])
    agree(np.array([f.h2 for f in own]), np.array([f.h2_se for f in own]), 0.3)
    agree(np.array([f.intercept for f in own]), np.array([f.intercept_se for f in own]), 1.1)
    agree(np.array([f.rg for f in pairs]), np.array([f.rg_se for f in pairs]), 0.1 / np.sqrt(0.06))
    agree(np.array([f.intercept for f in pairs]), np.array([f.intercept_se for f in pairs]), 0.15)


def test_enrichment_has_the_right_size_under_the_null() -> None:
    """An annotation of a quarter of the variants with a quarter of the heritability: p of enrichment and coefficient are even."""
    rng = np.random.default_rng(7)
    table = ld_table(8000, rng, 2)
    scores = np.column_stack([table.scores[:, 0], table.scores[:, 0] * rng.beta(1, 3, 8000)])
    table = replace(table, names=("base", "quarter"), scores=scores, m_common=np.array([1e5, 2.5e4]))
    overlap = Overlap(table.names, np.array([[1e5, 2.5e4], [2.5e4, 2.5e4]]), 100_000)
    p, one_sided = [], []
    for _ in range(300):
        z = draw_z(scores[:, 0], np.array([3e4]), np.array([[0.3]]), np.eye(1), rng)[0]
        found = fit_partitioned(join([trait(table, z, 3e4)], table), PartitionedConfig(chisq_max=1e9))
        result = partitioned_table(found, overlap)
        p.append(result["enrichment_p"][1])
        one_sided.append(result["coefficient_p"][1])
    for values in (p, one_sided):
        for level in (0.05, 0.2, 0.5):
            assert abs(np.mean(np.array(values) < level) - level) < 4 * np.sqrt(level * (1 - level) / 300), (
                level,
                values,
            )
