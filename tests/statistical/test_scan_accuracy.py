"""How near the stochastic scan comes to the exact one on a cohort with ancestries and families.

Both use the same variance components: what is compared are predictors and denominators alone. The exact scan is held
against the dense definition in `tests/association`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.association import ScanConfig, forms, prepare_scan, run_scan
from biolmm.association.gamma import sample_variants
from biolmm.association.leads import find_leads, recompute_leads
from biolmm.association.score import Statistics
from biolmm.association.setup import ScanSetup
from biolmm.cohort import CohortConfig, align_cohort
from biolmm.files.tables import read_table
from biolmm.genotypes.columns import standardised_columns
from biolmm.genotypes.dense import DenseRelatedness
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.linalg.dense import DenseProjection
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.simulate import SimulateConfig, simulate
from biolmm.store.read import GenotypeStore
from oracles.scan import as_exact, scan_everything, score_everything, with_predictors
from oracles.toy import operator_of

pytestmark = pytest.mark.slow

COHORT = SimulateConfig(
    n_samples=3000, n_variants=10_000, n_traits=3, h2=(0.5, 0.25, 0.5), n_populations=3, fst=0.05,
    family_fraction=0.3, n_large=10, large_share=0.3, missing_traits=0.05, stratification=0.2, n_contigs=22, seed=7,
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """One cohort scanned both ways."""

    setup: ScanSetup
    approximate: Statistics
    exact: Statistics


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    files = simulate(COHORT, tmp_path_factory.mktemp("cohort") / "cohort.zarr")
    store = GenotypeStore.open(files.store)
    tables = read_table(files.traits), read_table(files.covariates)
    cohort = align_cohort(store.sample_id, *tables, CohortConfig(categorical=("batch",)))
    operator: GenotypeOperator = operator_of(store, cohort.sample_index, cache_bytes=2**28)
    model = fit_null_model(operator, cohort, FitConfig(solver="stochastic"))
    model = with_predictors(operator, model)
    setup = prepare_scan(operator.source, model, operator, ScanConfig(lead_neg_log10_p=4.0))
    exact = scan_everything(operator, as_exact(operator, model))
    return Compared(setup, score_everything(setup)["associations"], exact)


def ratios(compared: Compared, trait: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the exact χ² and the ratio of the denominators (exact over approximate) of the variants that have them."""
    there = np.isfinite(compared.exact.chisq[:, trait])
    approximate = compared.approximate.standard_error[there, trait]
    return compared.exact.chisq[there, trait], (approximate / compared.exact.standard_error[there, trait]) ** 2


@pytest.mark.parametrize("trait", range(COHORT.n_traits))
def test_all_variants(compared: Compared, trait: int) -> None:
    """Slope 1 ± 0.01 and s.d. of the ratio below 2 % (numerics.md, section 6).

    χ² near zero has no meaningful ratio, since an error of the numerator divides it; the ratio of all variants is
    taken of the denominators, and of χ² where it is above 3.84.
    """
    exact, ratio = ratios(compared, trait)
    there = np.isfinite(compared.exact.chisq[:, trait])
    found = compared.approximate.chisq[there, trait]
    slope = found @ exact / (exact @ exact)
    large = exact > 3.84
    of_chisq = found[large] / exact[large]
    z_error = np.sqrt(found) - np.sqrt(exact)
    maf = compared.approximate.frequency[there, trait]
    maf = np.minimum(maf, 1 - maf)
    by_class = [float(np.std(1 / ratio[(maf >= a) & (maf < b)])) for a, b in ((0, 0.01), (0.01, 0.05), (0.05, 0.51))]
    print(
        f"\ntrait {trait + 1}: {len(exact)} variants; slope of χ² {slope:.5f}; ratio of χ² > 3.84 (n = {large.sum()}): "
        f"mean {of_chisq.mean():.4f}, s.d. {of_chisq.std():.4f}, {of_chisq.min():.3f}–{of_chisq.max():.3f}; ratio of "
        f"denominators: mean {np.mean(1 / ratio):.4f}, s.d. {np.std(1 / ratio):.4f}, {1 / ratio.max():.3f}–"
        f"{1 / ratio.min():.3f}; by MAF <1 %, 1–5 %, ≥5 %: {by_class}; s.d. of the difference of |z| {z_error.std():.4f}"
    )
    assert slope == pytest.approx(1, abs=0.01)
    assert of_chisq.std() < 0.02
    assert np.std(1 / ratio) < 0.02


def test_forms_after_few_steps(compared: Compared, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampled variants' forms with the steps not taken added, against a factor of H₋c in double precision."""
    setup = compared.setup
    operator, h2 = setup.operator, np.array([0.3, 0.5, 0.8])
    assert operator is not None
    sample = sample_variants(operator, setup.model, setup.source, seed=1)
    spectrum = setup.model.spectrum(0)
    start = spectrum.restriction.project(standardised_columns(setup.source, sample.variants).Z)
    values = setup.left_values[0][sample.left_out].T
    request = forms.FormRequest(
        spectrum.restriction, spectrum.pairs.vectors, values, start.astype(np.float32), sample.left_out, h2
    )
    relatedness, truth = DenseRelatedness(operator), np.empty((len(sample.variants), len(h2)))
    for contig in np.unique(sample.left_out):
        K, mine = relatedness.left_out(int(contig)), sample.left_out == contig
        for q, share in enumerate(h2):
            H = share * K + (1 - share) * np.eye(len(K))
            truth[mine, q] = DenseProjection(H, spectrum.restriction).forms(start[:, mine])
    known = (request.along()[:, :, None] ** 2 / (h2 * values[:, :, None] + 1 - h2)).sum(axis=0)
    ratio = (truth - known) / ((start**2).sum(axis=0) - (request.along() ** 2).sum(axis=0))[:, None]
    for steps in (2, 3, 4):
        monkeypatch.setattr(forms, "MAX_STEPS", steps)
        error = forms.remainder_forms(operator, [request], 0.0)[0] / (truth - known) - 1
        for q, share in enumerate(h2):
            spread = np.std(ratio[:, q]) / np.mean(ratio[:, q])
            print(
                f"\n{steps} steps, h² {share}: {len(error)} forms, largest error {np.abs(error[:, q]).max():.1e}, "
                f"mean {error[:, q].mean():+.1e}; s.d. of the ratio {spread:.4f}"
            )
            # γ is known to 0.3 %: its forms should not be what limits it.
            assert abs(error[:, q].mean()) < (2e-3 if steps > 2 or share < 0.8 else 2e-2)


def test_leads_are_exact(compared: Compared, tmp_path: Path) -> None:
    run_scan(compared.setup, tmp_path, tmp_path / "markers")
    leads = recompute_leads(compared.setup, find_leads(compared.setup, tmp_path))
    store = compared.setup.source.store
    place = {name: i for i, name in enumerate(store.variant_id[compared.setup.source.variants].tolist())}
    trait = [compared.setup.panel.traits.index(name) for name in leads["trait"]]
    truth = compared.exact.chisq[[place[name] for name in leads["rsid"]], trait]
    error = leads["chisq"].to_numpy() / truth - 1
    before = leads["chisq_scan"].to_numpy() / truth - 1
    print(
        f"\n{len(leads)} leads, χ² {truth.min():.1f} to {truth.max():.1f}: largest relative error {np.abs(error).max():.1e}"
        f" (before recomputation {np.abs(before).max():.1e})"
    )
    assert len(leads) >= COHORT.n_traits
    assert np.abs(error).max() < 1e-3
