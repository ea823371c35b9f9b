"""Products with Z, variants found in other data, and weights that are applied to other people."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
        variant_id = as_strings(["", "", "", "", "", ""])
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


Row = tuple[str, str, str]
"""REF, ALT and id of a variant at one place."""


def matched_at_one_place(wanted: list[Row], there: list[Row]) -> tuple[dict[int, tuple[int, bool]], dict[str, int]]:
    """Match variants of one place; return which goes with which, and whether it is swapped."""

    class Given:
        path = Path("other")
        contig_id = ("1",)
        variant_contig = np.zeros(len(there), np.int32)
        variant_position = np.full(len(there), 5)
        ref, alt, variant_id = (as_strings([row[k] for row in there]) for k in range(3))

    ref, alt, ids = (as_strings([row[k] for row in wanted]) for k in range(3))
    table = VariantTable(np.zeros(len(wanted), np.int32), ("1",), np.full(len(wanted), 5), ids, ref, alt)
    found = match_variants(table, Given())  # type: ignore[arg-type]
    assert found.variants.tolist() == sorted(set(found.variants.tolist()))
    rows = zip(found.variants.tolist(), found.swapped.tolist(), strict=True)
    return dict(zip(found.wanted.tolist(), rows, strict=True)), found.counts


AG, GA = ("A", "G"), ("G", "A")


@pytest.mark.parametrize(
    ("wanted", "there", "pairs"),
    [
        # The n-th goes with the n-th.
        ([(*AG, "."), (*AG, ".")], [(*AG, "."), (*AG, ".")], {0: (0, False), 1: (1, False)}),
        ([(*AG, "p"), (*AG, "p")], [(*GA, "p"), (*GA, "p")], {0: (0, True), 1: (1, True)}),
        ([(*AG, "p"), (*AG, "p")], [(*GA, "p"), (*AG, "p")], {0: (0, True), 1: (1, False)}),
        # Ids come first, whatever is counted; what they leave is in order.
        ([(*AG, "p"), (*AG, "q")], [(*AG, "q"), (*GA, "p")], {0: (1, True), 1: (0, False)}),
        ([(*AG, "q"), (*AG, "r")], [(*AG, "p"), (*AG, "q"), (*AG, "r")], {0: (1, False), 1: (2, False)}),
        ([(*AG, "q"), (*AG, "s"), (*AG, ".")], [(*AG, "."), (*AG, "."), (*AG, "q")],
         {0: (2, False), 1: (0, False), 2: (1, False)}),
        # An insertion and a deletion are told apart by what is counted.
        ([("A", "AT", "."), ("AT", "A", ".")], [("AT", "A", "x"), ("A", "AT", "y")], {0: (1, False), 1: (0, False)}),
        # The same alleles fewer times: no other strand, no other alleles, A/T or not.
        ([(*AG, "."), (*AG, ".")], [(*AG, ".")], {0: (0, False)}),
        ([("A", "T", "."), ("A", "T", ".")], [("T", "A", ".")], {0: (0, True)}),
    ],
)  # fmt: skip
def test_repeated_variants_are_paired_one_to_one(
    wanted: list[Row], there: list[Row], pairs: dict[int, tuple[int, bool]]
) -> None:
    found, counts = matched_at_one_place(wanted, there)
    assert found == pairs
    missing = len(wanted) - len(pairs)
    assert (counts["missing"], counts["fewer_copies"]) == (missing, missing)
    assert (counts["other_strand"], counts["other_alleles"]) == (0, 0)
    assert counts["repeated"] == (len(pairs) if len(there) > 1 else 0)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_as_many_are_paired_as_there_are(data: st.DataObject) -> None:
    row = st.tuples(st.sampled_from("AG"), st.sampled_from("CT"), st.sampled_from([".", "p", "q"]), st.booleans())
    draws = [data.draw(st.lists(row, max_size=8)) for _ in range(2)]
    wanted, there = ([(b, a, name) if turned else (a, b, name) for a, b, name, turned in rows] for rows in draws)
    found, counts = matched_at_one_place(wanted, there)
    times = [Counter(frozenset(row[:2]) for row in rows) for rows in (wanted, there)]
    assert len(found) == (times[0] & times[1]).total()
    assert counts["fewer_copies"] == sum(max(0, n - times[1][each]) for each, n in times[0].items() if times[1][each])
    for mine, (other, swapped) in found.items():
        assert wanted[mine][:2] == (there[other][1::-1] if swapped else there[other][:2])
    own, _ = matched_at_one_place(there, there)
    assert [(own[k], (there[own[k][0]] == there[k])) for k in range(len(there))] == [
        ((k, False), True) for k in range(len(there))
    ]


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
