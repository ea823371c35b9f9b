"""K as an operator against Z written out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.chunks import threads
from biolmm.errors import DamagedStoreError
from biolmm.genotypes import operator as operator_module
from biolmm.genotypes import source as source_module
from biolmm.genotypes import standardised as standardised_module
from biolmm.genotypes.dense import DenseRelatedness
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.linalg.operators import Restriction
from contracts import EPS32, check_operator, draw
from oracles import dense
from oracles.toy import Toy, operator_of, structured_calls, toy_contigs, write_store


def close(found: NDArray[Any], expected: NDArray[Any], n_terms: int) -> None:
    """Compare a product in single precision: each sum of n terms is off by about √n·ε of its size."""
    allowed = 8 * np.sqrt(n_terms) * EPS32 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=allowed)


def restrictions(n: int) -> list[Restriction]:
    """Make two: everybody with an intercept; half of them with three covariates."""
    rng = np.random.default_rng(0)
    observed = rng.random(n) < 0.5
    basis = np.zeros((n, 3))
    basis[observed] = np.linalg.qr(rng.standard_normal((int(observed.sum()), 3)))[0]
    return [Restriction(np.ones(n, dtype=bool), np.full((n, 1), n**-0.5)), Restriction(observed, basis)]


CHOICES: dict[str, dict[str, Any]] = {
    "everything": {},
    "some samples": {"sample_index": np.arange(3, 77, 2)},
    "shuffled samples": {"sample_index": np.random.default_rng(0).permutation(77)},
    "some variants": {"variants": np.arange(2, 300, 3)},
    "some of both": {"sample_index": np.arange(1, 70), "variants": np.arange(0, 200)},
    "one contig left": {"variants": np.arange(10, 100)},
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize(("alpha", "scale"), [(-1.0, "hwe"), (-1.0, "sample"), (0.0, "hwe"), (-0.25, "hwe")])
def test_everything_against_z_written_out(small_toy: Toy, choice: str, alpha: float, scale: str) -> None:
    chosen = CHOICES[choice]
    operator = operator_of(small_toy.store, **chosen, alpha=alpha, scale=scale)
    variants = chosen.get("variants", np.arange(300))
    calls = small_toy.calls[variants][:, chosen.get("sample_index", np.arange(77))]
    contigs = small_toy.contigs[variants]
    Z, weight = dense.standardised(calls, alpha, scale)
    M, N = Z.shape
    X = draw((N, 5))
    assert operator.n_variants == np.count_nonzero(weight)
    assert operator.m == pytest.approx(weight.sum())
    np.testing.assert_allclose(operator.contig_m, [weight[contigs == c].sum() for c in range(4)], atol=1e-9)
    close(operator.matmat(X), Z.T @ (Z @ X) / weight.sum(), N + M)
    parts = np.array([Z[contigs == c].T @ (Z[contigs == c] @ X) for c in range(4)])
    close(operator.contig_products(X), parts, N + M)
    forms = np.array([((Z[contigs == c] @ X) ** 2).sum(axis=0) for c in range(4)])
    close(operator.contig_forms(X), forms, N + M)
    close(operator.dense(), Z.T @ Z, M)
    close(operator.dense(1), Z[contigs == 1].T @ Z[contigs == 1], M)
    K = Z.T @ Z / weight.sum()
    P = [np.diag(r.observed.astype(float)) - r.basis @ r.basis.T for r in restrictions(N)]
    np.testing.assert_allclose(operator.traces(restrictions(N)), [np.trace(p @ K @ p) for p in P], rtol=1e-5)


def test_left_out_column_by_column(small_toy: Toy) -> None:
    operator, X = operator_of(small_toy.store), draw((77, 6))
    left_out = np.array([0, 3, -1, 1, 2, 0])
    Z, weight = dense.standardised(small_toy.calls)
    expected = np.empty((77, 6))
    for column, contig in enumerate(left_out):
        inside = small_toy.contigs != contig
        expected[:, column] = Z[inside].T @ (Z[inside] @ X[:, column]) / weight[inside].sum()
    close(operator.matmat(X, left_out), expected, 377)
    relatedness = DenseRelatedness(operator)
    for column, contig in enumerate(left_out):
        close(relatedness.left_out(int(contig)) @ X[:, column], expected[:, column], 377)


def test_leaving_the_only_contig_out_leaves_no_relatedness(small_toy: Toy) -> None:
    operator = operator_of(small_toy.store, variants=np.arange(50))
    X = draw((77, 2))
    assert not operator.matmat(X, np.array([0, 0])).any()
    assert not DenseRelatedness(operator).left_out(0).any()


def test_the_operator_contract(small_toy: Toy) -> None:
    check_operator(operator_of(small_toy.store).matmat, draw((77, 7)))


def test_mean_diagonal_is_one_without_missing_calls(tmp_path: Path) -> None:
    """Under Hardy–Weinberg proportions each variant adds its weight to the mean diagonal, give or take M^-½."""
    calls = np.random.default_rng(0).binomial(2, 0.3, (2000, 40)).astype(np.uint8)
    operator = operator_of(write_store(tmp_path / "x.zarr", calls))
    assert np.trace(operator.dense()) / operator.m / 40 == pytest.approx(1, abs=0.05)


def test_nothing_depends_on_chunks_partitions_threads_or_panels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, contigs = structured_calls(500, 50), toy_contigs(500)
    X, left_out = draw((50, 40)), np.arange(40) % 5 - 1
    stores = {c: write_store(tmp_path / f"{c}.zarr", calls, contigs, chunk_variants=c) for c in (64, 192, 512)}
    reference = operator_of(stores[64]).matmat(X, left_out)

    def check(operator: GenotypeOperator) -> None:
        close(operator.matmat(X, left_out), reference, 550)

    for store in stores.values():
        check(operator_of(store))
    monkeypatch.setattr(source_module, "MAX_PARTITIONS", 2)
    check(operator_of(stores[64]))
    for count in (1, 2, 3):
        with threads(count):
            np.testing.assert_array_equal(operator_of(stores[192]).matmat(X), operator_of(stores[192]).matmat(X))
            check(operator_of(stores[64]))
    narrow = operator_of(stores[64])
    narrow.panel_bytes = 1
    check(narrow)
    assert narrow.counter.passes == 3  # 40 columns in panels of at least 16


def test_wide_cohorts_are_unpacked_in_pieces(small_toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, X = operator_of(small_toy.store), draw((77, 5))
    left_out = np.array([0, -1, 1, 2, 3])
    calls: list[Callable[[], NDArray[Any]]] = [
        lambda: operator.matmat(X, left_out),
        lambda: operator.contig_products(X),
        lambda: operator.contig_forms(X),
        lambda: operator.traces(restrictions(77)),
        lambda: operator.dense(),
    ]
    expected = [call() for call in calls]
    monkeypatch.setattr(standardised_module, "FULL_WIDTH_SAMPLES", 64)
    monkeypatch.setattr(standardised_module, "SQUARE_TILE", 32)
    monkeypatch.setattr(operator_module, "GRAM_VARIANTS", 16)
    monkeypatch.setattr(operator_module, "MIN_GROUP_BYTES", 1)
    for call, before in zip(calls, expected, strict=True):
        close(call(), before, 377)


@pytest.mark.parametrize(
    ("method", "n_passes"),
    [
        (lambda op: op.matmat(draw((77, 5))), 1),
        (lambda op: op.matmat(draw((77, 5)), np.array([0, 1, 2, 3, -1])), 1),
        (lambda op: op.contig_products(draw((77, 5))), 1),
        (lambda op: op.contig_forms(draw((77, 5))), 1),
        (lambda op: op.traces(restrictions(77)), 1),
        (lambda op: op.dense(), 1),
    ],
    ids=["matmat", "left out", "contig_products", "contig_forms", "traces", "dense"],
)
def test_methods_read_the_genotypes_as_often_as_they_count(
    small_toy: Toy, reads: Counter[int], method: Callable[[GenotypeOperator], Any], n_passes: int
) -> None:
    operator = operator_of(small_toy.store)
    reads.clear()
    method(operator)
    assert operator.counter.passes == n_passes
    # A chunk that holds two contigs is read for each.
    pairs = {(j // 64, int(c)) for j, c in enumerate(small_toy.contigs)}
    assert reads == Counter({chunk: n_passes * sum(c == chunk for c, _ in pairs) for chunk, _ in pairs})
    assert operator.counter.read_bytes == n_passes * 300 * small_toy.store.row_bytes


def test_one_contigs_matrix_reads_that_contig_alone(small_toy: Toy, reads: Counter[int]) -> None:
    operator = operator_of(small_toy.store)
    reads.clear()
    operator.dense(3)
    rows = np.flatnonzero(small_toy.contigs == 3)
    assert set(reads) == set((rows // 64).tolist())
    assert operator.counter.read_bytes == len(rows) * small_toy.store.row_bytes


def test_setting_up_reads_once_what_the_first_pass_needs(small_toy: Toy, reads: Counter[int]) -> None:
    operator = operator_of(small_toy.store, sample_index=np.arange(10), cache_bytes=10**8)
    counted = sum(reads.values())
    assert set(reads) == set(range(small_toy.store.n_chunks))
    operator.matmat(draw((10, 2)))
    assert sum(reads.values()) == counted


def test_damage_stops_a_pass(tmp_path: Path) -> None:
    store = write_store(tmp_path / "x.zarr", structured_calls(200, 40))
    file = next((tmp_path / "x.zarr" / "call_alt_count" / "c" / "2").glob("*"))
    file.unlink()
    with pytest.raises(DamagedStoreError, match="chunk 2"):
        operator_of(store).matmat(draw((40, 2)))
