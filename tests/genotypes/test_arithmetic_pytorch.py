"""The products of a pass by PyTorch against Z written out and against single precision; on a device where there is one."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.chunks import threads
from biolmm.errors import MemoryBudgetError, ParameterError
from biolmm.files.encoding import Encoding, dosages_from_rows, rows_from_dosages
from biolmm.files.genotypes import SampleTable, VariantTable, as_strings
from biolmm.genotypes import operator as operator_module
from biolmm.genotypes.arithmetic import torch_device, torch_int8, torch_library
from biolmm.genotypes.arithmetic.float32 import Float32
from biolmm.genotypes.arithmetic.pytorch import TorchArithmetic, torch_arithmetic
from biolmm.genotypes.coding import MALE
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import standardise
from biolmm.store.read import GenotypeStore
from biolmm.store.write import StoreWriter
from contracts import check_operator, draw
from oracles import dense
from oracles.toy import Toy, operator_of, structured_calls, write_store

HAS_TORCH = importlib.util.find_spec("torch") is not None
HAS_CUDA = HAS_TORCH and importlib.import_module("torch").cuda.is_available()
with_torch = pytest.mark.skipif(not HAS_TORCH, reason='PyTorch is not installed: pip install "biolmm[torch]"')
with_cuda = pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device is here, or PyTorch is not installed")

INT8 = TorchArithmetic("int8", "cpu")
ON_CPU = [INT8, TorchArithmetic("bfloat16", "cpu"), TorchArithmetic("float32", "cpu")]
ON_CUDA = [TorchArithmetic("bfloat16", "cuda"), TorchArithmetic("float32", "cuda:0")]
ALL = [
    *(pytest.param(each, marks=with_torch, id=each.name) for each in ON_CPU),
    *(pytest.param(each, marks=with_cuda, id=each.name) for each in ON_CUDA),
]

ROUNDING = {"int8": 1e-4, "bfloat16": 1e-4, "float32": 1e-6}
"""How far a pass may be from the truth, as a part of its length: what the accuracy of a fit is planned with."""


def product(
    operator: GenotypeOperator, arithmetic: Any, X: NDArray[np.float32], out: Any = None
) -> NDArray[np.float32]:
    """Return `Σ Z_cᵀ Z_c X` of a whole operator in one call of an arithmetic."""
    found: NDArray[np.float32] = arithmetic.operand(X).product(operator.genotypes.tasks, operator.source.reader, out)
    return found


def distance(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return how far a matrix is from the truth as a part of its length."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def without_gaps(calls: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill missing calls with 1."""
    return np.where(calls == 3, 1, calls).astype(np.uint8)


def dosage_store(path: Path, rows: NDArray[Any], encoding: Encoding, n_samples: int) -> GenotypeStore:
    """Write encoded rows as a store of one contig."""
    names = as_strings([f"S{i}" for i in range(n_samples)])
    samples = SampleTable(names, names, np.zeros(n_samples, np.int8))
    ids = as_strings([f"v{j}" for j in range(len(rows))])
    position = np.arange(1, len(rows) + 1, dtype=np.int64)
    variants = VariantTable(np.zeros(len(rows), np.int32), ("1",), position, ids, ids, ids)
    writer = StoreWriter.begin(path, samples, variants, provenance={}, chunk_variants=64, encoding=encoding)
    for chunk in range(writer.n_chunks):
        writer.write_chunk(chunk, rows[slice(*writer.chunk_range(chunk))])
    return GenotypeStore.open(writer.publish())


@pytest.mark.parametrize("n_samples", [317, 320, 322, 323])
@pytest.mark.parametrize("arithmetic", ALL)
def test_a_pass_against_z_written_out(arithmetic: TorchArithmetic, n_samples: int, tmp_path: Path) -> None:
    calls = structured_calls(700, n_samples)
    Z, _ = dense.standardised(calls)
    X = draw((n_samples, 9))
    operator = operator_of(write_store(tmp_path / "s", calls))
    expected = Z.T @ (Z @ X.astype(np.float64))
    found = product(operator, arithmetic, X)
    assert found.shape == X.shape and found.dtype == np.float32
    assert distance(found, expected) < ROUNDING[arithmetic.precision]
    assert distance(product(operator, Float32(), X), found) < ROUNDING[arithmetic.precision]


@pytest.mark.parametrize("arithmetic", ALL)
def test_columns_that_are_not_centred(arithmetic: TorchArithmetic, tmp_path: Path) -> None:
    """A constant is nothing to Z where no call is missing: what it is multiplied to cancels in single precision or better."""
    calls = without_gaps(structured_calls(300, 203))
    Z, _ = dense.standardised(calls)
    X = draw((203, 4)) + 10
    found = product(operator_of(write_store(tmp_path / "s", calls)), arithmetic, X)
    expected = Z.T @ (Z @ (X.astype(np.float64) - 10))
    # The columns are rounded as parts of values about ten times as large.
    assert distance(found, expected) < 11 * ROUNDING[arithmetic.precision]


