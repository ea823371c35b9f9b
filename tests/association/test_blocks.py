"""Denominators where one contig makes an eigenvector by itself, and where the matrix has some of the scanned variants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from biolmm.association import ScanConfig, gamma, panel, prepare_scan
from biolmm.association.classes import CLASSES, relations
from biolmm.association.forms import FormRequest, remainder_forms
from biolmm.association.shares import shares_left
from biolmm.cohort import align_cohort
from biolmm.genotypes.columns import standardised_columns
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.loco.systems import left_out_values
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.reml.model import NullModel
from oracles.scan import as_exact, score_everything, with_predictors
from oracles.toy import operator_of, write_store

N, M, N_BLOCK, N_APART = 400, 1200, 40, 150
H2 = 0.5


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[GenotypeOperator, NullModel, GenotypeOperator]:
    """Give a model of 6 contigs, the first with an inversion of 40 variants, and the operator of X as well."""
    rng = np.random.default_rng(3)
    calls = rng.binomial(2, rng.uniform(0.06, 0.5, (M + N_APART, 1)), (M + N_APART, N)).astype(np.uint8)
    inverted = rng.binomial(2, 0.4, N)
    calls[:N_BLOCK] = np.where(rng.random((N_BLOCK, N)) < 0.03, rng.binomial(2, 0.4, (N_BLOCK, N)), inverted)
    contigs = [str(1 + 6 * j // M) for j in range(M)] + ["X"] * N_APART
    store = write_store(tmp_path_factory.mktemp("blocks") / "blocks.zarr", calls, contigs)
    ids = store.sample_id.tolist()
    cohort = align_cohort(ids, pd.DataFrame({"trait": rng.standard_normal(N)}, index=ids), None)
    operator = operator_of(store, variants=np.arange(M))
    return operator, fit_null_model(operator, cohort, FitConfig(solver="stochastic", fixed_h2=H2)), operator_of(store)


def denominators(fitted, loco: bool) -> NDArray[np.float64]:
    """Return the ratio of the approximate to the exact denominator of every variant, (M + X,)."""
    operator, model, everything = fitted
    approximate = with_predictors(operator, model, loco=loco)
    errors = [
        score_everything(prepare_scan(everything.source, m, operator, ScanConfig()))["associations"].standard_error[
            :, 0
        ]
        for m in (as_exact(operator, approximate, loco=loco), approximate)
    ]
    return (errors[0] / errors[1]) ** 2


def test_a_block_left_out_with_its_contig_is_no_eigenvector(fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its eigenvector falls into the bulk: taken for one, it makes χ² of the block too large; the others are the same.

    The block's variants are nearly one: their ratio scatters as that of one variant does, of which 3 s.d. are allowed.
    """
    ratio = denominators(fitted, loco=True)
    for module in (gamma, panel):
        monkeypatch.setattr(module, "shares_left", lambda spectrum, values: np.ones_like(values))
    blind = denominators(fitted, loco=True)
    spread = ratio[N_BLOCK:].std()
    print(
        f"\nblock {blind[:N_BLOCK].mean():.3f}, with shares {ratio[:N_BLOCK].mean():.3f}; s.d. of others {spread:.4f}"
    )
    assert blind[:N_BLOCK].mean() < 1 - 4 * spread
    assert abs(ratio[:N_BLOCK].mean() - 1) < 3 * spread
    assert ratio[N_BLOCK:].mean() == pytest.approx(1, abs=0.01)
    assert ratio[N_BLOCK:].std() == pytest.approx(blind[N_BLOCK:].std(), rel=0.02)


def test_variants_in_the_matrix_and_apart_have_a_gamma_of_their_own(fitted) -> None:
    ratio = denominators(fitted, loco=False)
    assert ratio[N_BLOCK:M].mean() == pytest.approx(1, abs=0.01)
    assert ratio[M:].mean() == pytest.approx(1, abs=0.01)


def test_gamma_says_which_variants_it_is_of(fitted) -> None:
    operator, model, everything = fitted
    found = {}
    for loco in (True, False):
        setup = prepare_scan(everything.source, with_predictors(operator, model, loco=loco), operator, ScanConfig())
        assert setup.gamma is not None
        assert setup.gamma.gamma.shape == (1, len(CLASSES))
        found[loco] = set(setup.gamma.table["maf_class"])
    assert found[True] == {">=5%", "all"}
    assert found[False] == {">=5%", "all", ">=5%, in the model", "all, in the model"}


def test_relations(fitted, tmp_path: Path) -> None:
    """Variants are recognised in another store, and those beside them told apart; with LOCO all are apart."""
    operator, model, everything = fitted
    alone = with_predictors(operator, model, loco=False)
    expected = np.repeat([1, 0], [M, N_APART])
    np.testing.assert_array_equal(relations(operator, alone, everything.source), expected)
    assert relations(operator, with_predictors(operator, model), everything.source) is None
    half = GenotypeOperator(operator_of(everything.source.store, variants=np.arange(0, M, 2)).genotypes)
    np.testing.assert_array_equal(
        relations(half, alone, everything.source), np.r_[np.tile([1, 2], M // 2), expected[M:]]
    )
    copy = write_store(tmp_path / "copy.zarr", np.full((3, N), 1, np.uint8), ["X", "1", "1"])
    where = everything.source.store.variant_position
    beside = np.isin(copy.variant_position, where[:200:2])
    found = relations(half, alone, operator_of(copy).source)
    np.testing.assert_array_equal(found, np.where(np.arange(3) == 0, 0, np.where(beside, 1, 2)))


def test_shares_and_forms_of_a_fallen_eigenvector(fitted) -> None:
    """Forms of the block's variants without their contig are those of the matrix written out, though U is left over."""
    operator, model, _ = fitted
    spectrum = model.spectrum(0)
    values = left_out_values(operator, [spectrum])[0]
    shares = shares_left(spectrum, values)
    assert shares[0, 0] < 0.02
    assert (shares[1:, 0] > 0.98).all()
    rows, left_out = np.arange(0, N_BLOCK, 8), np.zeros(5, np.int64)
    Z = standardised_columns(operator.source, rows).Z
    start = spectrum.restriction.project(Z).astype(np.float32)
    h2 = np.array([0.3, 0.5])
    request = FormRequest(
        spectrum.restriction, spectrum.pairs.vectors, values[left_out].T, start, left_out, h2, shares[left_out].T
    )
    K = operator.matmat(np.eye(N, dtype=np.float32), np.zeros(N, np.int64)).astype(np.float64)
    P = np.eye(N) - spectrum.restriction.basis @ spectrum.restriction.basis.T
    found = remainder_forms(operator, [request], 1e-3)[0]
    blind = remainder_forms(operator, [replace(request, shares=None)], 1e-3)[0]
    used, squares = request.used, request.along() ** 2
    assert not used[0].any()
    for q, h in enumerate(h2):
        whole = np.einsum("ij,ij->j", start, np.linalg.solve(h * P @ K @ P + (1 - h) * np.eye(N), start))
        weights = squares / (h * request.values + 1 - h)
        np.testing.assert_allclose(found[:, q] + (used * weights).sum(axis=0), whole, rtol=2e-3)
        assert (blind[:, q] + weights.sum(axis=0) < 0.995 * whole).all()
