"""Products with Z, variants found in other data, and weights that are applied to other people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from biolmm.chunks import threads
from biolmm.errors import InputFileError, VariantMismatchError
from biolmm.files.genotypes import VariantTable, as_strings
from biolmm.genotypes.matching import match_variants
from biolmm.genotypes.products import sample_products, variant_products, with_scaling
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import standardise
from biolmm.genotypes.weights import VariantWeights, read_weights, table_of
from oracles import dense
from oracles.rewritten import rewritten
from oracles.toy import Toy, structured_calls

Calls = NDArray[np.uint8]


def weights_of(toy: Toy, n_columns: int = 3) -> VariantWeights:
    """Draw weights of the variants of a toy that vary, at its frequencies, per copy of ALT."""
    genotypes = standardise(ChosenGenotypes.choose(toy.store, np.arange(toy.store.n_samples)))
    varies = genotypes.scaling.scale != 0
    W = np.random.default_rng(3).standard_normal((int(varies.sum()), n_columns))
    names = tuple(f"w {i}" for i in range(n_columns))
    frequency = genotypes.scaling.mean[varies] / 2
    table = table_of(toy.store, np.flatnonzero(varies))
    return VariantWeights(table, frequency, np.ones(len(W)), names, W, "effects", {"note": [1, 2]})


def centred(calls: Calls, frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return d − 2f, missing = 0."""
    return np.where(calls == 3, 0.0, calls.astype(float) - 2 * frequency[:, None])


@pytest.mark.parametrize("n_threads", [1, 3])
def test_products_are_those_of_the_dense_matrix(toy: Toy, n_threads: int) -> None:
    Z, _ = dense.standardised(toy.calls)
    rng = np.random.default_rng(5)
    X, W = rng.standard_normal((Z.shape[1], 4)), rng.standard_normal((Z.shape[0], 5))
    genotypes = standardise(ChosenGenotypes.choose(toy.store, np.arange(toy.store.n_samples)))
    with threads(n_threads):
        there, back = variant_products(genotypes, X), sample_products(genotypes, W)
    # Single precision: ε times the length of the sums' terms, with room for a hundred roundings.
    eps = 100 * np.finfo(np.float32).eps
    np.testing.assert_allclose(
        there, Z @ X, atol=eps * np.linalg.norm(Z, axis=1).max() * np.linalg.norm(X, axis=0).max()
    )
    np.testing.assert_allclose(
        back, Z.T @ W, atol=eps * np.linalg.norm(Z, axis=0).max() * np.linalg.norm(W, axis=0).max()
    )


