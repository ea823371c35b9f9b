"""Fixtures that several test folders use."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from biolmm.store.read import GenotypeStore
from oracles.toy import Toy, make_toy

WritePlink = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread() -> Iterator[None]:
    """Toy matrices are slower with more threads, far slower where other programs use the processors too."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data beside the checkout; CI must have it, elsewhere its tests are skipped."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{folder} is missing: CI must have the real data")
        pytest.skip(f"{folder} is missing")
    return folder


@pytest.fixture
def write_plink(tmp_path: Path) -> WritePlink:
    """Give the naive writer of PLINK file sets: `write_plink(calls, name=, contigs=, sample_ids=) -> .bed path`."""

    def write(
        calls: NDArray[np.uint8],
        name: str = "cohort",
        contigs: list[str] | None = None,
        sample_ids: list[str] | None = None,
    ) -> Path:
        n_variants, n_samples = calls.shape
        contigs = contigs or ["1"] * n_variants
        ids = sample_ids or [f"S{i}" for i in range(n_samples)]
        fam = "".join(f"F{i} {iid} 0 0 {i % 3} -9\n" for i, iid in enumerate(ids))
        bim = "".join(f"{c}\t{name}_{i}\t0\t{10 * i + 1}\tA{i % 5}\tG\n" for i, c in enumerate(contigs))
        (tmp_path / f"{name}.fam").write_text(fam)
        (tmp_path / f"{name}.bim").write_text(bim)
        (tmp_path / f"{name}.bed").write_bytes(b"\x6c\x1b\x01" + b"".join(naive_bed_row(row.tolist()) for row in calls))
        return tmp_path / f"{name}.bed"

    return write


def naive_bed_row(calls: list[int]) -> bytes:
    """Encode one variant from PLINK's own table: 2 copies of A1 = 00, missing = 01, 1 copy = 10, none = 11."""
    code = {2: "00", 3: "01", 1: "10", 0: "11"}
    row = b""
    for i in range(0, len(calls), 4):
        four = "".join(code[call] for call in reversed(calls[i : i + 4]))
        row += bytes([int(four, 2)])
    return row


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Give 1,200 variants on four contigs, 317 samples of three populations, five traits and two covariates."""
    return make_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def plink2() -> str:
    """Find PLINK 2; skip where it is not installed."""
    found = shutil.which("plink2")
    if found is None:
        pytest.skip("plink2 is not installed")
    return found


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Count how often each chunk of any store is read in this process."""
    counted: Counter[int] = Counter()
    read_rows = GenotypeStore.read_rows

    def count(store: GenotypeStore, chunk: int) -> NDArray[np.uint8]:
        counted[chunk] += 1
        return read_rows(store, chunk)

    monkeypatch.setattr(GenotypeStore, "read_rows", count)
    return counted
