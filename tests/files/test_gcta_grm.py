"""GCTA's and PLINK's matrices: written by definition and read back, and what is damaged is named."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from biolmm.errors import InputFileError
from biolmm.files.gcta_grm import (
    GctaGrm,
    SparseGrm,
    is_gcta_grm,
    read_ids,
    read_sparse_grm,
    row_runs,
    write_gcta_grm,
    write_sparse_grm,
)
from biolmm.files.plink_rel import PlinkRel, is_plink_rel, write_plink_rel

N = 7
IDS = np.array([f"S{i}" for i in range(N)])
FAMILIES = np.array([f"F{i // 2}" for i in range(N)])


def matrix(seed: int = 1) -> NDArray[np.float32]:
    """Draw a symmetric matrix."""
    values = np.random.default_rng(seed).standard_normal((N, N)).astype(np.float32)
    return values + values.T


def write_by_hand(folder: Path, K: NDArray[np.float32], counts: NDArray[np.float32] | None = None) -> Path:
    """Write a set of files number by number."""
    lower = [(i, j) for i in range(N) for j in range(i + 1)]
    (folder / "m.grm.id").write_text("".join(f"{f} {s}\n" for f, s in zip(FAMILIES, IDS, strict=True)))
    (folder / "m.grm.bin").write_bytes(b"".join(struct.pack("<f", K[i, j]) for i, j in lower))
    if counts is not None:
        (folder / "m.grm.N.bin").write_bytes(b"".join(struct.pack("<f", counts[i, j]) for i, j in lower))
    return folder / "m.grm.bin"


def test_reads_the_lower_triangle(tmp_path: Path) -> None:
    K, counts = matrix(), matrix(2)
    path = write_by_hand(tmp_path, K, counts)
    for name in (path, tmp_path / "m", tmp_path / "m.grm.N.bin"):
        assert is_gcta_grm(name)
        found = GctaGrm.open(name)
        assert found.sample_id.tolist() == IDS.tolist() and found.family_id.tolist() == FAMILIES.tolist()
        np.testing.assert_array_equal(found.read_block(slice(0, N), slice(0, N)), np.tril(K))
        np.testing.assert_array_equal(found.read_block(slice(4, 6), slice(1, 3)), K[4:6, 1:3])
        np.testing.assert_array_equal(found.read_block(slice(4, 6), slice(1, 3), counts=True), counts[4:6, 1:3])


@pytest.mark.parametrize("with_counts", [False, True])
def test_writes_what_is_read_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_counts: bool) -> None:
    monkeypatch.setattr("biolmm.files.gcta_grm._BLOCK_BYTES", 8 * N * 3)
    assert row_runs(N) == [(0, 3), (3, 6), (6, 7)]
    K, counts = matrix(), matrix(2)
    (tmp_path / "hand").mkdir()
    write_by_hand(tmp_path / "hand", K, counts if with_counts else None)
    rows, n = (lambda start, stop, M=M: M[start:stop, :stop].astype(float) for M in (K, counts))
    write_gcta_grm(tmp_path / "m", IDS, FAMILIES, rows, n if with_counts else None)
    for file in (tmp_path / "hand").iterdir():
        if file.suffix != ".id":
            assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    assert (tmp_path / "m.grm.id").read_text() == (tmp_path / "hand/m.grm.id").read_text().replace(" ", "\t")
    assert GctaGrm.open(tmp_path / "m").has_counts is with_counts


@pytest.mark.parametrize("file", ["m.grm.bin", "m.grm.N.bin"])
@pytest.mark.parametrize("change", [-4, 4, -1])
def test_sizes_that_do_not_fit_are_refused(tmp_path: Path, file: str, change: int) -> None:
    write_by_hand(tmp_path, matrix(), matrix())
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content + b"\0" * change if change > 0 else content[:change])
    with pytest.raises(InputFileError, match=rf"{file}' has {len(content) + change} bytes.*7 samples.*112"):
        GctaGrm.open(tmp_path / "m.grm.bin")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no samples"),
        ("F S\nF\n", "line 2: 1 columns instead of 2"),
        ("F S\nG S\n", "more than once: S"),
        ("F S x\n", "line 1: 3 columns instead of 2"),
    ],
)
def test_ids_that_cannot_be_used_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.grm.id").write_text(text)
    with pytest.raises(InputFileError, match=message):
        read_ids(tmp_path / "m.grm.id")


def test_ids_with_headers(tmp_path: Path) -> None:
    for text, family in (("#FID\tIID\nF\tA\n", "F"), ("#IID\nA\n", "0"), ("FID IID\nF A\n", "F"), ("A\n", "0")):
        (tmp_path / "m.id").write_text(text)
        found = read_ids(tmp_path / "m.id")
        assert (found.sample_id.tolist(), found.family_id.tolist()) == (["A"], [family])
    with pytest.raises(InputFileError, match="does not exist"):
        read_ids(tmp_path / "none.id")


def test_sparse_there_and_back(tmp_path: Path) -> None:
    K = np.where(np.abs(matrix()) > 1.2, matrix(), 0.0).astype(np.float64) + np.eye(N)
    path = write_sparse_grm(tmp_path / "s", SparseGrm(sparse.csr_array(K), IDS, FAMILIES))
    lines = [line.split() for line in path.read_text().splitlines()]
    assert all(int(i) >= int(j) for i, j, _ in lines)
    found = read_sparse_grm(path)
    np.testing.assert_allclose(found.matrix.toarray(), K, rtol=1e-8)
    assert found.sample_id.tolist() == IDS.tolist()


@pytest.mark.parametrize(
    ("line", "message"),
    [("0 7 0.1", "0 to 6"), ("-1 0 0.1", "0 to 6"), ("1 0", "two indices"), ("a 0 1", "two indices"), ("1 0 nan", "finite"),
     ("1 0 0.3 4", "0 to 6"), ("1 0 0.5\n0 1 0.5", "more than once")],
)  # fmt: skip
def test_sparse_lines_that_cannot_be_used_are_named(tmp_path: Path, line: str, message: str) -> None:
    write_by_hand(tmp_path, matrix())
    (tmp_path / "m.grm.sp").write_text(f"0\t0\t1\n{line}\n")
    with pytest.raises(InputFileError, match=message):
        read_sparse_grm(tmp_path / "m.grm.sp")


@pytest.mark.parametrize("shape", ["square", "triangle"])
@pytest.mark.parametrize("dtype", ["<f8", "<f4"])
def test_plink_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, dtype: str) -> None:
    monkeypatch.setattr("biolmm.files.gcta_grm._BLOCK_BYTES", 8 * N * 2)
    K = matrix()
    path = tmp_path / "k.rel.bin"
    write_plink_rel(path, IDS, FAMILIES, lambda a, b: K[a:b, : N if shape == "square" else b], shape=shape, dtype=dtype)
    expected = K.astype(dtype) if shape == "square" else K.astype(dtype)[np.tril_indices(N)]
    assert path.read_bytes() == expected.tobytes()
    assert is_plink_rel(path)
    found = PlinkRel.open(path)
    assert (found.shape, found.dtype, found.sample_id.tolist()) == (shape, dtype, IDS.tolist())
    np.testing.assert_array_equal(found.read_block(slice(0, N), slice(0, N)), np.tril(K))
    np.testing.assert_array_equal(found.read_block(slice(3, 6), slice(1, 3)), K[3:6, 1:3])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputFileError, match=r"7 samples.*112, 196, 224, 392"):
        PlinkRel.open(path)
    with pytest.raises(InputFileError, match="cannot be read"):
        path.unlink()
        PlinkRel.open(path)