@pytest.mark.parametrize("arithmetic", ALL)
def test_outliers_cost_no_accuracy(arithmetic: TorchArithmetic, small_toy: Toy) -> None:
    Z, _ = dense.standardised(small_toy.calls)
    X = draw((77, 5))
    X[3, 2], X[:, 4] = 4000.0, 0.0
    others = [0, 1, 3]
    found = product(small_toy.operator(), arithmetic, X)
    expected = Z.T @ (Z @ X.astype(np.float64))
    assert distance(found[:, others], expected[:, others]) < ROUNDING[arithmetic.precision]
    assert distance(found[:, 2], expected[:, 2]) < ROUNDING[arithmetic.precision]
    assert not found[:, 4].any()


@pytest.mark.parametrize("arithmetic", ALL)
def test_rare_variants_beside_common_ones(arithmetic: TorchArithmetic, tmp_path: Path) -> None:
    """Scales from 1.4 to 20: rounding the weights of one kind must not drown the other."""
    rng = np.random.default_rng(5)
    frequency = np.where(np.arange(600) % 2, 0.5, 0.003)
    calls = rng.binomial(2, frequency[:, None], (600, 517)).astype(np.uint8)
    Z, _ = dense.standardised(calls)
    X = draw((517, 6))
    found = product(operator_of(write_store(tmp_path / "s", calls)), arithmetic, X)
    assert distance(found, Z.T @ (Z @ X.astype(np.float64))) < ROUNDING[arithmetic.precision]


@pytest.mark.parametrize("arithmetic", ALL)
def test_contigs_left_out_column_by_column(arithmetic: TorchArithmetic, small_toy: Toy) -> None:
    Z, _ = dense.standardised(small_toy.calls)
    X = draw((77, 6))
    left_out = np.array([0, 3, -1, 1, 2, 0])
    found = product(small_toy.operator(), arithmetic, X, left_out)
    for column, contig in enumerate(left_out):
        kept = Z[small_toy.contigs != contig]
        assert distance(found[:, column], kept.T @ (kept @ X[:, column])) < ROUNDING[arithmetic.precision]
    everything = product(small_toy.operator(), arithmetic, X, np.full(6, 2))
    kept = Z[small_toy.contigs != 2]
    assert distance(everything, kept.T @ (kept @ X)) < ROUNDING[arithmetic.precision]


