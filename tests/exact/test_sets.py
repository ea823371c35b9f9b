"""Sets of variants: the joint test by its definition, its limits, the burden, and the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from biolmm.errors import InputFileError, VariantMismatchError
from biolmm.exact import ExactConfig, ExactScan, TraitModel, decompose, exact_tests
from biolmm.exact.mixture import neg_log10_p_positive
from biolmm.exact.sets import SET_COLUMNS, joint_test, set_tests, variance_test
from biolmm.exact.tails import neg_log10_p_f
from biolmm.files.variant_sets import VariantSet, read_variant_sets
from biolmm.linalg.operators import Restriction
from oracles import exact as oracle
from oracles.scan import imputed
from oracles.toy import Toy


@pytest.fixture(scope="module")
def scan(toy: Toy) -> ExactScan:
    operator = toy.operator()
    return ExactScan.of(operator, toy.cohort("half", "gaps"), operator.source, ExactConfig(loco=False))


def names(toy: Toy, *rows: int) -> tuple[str, ...]:
    return tuple(toy.store.variant_id[list(rows)].tolist())


def test_the_joint_test_is_the_definition(toy: Toy) -> None:
    y, X = toy.y("half"), toy.design
    G = imputed(toy.calls)[[5, 6, 7, 8]]
    basis = decompose(toy.K, Restriction(np.ones(len(y), dtype=bool), np.linalg.qr(X)[0]))
    model = TraitModel.fit(basis, y)
    found = joint_test(model, basis.rotate(G))
    K, n = oracle.centred(toy.K), len(y)
    with_g = np.column_stack([G.T, X])
    assert oracle.log_likelihood(np.log(found.l_remle), K, y, with_g, True) == pytest.approx(
        oracle.maximum(K, y, with_g, True)[1], abs=1e-8
    )
    b, inverse, form = oracle.least_squares(found.l_remle * K + np.eye(n), y, with_g)
    df = n - X.shape[1] - 4
    f = b[:4] @ np.linalg.solve(inverse[:4, :4], b[:4]) / 4 / (form / df)
    assert (found.rank, found.f) == (4, pytest.approx(f, rel=1e-8))
    assert 10**-found.neg_log_10_p_f == pytest.approx(stats.f.sf(f, 4, df), rel=1e-8)
    ratio = 2 * (oracle.maximum(K, y, with_g, False)[1] - oracle.maximum(K, y, X, False)[1])
    assert 10**-found.neg_log_10_p_lrt == pytest.approx(stats.chi2.sf(ratio, 4), rel=1e-6)


def test_a_set_of_one_is_the_variant(toy: Toy) -> None:
    y = toy.y("low")
    basis = decompose(toy.K, Restriction(np.ones(len(y), dtype=bool), np.linalg.qr(toy.design)[0]))
    model = TraitModel.fit(basis, y)
    x = basis.rotate(imputed(toy.calls)[[11]])
    one, joint = exact_tests(model, x), joint_test(model, x)
    # Both searches end at about 1e-9 of log λ.
    assert joint.f == pytest.approx(one.chisq[0], rel=1e-7)
    assert joint.neg_log_10_p_f == pytest.approx(one.neg_log_10_p_value[0], rel=1e-7)
    assert joint.neg_log_10_p_lrt == pytest.approx(one.neg_log_10_p_lrt[0], rel=1e-7)
    # What the others leave nothing of adds no degree of freedom, and no basis changes the test.
    twice = joint_test(model, np.concatenate([x, 3 * x, 1e-9 * x]))
    assert (twice.rank, twice.f) == (1, pytest.approx(joint.f, rel=1e-8))


@pytest.mark.parametrize("scale", [1.0, 30.0, 3000.0])
def test_the_tail_of_forms_is_the_closed_one(scale: float) -> None:
    """Of exponentials, which are pairs of squares: Σ aE > Σ bE′ has a closed form by partial fractions."""
    a, b = np.array([3.0, 2.0, 1.1, 0.4]), scale * np.array([0.7, 0.2, 0.05])
    expected = sum(np.prod(a[i] / (a[i] - np.delete(a, i))) * np.prod(a[i] / (a[i] + b)) for i in range(len(a)))
    found = neg_log10_p_positive(np.concatenate([a, -b]), np.full(7, 2.0))
    assert found == pytest.approx(-np.log10(expected), rel=1e-8)


@pytest.mark.parametrize("k", [1, 2, 30])
@pytest.mark.parametrize("df", [20, 3000])
@pytest.mark.parametrize("f", [1e-2, 1.0, 10.0, 1e4])
def test_the_tail_of_forms_is_that_of_f(k: int, df: int, f: float) -> None:
    found = neg_log10_p_positive(np.array([1 / k, -f / df]), np.array([k, df], dtype=float))
    assert found == pytest.approx(neg_log10_p_f(f, k, df), rel=1e-8, abs=1e-11)


def test_the_variance_of_one_effect_is_the_score_test(toy: Toy) -> None:
    """For one variant Q is the share of the variance that it explains: F = ν Q/(1 − Q), whatever its weight."""
    y = toy.y("half")
    basis = decompose(toy.K, Restriction(np.ones(len(y), dtype=bool), np.linalg.qr(toy.design)[0]))
    model = TraitModel.fit(basis, y)
    V = model.null_h2 * toy.K + (1 - model.null_h2) * np.eye(len(y))
    X = toy.design
    without = oracle.least_squares(V, y, X)[2]
    g = imputed(toy.calls)[17]
    form = oracle.least_squares(V, y, np.column_stack([g, X]))[2]
    df = len(y) - X.shape[1] - 1
    expected = stats.f.sf((without - form) / (form / df), 1, df)
    assert 10 ** -variance_test(model, 2.5 * basis.rotate(g[None, :])) == pytest.approx(expected, rel=1e-7)


def test_p_values_of_the_variance_are_uniform(toy: Toy) -> None:
    """400 traits without effects of the set: Kolmogorov–Smirnov at 0.001, λ estimated each time."""
    rng = np.random.default_rng(12)
    N = toy.store.n_samples
    basis = decompose(toy.K, Restriction(np.ones(N, dtype=bool), np.linalg.qr(toy.design)[0]))
    weighted = basis.rotate(imputed(toy.calls)[40:52]) * rng.uniform(0.5, 3, (12, 1))
    noise = np.sqrt(0.5 * basis.values + 0.5) * rng.standard_normal((400, len(basis.values)))
    p = [10 ** -variance_test(TraitModel.fit(basis, basis.vectors @ one), weighted) for one in noise]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_sets_of_a_store(toy: Toy, scan: ExactScan) -> None:
    sets = [
        VariantSet("alone", names(toy, 20), (2.0,)),
        VariantSet("flat", names(toy, 0, 1), (1.0, 1.0)),
        VariantSet("two", (*names(toy, 40, 31), "absent"), (1.0, 3.0, 1.0)),
        VariantSet("gone", ("absent",), (1.0,)),
    ]
    table = set_tests(scan, sets)
    assert tuple(table.columns) == SET_COLUMNS
    assert table["set"].tolist() == ["alone", "flat", "two", "gone"] * 2
    assert table["trait"].tolist() == ["half"] * 4 + ["gaps"] * 4
    assert table["n_variants"].tolist() == [1, 2, 2, 0] * 2
    assert table["n_listed"].tolist() == [1, 2, 3, 1] * 2
    assert table["joint_rank"].tolist() == [1, 0, 2, 0] * 2
    (system, gaps) = scan.trait_systems(-1)
    G = imputed(toy.calls)
    for position, (one, trait) in enumerate(((system, "half"), (gaps, "gaps"))):
        rows = table[table["trait"] == trait].set_index("set")
        for name, burden in (("alone", 2 * G[20]), ("two", G[40] + 3 * G[31])):
            expected = exact_tests(one.models[0], one.basis.rotate(burden[None, :] - burden.mean()))
            assert rows.loc[name, "burden_beta"] == pytest.approx(expected.beta[0], rel=1e-8)
            assert rows.loc[name, "burden_neg_log_10_p_value"] == pytest.approx(
                expected.neg_log_10_p_value[0], rel=1e-8
            )
        assert rows.loc["flat", "burden_beta":].drop("joint_rank").isna().all()
        assert rows.loc["two", "n"] == np.isfinite(toy.y(trait)).sum(), position


def test_a_set_is_tested_without_its_contig(toy: Toy) -> None:
    operator = toy.operator()
    scan = ExactScan.of(operator, toy.cohort("half"), operator.source, ExactConfig(loco=True))
    sets = [VariantSet("here", names(toy, 5, 6), (1.0, 1.0)), VariantSet("both", names(toy, 5, 1100), (1.0, 1.0))]
    table = set_tests(scan, sets).set_index("set")
    for name, rows, contig in (("here", [5, 6], 0), ("both", [5, 1100], -1)):
        (system,) = scan.trait_systems(contig)
        expected = joint_test(system.models[0], system.basis.rotate(imputed(toy.calls)[rows]))
        # Dosages of the sets are rotated by another product.
        assert table.loc[name, "joint_f"] == pytest.approx(expected.f, rel=1e-7)


def test_sets_that_are_nowhere(toy: Toy, scan: ExactScan) -> None:
    with pytest.raises(VariantMismatchError, match="None of the 1 variants of the sets"):
        set_tests(scan, [VariantSet("gone", ("absent",), (1.0,))])


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sets.txt"
    path.write_text("set\tvariant\tweight\n# comment\nA\trs1\t2\nB\trs1\t0.5\nA,rs2,1\n\n")
    assert read_variant_sets(path) == (VariantSet("A", ("rs1", "rs2"), (2.0, 1.0)), VariantSet("B", ("rs1",), (0.5,)))
    path.write_text("gene snp\nA rs1\n")
    assert read_variant_sets(path) == (VariantSet("A", ("rs1",), (1.0,)),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A\n", "line 1: 1 fields where 2 or 3 are expected"),
        ("A rs1\nA rs2 1\n", "line 2: 3 fields, but 2 in the lines before"),
        ("A rs1 1\nA rs2 -1\n", "line 2: '-1' is no weight"),
        ("A rs1 1\nA rs2 nan\n", "line 2: 'nan' is no weight"),
        ("A rs1\nA rs1\n", "line 2: variant 'rs1' is in set 'A' already"),
        ("# nothing\n", "holds no set"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sets.txt"
    path.write_text(text)
    with pytest.raises(InputFileError, match=message):
        read_variant_sets(path)