def test_a_square_tile_gives_the_same_products(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    Z, _ = dense.standardised(toy.calls)
    W = np.random.default_rng(5).standard_normal((Z.shape[0], 2))
    genotypes = standardise(ChosenGenotypes.choose(toy.store, np.arange(toy.store.n_samples)))
    monkeypatch.setattr("biolmm.genotypes.standardised.FULL_WIDTH_SAMPLES", 10)
    monkeypatch.setattr("biolmm.genotypes.standardised.SQUARE_TILE", 64)
    monkeypatch.setattr("biolmm.genotypes.products.PANEL_BYTES", 1)
    np.testing.assert_allclose(sample_products(genotypes, W), Z.T @ W, atol=1e-3)


def test_variants_are_found_by_place_and_alleles(toy: Toy, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    order = np.flatnonzero(rng.random(len(toy.calls)) < 0.6)
    swapped = rng.random(len(order)) < 0.4
    other = rewritten(tmp_path / "other.zarr", toy.store, structured_calls(len(toy.calls), 40, seed=8), order, swapped)
    found = match_variants(table_of(toy.store, np.arange(len(toy.calls))), other)
    assert found.wanted.tolist() == order.tolist()
    assert found.variants.tolist() == list(range(len(order)))
    assert found.swapped.tolist() == swapped.tolist()
    assert found.counts["missing"] == len(toy.calls) - len(order)


def test_strands_are_not_turned_over_and_repeats_are_taken_once(toy: Toy) -> None:
    class Given:
        path = Path("other")
        contig_id = ("1",)
        variant_contig = np.zeros(6, np.int32)
        variant_position = np.array([10, 20, 30, 30, 40, 50])
        ref = as_strings(["A", "T", "G", "C", "A", "A"])
        alt = as_strings(["G", "C", "C", "G", "C", "T"])

    wanted = VariantTable(
        np.zeros(5, np.int32), ("chr01",), np.array([10, 20, 30, 40, 50]), as_strings(list("abcde")),
        as_strings(["g", "A", "C", "A", "T"]), as_strings(["a", "G", "G", "G", "A"]),
    )  # fmt: skip
    found = match_variants(wanted, Given())  # type: ignore[arg-type]
    assert found.wanted.tolist() == [0, 2, 4]
    assert found.variants.tolist() == [0, 3, 5]  # the row at 30 that is not swapped
    assert found.swapped.tolist() == [True, False, True]
    counts = found.counts
    assert (counts["other_strand"], counts["other_alleles"], counts["repeated"], counts["strand_ambiguous"]) == (
        1,
        1,
        1,
        2,
    )


def test_weights_apply_to_other_people_whatever_allele_is_counted(toy: Toy, tmp_path: Path) -> None:
    weights = weights_of(toy)
    calls = structured_calls(len(toy.calls), 57, seed=9)
    rng = np.random.default_rng(7)
    order = np.flatnonzero(rng.random(len(toy.calls)) < 0.7)
    other = rewritten(tmp_path / "other.zarr", toy.store, calls, order, rng.random(len(order)) < 0.5)
    applied = weights.apply(other)
    positions = weights.variants.position - 1  # the toy's variants are at 1, 2, …
    there = np.isin(positions, order)
    expected = centred(calls[positions[there]], weights.frequency[there]).T @ weights.W[there]
    np.testing.assert_allclose(applied.scores, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(applied.gram, weights.W[there].T @ weights.W[there])
    some = np.array([50, 3, 7])
    np.testing.assert_allclose(
        weights.apply(other, some).scores, applied.scores[some], atol=1e-5 * np.abs(expected).max()
    )


def test_a_file_holds_weights_exactly(toy: Toy, tmp_path: Path) -> None:
    weights = weights_of(toy)
    read = read_weights(weights.write(tmp_path / "w.parquet", "beta_"), "effects")
    assert read.names == weights.names
    assert read.extra == {"note": [1, 2]}
    np.testing.assert_array_equal(read.W, weights.W)
    np.testing.assert_array_equal(read.frequency, weights.frequency)
    assert read.variants.ref.tolist() == weights.variants.ref.tolist()
    assert pq.read_schema(tmp_path / "w.parquet").names[-1] == "beta_w 2"
    np.testing.assert_array_equal(read.apply(toy.store).scores, weights.apply(toy.store).scores)


def test_damaged_weights_are_refused_in_one_line(toy: Toy, tmp_path: Path) -> None:
    path = weights_of(toy).write(tmp_path / "w.parquet")
    content = path.read_bytes()
    for damage in (b"", content[:100], content[: len(content) // 2], content[:-4] + b"XXXX", b"\0" * len(content)):
        (tmp_path / "bad.parquet").write_bytes(damage)
        with pytest.raises(InputFileError, match=r"bad\.parquet"):
            read_weights(tmp_path / "bad.parquet", "effects")
    with pytest.raises(InputFileError, match="not loadings"):
        read_weights(path, "loadings")
    with pytest.raises(InputFileError, match="missing"):
        read_weights(tmp_path / "none.parquet", "effects")
    table = pq.read_table(path)
    broken = table.set_column(7, "w 0", pa.array([np.nan] * table.num_rows))
    pq.write_table(broken, tmp_path / "nan.parquet")
    with pytest.raises(InputFileError, match="not finite in w 0"):
        read_weights(tmp_path / "nan.parquet", "effects")
    doubled = table.set_column(7, "w 0", pa.array(2 * table["w 0"].to_numpy()))
    pq.write_table(doubled, tmp_path / "other.parquet")
    with pytest.raises(InputFileError, match="checksum"):
        read_weights(tmp_path / "other.parquet", "effects")
    pq.write_table(table.drop_columns(["effect_allele"]), tmp_path / "less.parquet")
    with pytest.raises(InputFileError, match="lacks the columns effect_allele"):
        read_weights(tmp_path / "less.parquet", "effects")


def test_nothing_in_common_is_refused(toy: Toy) -> None:
    weights = weights_of(toy)
    moved = VariantTable(
        weights.variants.contig, weights.variants.contig_id, weights.variants.position + 10_000,
        weights.variants.variant_id, weights.variants.ref, weights.variants.alt,
    )  # fmt: skip
    far = VariantWeights(moved, weights.frequency, weights.scale, weights.names, weights.W, "effects")
    with pytest.raises(VariantMismatchError, match="None of the 1,198 variants"):
        far.apply(toy.store)


def test_no_variants_make_zeros(toy: Toy) -> None:
    source = ChosenGenotypes.choose(toy.store, np.arange(5), np.zeros(0, np.int64))
    genotypes = with_scaling(source, weights_of(toy).scaling[:0])
    assert sample_products(genotypes, np.zeros((0, 2))).tolist() == np.zeros((5, 2)).tolist()
    assert variant_products(genotypes, np.zeros((5, 2))).shape == (0, 2)