@pytest.mark.parametrize("held", [76, 77])
@pytest.mark.parametrize("arithmetic", ALL)
def test_tiles_and_blocks_do_not_matter(
    arithmetic: TorchArithmetic, held: int, small_toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = draw((77, 5))
    shapes: list[tuple[int, ...]] = []
    owner, name = (torch_int8._Workplace, "_unpacked") if arithmetic == INT8 else (torch_device._Pass, "_codes")
    unpack = getattr(owner, name)

    def recorded(self: Any, rows: Any, *others: Any) -> Any:
        found = unpack(self, rows, *others)
        shapes.append(tuple(found.shape if arithmetic == INT8 else found[0].shape))
        return found

    monkeypatch.setattr(owner, name, recorded)
    whole = product(small_toy.operator(), arithmetic, X)
    assert max(shapes) == (64, 96)
    shapes.clear()
    monkeypatch.setattr(torch_int8, "TILE_SAMPLES", 32)
    monkeypatch.setattr(torch_int8, "HELD_SAMPLES", held)
    monkeypatch.setattr(torch_int8, "MIN_VARIANTS", 16)
    monkeypatch.setattr(torch_int8, "MAX_VARIANTS", 16)
    monkeypatch.setattr(torch_device, "TILE_ELEMENTS", 96 * 16)
    pieces = product(small_toy.operator(), arithmetic, X)
    assert max(shapes) == ((16, 32) if arithmetic == INT8 else (16, 96))
    assert distance(pieces, whole) < ROUNDING[arithmetic.precision]


@pytest.mark.parametrize("arithmetic", ALL)
def test_the_same_bits_whatever_the_threads(
    arithmetic: TorchArithmetic, small_toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_module, "MIN_GROUP_BYTES", 1)  # a group a partition
    X = draw((77, 5))
    found = []
    for n_threads in (1, 2, 5):
        operator = GenotypeOperator(small_toy.operator().genotypes, arithmetic=arithmetic)
        with threads(n_threads):
            found += [operator.matmat(X), operator.matmat(X)]
    assert all(np.array_equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("arithmetic", [param for param in ALL if param.values[0].precision == "float32"])  # type: ignore[attr-defined]
def test_single_precision_obeys_the_contract(arithmetic: TorchArithmetic, small_toy: Toy) -> None:
    operator = GenotypeOperator(small_toy.operator().genotypes, arithmetic=arithmetic)
    check_operator(operator.matmat, draw((77, 4)))


@pytest.mark.parametrize("arithmetic", ALL)
def test_operands_travel(arithmetic: TorchArithmetic, small_toy: Toy) -> None:
    operator, X = small_toy.operator(), draw((77, 3))
    sent = pickle.loads(pickle.dumps(arithmetic.operand(X)))
    found = sent.product(operator.genotypes.tasks, operator.source.reader, None)
    np.testing.assert_array_equal(found, product(operator, pickle.loads(pickle.dumps(arithmetic)), X))


@pytest.mark.parametrize("encoding", [Encoding.DOSAGE8, Encoding.DOSAGE16])
@pytest.mark.parametrize("arithmetic", ALL)
def test_dosages(arithmetic: TorchArithmetic, encoding: Encoding, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    dosages = np.clip(rng.normal(0.8, 0.6, (150, 77)), 0, 2)
    dosages[rng.random(dosages.shape) < 0.03] = np.nan
    rows = rows_from_dosages(dosages, encoding)
    operator = operator_of(dosage_store(tmp_path / "s", rows, encoding, 77))
    held = dosages_from_rows(rows, encoding, 77).astype(np.float64)
    mean = np.nanmean(held, axis=1, keepdims=True)
    Z = np.nan_to_num((held - mean) / np.sqrt(mean * (1 - mean / 2)))
    X = draw((77, 5))
    assert distance(product(operator, arithmetic, X), Z.T @ (Z @ X)) < ROUNDING[arithmetic.precision]


@pytest.mark.parametrize("arithmetic", ALL)
def test_chromosomes_on_which_males_count_otherwise(arithmetic: TorchArithmetic, tmp_path: Path) -> None:
    calls = structured_calls(240, 77)
    sex = np.where(np.arange(77) % 3, MALE, 0).astype(np.int8)
    calls[120:, (sex == MALE)] = np.where(calls[120:, sex == MALE] == 1, 2, calls[120:, sex == MALE])
    store = write_store(tmp_path / "s", calls, ["1"] * 120 + ["X"] * 120)
    source = ChosenGenotypes.choose(store, np.arange(77), sex=sex, male_x="0/1")
    operator = GenotypeOperator(standardise(source))
    assert any(task.male_tables is not None for task in operator.genotypes.tasks)
    X = draw((77, 4))
    expected = product(operator, Float32(), X)
    assert distance(product(operator, arithmetic, X), expected) < ROUNDING[arithmetic.precision]
    left_out = np.array([0, 1, -1, 1])
    expected = product(operator, Float32(), X, left_out)
    assert distance(product(operator, arithmetic, X, left_out), expected) < ROUNDING[arithmetic.precision]


@pytest.mark.parametrize("arithmetic", ALL)
def test_what_is_not_a_number_stays_in_its_column(arithmetic: TorchArithmetic, small_toy: Toy) -> None:
    X = draw((77, 3))
    X[5, 1] = np.nan
    found = product(small_toy.operator(), arithmetic, X)
    assert np.isnan(found[:, 1]).all() and np.isfinite(found[:, [0, 2]]).all()


@pytest.mark.parametrize("arithmetic", ALL)
def test_nothing_to_multiply(arithmetic: TorchArithmetic, small_toy: Toy) -> None:
    operator = small_toy.operator()
    assert product(operator, arithmetic, np.zeros((77, 0), np.float32)).shape == (77, 0)
    assert not arithmetic.operand(draw((77, 2))).product([], operator.source.reader, None).any()


@pytest.mark.parametrize("n_digits", [1, 2, 3])
def test_digits_add_up_to_the_nearest_whole_number(n_digits: int) -> None:
    values = draw((77, 5)) * [1.0, 1e-20, 1e20, -3.0, 0.0]
    order = torch_int8.plane_order(0, 77)
    digits = torch_int8.Digits.of(values, [order], np.ones(77), n_digits)
    whole = digits.whole_numbers()
    assert np.abs(whole).max() == torch_int8.LARGEST[n_digits]
    assert not whole[order < 0].any()
    there = order >= 0
    off = np.abs(whole[there] * digits.steps - values[order[there]])
    assert np.all(off <= digits.steps / 2 * (1 + 1e-9))
    np.testing.assert_array_equal(digits.sums, whole.sum(axis=0))


@with_torch
def test_rows_stay_on_the_device_as_long_as_they_fit(small_toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bookkeeping of kept rows, with a limit in place of a device's memory."""
    operator, X = small_toy.operator(), draw((77, 3))
    tasks, reader = operator.genotypes.tasks, operator.source.reader
    operand = TorchArithmetic("bfloat16", "cpu").operand(X)
    expected = operand.product(tasks, reader, None)
    sizes = [reader.rows(task.partition).nbytes for task in tasks]
    device = torch_device.Device("cpu", kept_bytes=sum(sizes) - 1)
    monkeypatch.setattr(torch_device, "get_device", lambda _: device)
    read: list[int] = []
    original = torch_device._pinned
    monkeypatch.setattr(
        torch_device, "_pinned", lambda *given: (read.append(given[2].partition.index), original(*given))[1]
    )
    for expected_reads in (len(tasks), 1, 1):
        read.clear()
        np.testing.assert_array_equal(operand.product(tasks, reader, None), expected)
        assert len(read) == expected_reads
    other = operator_of(small_toy.store, variants=np.arange(100))
    operand.product(other.genotypes.tasks, other.source.reader, None)
    read.clear()
    np.testing.assert_array_equal(operand.product(tasks, reader, None), expected)
    assert len(read) == len(tasks)


@with_torch
def test_want_of_device_memory_is_one_line(small_toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = importlib.import_module("torch")

    def fail(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.\nmore")

    monkeypatch.setattr(torch_device._Pass, "over", fail)
    with pytest.raises(MemoryBudgetError, match=r"does not hold 2 columns of 77 samples.*3\.00 GiB.*--device cpu"):
        product(small_toy.operator(), TorchArithmetic("float32", "cpu"), draw((77, 2)))


@pytest.mark.parametrize("n_samples", [1, 3, 4, 5, 31, 32, 33])
def test_padding_is_not_missing(n_samples: int) -> None:
    whole = np.full((3, 16), 255, np.uint8)
    order = np.arange(n_samples)
    for sample in order:
        whole[:, sample // 4] &= ~np.uint8(3 << 2 * (sample % 4))
    assert not torch_device._has_missing(whole, Encoding.CALLS, n_samples)
    for sample in order:
        one = whole.copy()
        one[1, sample // 4] |= np.uint8(3 << 2 * (sample % 4))
        assert torch_device._has_missing(one, Encoding.CALLS, n_samples)


@with_torch
@pytest.mark.parametrize(
    ("precision", "device", "message"),
    [
        ("int8", "gpu", "cpu, cuda, or cuda:K"),
        ("bfloat16", "cpu", "rounded to 8 bits"),
        ("float32", "cpu", "use int8, or leave --device out"),
        pytest.param("int8", "cuda", "use bfloat16 or float32", marks=with_cuda),
        ("auto", "cuda:99", "device cuda:99 is not there"),
    ],
)
def test_what_cannot_be_had_is_said(precision: str, device: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        torch_arithmetic(precision, device)


@with_torch
def test_what_auto_is() -> None:
    assert torch_arithmetic("auto", "cpu") == INT8
    assert INT8.name == "int8-torch-cpu"
    if HAS_CUDA:
        assert torch_arithmetic("auto", "cuda").name == "bfloat16-torch-cuda"
    else:
        with pytest.raises(ParameterError, match="device cuda is not there"):
            torch_arithmetic("auto", "cuda")


def test_without_pytorch_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, small_toy: Toy) -> None:
    def refuse(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'torch'", name=name)

    monkeypatch.setattr(torch_library, "import_module", refuse)
    torch_library.check_bytes.cache_clear()
    for attempt in (
        lambda: torch_arithmetic("auto", "cuda"),
        lambda: product(small_toy.operator(), INT8, draw((77, 2))),
    ):
        with pytest.raises(ParameterError, match=r'not installed: pip install "biolmm\[torch\]"'):
            attempt()


def test_a_broken_pytorch_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> Any:
        raise ImportError("libcudnn.so.9: cannot open shared object file")

    monkeypatch.setattr(torch_library, "import_module", refuse)
    with pytest.raises(ParameterError, match=r"cannot be loaded \(libcudnn"):
        torch_library.load_torch()


@with_torch
def test_inexact_bytes_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = importlib.import_module("torch")
    original = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b, **out: original(a, b).clamp(-(2**15), 2**15 - 1))
    torch_library.check_bytes.cache_clear()
    with pytest.raises(ParameterError, match="not exact on this processor"):
        torch_arithmetic("int8", "cpu")


def test_pytorch_is_not_imported_before_it_is_asked_for() -> None:
    code = "import sys, biolmm.genotypes.arithmetic.pytorch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
