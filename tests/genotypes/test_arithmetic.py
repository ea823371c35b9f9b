"""Products in bytes against Z written out and against single precision, and the choice between them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.chunks import threads
from biolmm.errors import ParameterError
from biolmm.genotypes.arithmetic import Arithmetic, Float32, arithmetic_of, choice, int8, int8_kernels, packing, vnni
from biolmm.genotypes.arithmetic.int8 import Int8, Int8Operand
from biolmm.genotypes.coding import MALE
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import standardise
from biolmm.store.checkpoint import Checkpoint
from contracts import EPS32, draw
from oracles import dense
from oracles.toy import Toy, operator_of, pack_rows, structured_calls, toy_contigs, write_store

with_vnni = pytest.mark.skipif(bool(vnni.missing_features()), reason="this processor has no AVX-512 VNNI")

ROUNDING = 2.5e-4
"""How far a product may be off, relative to its length: columns by MAX_RANGE/(32,639·√12) = 1.8e-4 at worst and so for the
second product, where it is rarely half of that; missing calls by 1e-4 in each product."""


def product(operator: GenotypeOperator, X: NDArray[Any], out: Any = None) -> NDArray[np.float32]:
    """Return `K X` in bytes."""
    operator.arithmetic = Int8()
    return operator.matmat(np.asarray(X, np.float32), out)


def close(found: NDArray[Any], expected: NDArray[Any], allowed: float = ROUNDING) -> None:
    """Compare column by column, by length."""
    off = np.linalg.norm(found - expected, axis=0)
    size = np.linalg.norm(expected, axis=0)
    assert found.shape == expected.shape
    assert np.all(off <= allowed * size), f"off by {np.max(off / np.maximum(size, 1e-300)):.1e}"


def invented(kind: str, n_variants: int, n_samples: int, missing: float) -> NDArray[np.uint8]:
    """Draw calls of unrelated people; each variant misses between none and twice `missing`."""
    rng = np.random.default_rng(len(kind))
    frequency = {
        "common": rng.uniform(0.05, 0.5, n_variants),
        "rare": rng.choice([1, 2, 5], n_variants) / (2 * n_samples),
        "mixed": 0.01 * 50 ** rng.random(n_variants),
        "REF rare": 1 - 0.01 * 50 ** rng.random(n_variants),
    }[kind]
    calls = rng.binomial(2, frequency[:, None], (n_variants, n_samples)).astype(np.uint8)
    calls[rng.random(calls.shape) < 2 * missing * rng.random((n_variants, 1))] = 3
    calls[0], calls[-1] = 2, 3  # do not vary, were never called
    return calls


@with_vnni
@pytest.mark.parametrize("missing", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("kind", ["common", "rare", "mixed", "REF rare"])
def test_against_z_written_out(tmp_path: Path, kind: str, missing: float) -> None:
    calls = invented(kind, 1100, 700, missing)
    operator = operator_of(write_store(tmp_path / "x.zarr", calls, chunk_variants=576))
    Z, weight = dense.standardised(calls)
    X = draw((700, 7))
    X[:, 3:5] = np.sign(X[:, 3:5])
    X[:, 5] -= X[:, 5].mean()
    X[:, 6] *= 1e-20
    close(product(operator, X), Z.T @ (Z @ X.astype(float)) / weight.sum())


@with_vnni
@pytest.mark.parametrize("n_samples", [2, 31, 32, 33, 127, 255, 256, 300])
def test_every_length_and_width(tmp_path: Path, n_samples: int) -> None:
    calls = structured_calls(70, n_samples)
    operator = operator_of(write_store(tmp_path / "x.zarr", calls))
    X = draw((n_samples, 13))
    Z, _ = dense.standardised(calls)
    expected = Z.T @ (Z @ X.astype(float))
    for r in (1, 2, 3, 4, 5, 13):
        close(product(operator, X[:, :r]) * operator.m, expected[:, :r], 4e-4)  # few samples: no averaging


@with_vnni
@pytest.mark.parametrize("n_variants", [1, 2, 5, 63, 64, 65, 130])
def test_every_number_of_variants(tmp_path: Path, n_variants: int) -> None:
    calls = structured_calls(n_variants + 2, 90)[2:]
    operator = operator_of(write_store(tmp_path / "x.zarr", calls, chunk_variants=1024))
    Z, weight = dense.standardised(calls)
    X = draw((90, 4))
    close(product(operator, X), Z.T @ (Z @ X.astype(float)) / weight.sum(), 4e-4)


@with_vnni
def test_left_out_contigs_and_products_of_contigs(small_toy: Toy) -> None:
    operator, X = operator_of(small_toy.store), draw((77, 6))
    left_out = np.array([0, 3, -1, 1, 2, 0])
    Z, weight = dense.standardised(small_toy.calls)
    expected = np.empty((77, 6))
    for column, contig in enumerate(left_out):
        inside = small_toy.contigs != contig
        expected[:, column] = Z[inside].T @ (Z[inside] @ X[:, column]) / weight[inside].sum()
    close(product(operator, X, left_out), expected)
    parts = operator.contig_products(X)
    for contig in range(4):
        inside = small_toy.contigs == contig
        close(parts[contig], Z[inside].T @ (Z[inside] @ X))


@with_vnni
def test_sums_do_not_overflow(tmp_path: Path) -> None:
    """The largest bytes there are, over more samples than sums of 32 bits hold."""
    rng = np.random.default_rng(0)
    calls = np.full((20, 70_001), 2, np.uint8)
    calls[np.arange(20), rng.integers(0, 70_001, 20)] = 0
    operator = operator_of(write_store(tmp_path / "x.zarr", calls))
    X = np.ones((70_001, 2), np.float32)
    X[::7, 1] = -1
    Z, weight = dense.standardised(calls)
    # Ones are orthogonal to Z: what is left is rounding of the mean, next to √N times the length of a row of Z.
    found, expected = product(operator, X) * weight.sum(), Z.T @ (Z @ X.astype(float))
    assert np.abs(found[:, 0]).max() < 1e-6 * np.abs(Z).max() * 70_001
    close(found[:, [1]], expected[:, [1]])


@with_vnni
def test_outliers_take_a_third_plane(tmp_path: Path) -> None:
    calls = structured_calls(200, 900)
    operator, X = operator_of(write_store(tmp_path / "x.zarr", calls)), draw((900, 3))
    X[5, 1] = 200.0
    Z, _ = dense.standardised(calls)
    plain, wild = Int8().operand(X[:, [0]]), Int8().operand(X)
    assert isinstance(plain, Int8Operand)
    assert isinstance(wild, Int8Operand)
    assert (plain.columns.n_planes, wild.columns.n_planes) == (2, 3)
    assert np.abs(wild.rounded - X)[:, 1].max() <= np.abs(X).max() / packing.TOP[3]
    close(product(operator, X) * operator.m, Z.T @ (Z @ X.astype(float)))


@with_vnni
def test_a_neighbour_with_outliers_does_not_matter(tmp_path: Path) -> None:
    """It takes a third plane, which the other columns leave empty: bit for bit what they get alone."""
    calls = invented("mixed", 300, 900, 0.05)
    operator, X = operator_of(write_store(tmp_path / "x.zarr", calls)), draw((900, 3))
    alone = product(operator, X)
    X[5, 1] = 2000.0
    together = product(operator, X)
    np.testing.assert_array_equal(together[:, [0, 2]], alone[:, [0, 2]])
    assert np.any(together[:, 1] != alone[:, 1])


@with_vnni
def test_columns_of_zeros_none_and_nan(small_toy: Toy) -> None:
    operator, X = operator_of(small_toy.store), draw((77, 3))
    X[:, 1] = 0
    assert not product(operator, X)[:, 1].any()
    assert product(operator, X)[:, 0].any()
    assert product(operator, X[:, :0]).shape == (77, 0)
    X[3, 2] = np.nan
    found = product(operator, X)
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(found[:, :2]).all()


@with_vnni
def test_the_same_bits_by_threads_and_in_another_process(tmp_path: Path) -> None:
    calls = structured_calls(900, 150)
    store = write_store(tmp_path / "x.zarr", calls, toy_contigs(900), chunk_variants=128)
    operator, X = operator_of(store), draw((150, 5))
    with threads(1):
        expected = product(operator, X)
    with threads(3):
        np.testing.assert_array_equal(product(operator, X), expected)
    tasks, reader = operator.genotypes.tasks, operator.source.reader
    operand = Int8().operand(X)
    there = pickle.loads(pickle.dumps(operand))
    np.testing.assert_array_equal(there.product(tasks, reader, None), operand.product(tasks, reader, None))


@with_vnni
def test_what_is_no_diploid_call_is_multiplied_in_single_precision(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    calls = structured_calls(200, 90)
    contigs = ["1"] * 120 + ["X"] * 80
    store = write_store(tmp_path / "x.zarr", calls, contigs)
    sex = rng.choice([MALE, 2], 90).astype(np.int8)
    operator = GenotypeOperator(standardise(ChosenGenotypes.choose(store, np.arange(90), sex=sex)))
    X, left_out = draw((90, 3)), np.array([-1, 0, 1])
    close(product(operator, X, left_out), operator.matmat(X, left_out, exact=True))
    rounded = Int8().operand(X)
    assert isinstance(rounded, Int8Operand)
    alone = product(operator, X, np.zeros(3, np.int64))
    np.testing.assert_array_equal(alone, operator.matmat(rounded.rounded, np.zeros(3, np.int64), exact=True))


@with_vnni
def test_exact_is_single_precision_and_kept_apart(small_toy: Toy, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("biolmm.store.checkpoint.WORTH_SECONDS", 0.0)
    monkeypatch.setattr("biolmm.store.checkpoint.WRITE_SHARE", 1e9)
    operator, X = operator_of(small_toy.store), draw((77, 3))
    single, bytewise = operator.matmat(X), product(operator, X)
    assert np.any(single != bytewise)
    for _ in range(2):
        with operator.resuming(Checkpoint(tmp_path / "kept")):
            np.testing.assert_array_equal(operator.matmat(X), bytewise)
            np.testing.assert_array_equal(operator.matmat(X, exact=True), single)


@with_vnni
@pytest.mark.parametrize("n_columns", range(1, 7))
def test_products_of_bytes(n_columns: int) -> None:
    rng = np.random.default_rng(n_columns)
    panel = rng.choice([0, 1, 127, 254, 255], (33, 64, 4)).astype(np.uint8)
    columns = rng.choice([-128, -127, -1, 0, 5, 127], (33, n_columns, 4)).astype(np.int8)
    sums = rng.integers(-1000, 1000, (n_columns, 64)).astype(np.int32)
    expected = sums + np.einsum("klb,kcb->cl", panel.astype(np.int64), columns.astype(np.int64))
    _add_products(panel, columns, sums)
    np.testing.assert_array_equal(sums, expected)


@with_vnni
def test_unpacking_puts_every_call_in_its_place() -> None:
    rng = np.random.default_rng(0)
    calls = rng.integers(0, 4, (16, 512)).astype(np.uint8)
    codes = rng.integers(0, 256, (16, 4)).astype(np.uint8)
    packed = pack_rows(calls)
    values = codes[np.arange(16)[:, None], calls]
    by_variant = np.zeros((128, 64, 4), np.uint8)
    _unpack_variants(packed, codes, by_variant)
    order = vnni.variant_order(512).reshape(128, 4)
    np.testing.assert_array_equal(by_variant[:, :16], values[:, order].transpose(1, 0, 2))
    assert not by_variant[:, 16:].any()
    by_sample = np.zeros((8, 4, 64, 4), np.uint8)
    for k in range(4):
        _unpack_samples(packed[4 * k : 4 * k + 4], codes[4 * k : 4 * k + 4], by_sample[:, k:])
    lanes = values.reshape(4, 4, 8, 64)[..., vnni.sample_order()]
    np.testing.assert_array_equal(by_sample, lanes.transpose(2, 0, 3, 1))


def test_planes_hold_what_was_rounded() -> None:
    values, order = draw((3, 40)), np.r_[np.arange(40), -1, -1, -1, -1]
    values[1] = 0
    for n_planes in (1, 2, 3):
        packed = packing.packed_columns(values, order, np.ones(40), np.ones(40), n_planes)
        out = np.zeros((40, 3), np.float32)
        int8_kernels.unpack_columns(packed.bytes, order, packed.steps, n_planes, packed.starts, out)
        allowed = np.abs(values).max(axis=1) * (0.5 / packing.TOP[n_planes] + EPS32)
        assert np.all(np.abs(out - values.T).max(axis=0) <= allowed)
        np.testing.assert_allclose(packed.sums * packed.steps, out.sum(axis=0), atol=1e-4)


def test_a_missing_call_is_nearly_at_the_mean() -> None:
    """Within 1e-3 copies for nearly every frequency, 1/254 at worst; the factor is whole and twice it fits in a byte."""
    mean = np.random.default_rng(0).uniform(0.02, 1.98, 200)
    scale = (mean * (1 - mean / 2)) ** -0.5
    words = np.full((200, 2), 0x3, np.uint64)  # one call of 64 is missing
    codes, factor, off = np.empty((256, 4), np.uint8), np.empty(256), np.empty(256)
    square = int8_kernels.choose_codes(words, 64, mean, scale, codes, factor, off)
    factor, off, codes = factor[:200], off[:200], codes[:200]
    np.testing.assert_array_equal(codes[:, :3], np.outer(factor, [0, 1, 2]))
    np.testing.assert_allclose(codes[:, 3] - factor * mean, off, atol=1e-9)
    assert np.all(np.quantile(np.abs(off / factor), [0.9, 1.0]) <= [1e-3, 1 / 254])
    assert square == pytest.approx(np.mean(2 / 64 * (scale * off / factor) ** 2))


def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Arithmetic] = {"float32": Float32()}
    if not vnni.missing_features():
        names |= {"int8": Int8(), "auto": Int8()}
    for name, expected in names.items():
        assert arithmetic_of(name) == expected
    for module in (vnni, int8):
        monkeypatch.setattr(module, "missing_features", lambda: ("avx512vnni",))
    assert arithmetic_of("auto") == Float32()
    for unknown, message in [
        ("int8", "no avx512vnni: use --precision float32"),
        ("float16", "no precision 'float16'"),
        ("bfloat16", "with --device cuda"),
    ]:
        with pytest.raises(ParameterError, match=message):
            arithmetic_of(unknown)
    assert set(choice.PRECISIONS) >= {"auto", "float32", "int8"}


def test_a_worker_without_the_instructions_says_so(small_toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = operator_of(small_toy.store)
    ones = np.ones(77)
    columns = packing.packed_columns(draw((2, 77)), vnni.variant_order(77), ones, ones)
    monkeypatch.setattr(int8, "missing_features", lambda: ("avx512vnni",))
    with pytest.raises(ParameterError, match="AVX-512 VNNI"):
        Int8Operand(77, columns).product(operator.genotypes.tasks, operator.source.reader, None)


@numba.njit(cache=True)
def _add_products(panel, columns, sums):  # type: ignore[no-untyped-def]
    vnni.add_products(panel.ctypes.data, columns.ctypes.data, sums.ctypes.data, panel.shape[0], sums.shape[0])


@numba.njit(cache=True)
def _unpack_variants(packed, codes, panel):  # type: ignore[no-untyped-def]
    addresses = np.empty(16, np.int64)
    int8_kernels.row_addresses(packed, addresses)
    _unpack_variants_at(addresses, codes, panel)


@numba.njit(cache=True)
def _unpack_variants_at(addresses, codes, panel):  # type: ignore[no-untyped-def]
    vnni.unpack_variants(addresses.ctypes.data, 0, codes.ctypes.data, panel.ctypes.data, panel.shape[0] // 64)


@numba.njit(cache=True)
def _unpack_samples(packed, codes, panels):  # type: ignore[no-untyped-def]
    addresses = np.empty(4, np.int64)
    int8_kernels.row_addresses(packed, addresses)
    _unpack_samples_at(addresses, codes, panels)


@numba.njit(cache=True)
def _unpack_samples_at(addresses, codes, panels):  # type: ignore[no-untyped-def]
    stride, n_groups = panels.strides[0], panels.shape[0] // 4
    vnni.unpack_samples(addresses.ctypes.data, 0, codes.ctypes.data, panels.ctypes.data, stride, n_groups)
