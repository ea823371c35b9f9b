"""Damaged PLINK 2 filesets: refused in one line, or read to values in range; never a crash, a hang or another error.

The decoder is compiled code, which does not look where it reads. The damaged files are read in a process of its own, in
which numba checks every index: an access outside an array is an IndexError there, and a failure here.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from biolmm.errors import InputFileError
from biolmm.files.encoding import Encoding, dosages_from_rows
from biolmm.files.genotypes import Block
from biolmm.files.pgen import open_pgen
from oracles.pgen_files import allele_pairs, related_calls, related_dosages, write_alleles, write_calls, write_dosages

N_CASES = int(os.environ.get("BIOLMM_FUZZ_CASES", "150"))
"""Damaged copies of each file."""


def write_kinds(folder: Path) -> list[Path]:
    """Write a file of each kind; returns their names without suffix."""
    rng = np.random.default_rng(1)
    names = [folder / name for name in ("calls", "many_samples", "dosages", "alleles", "phased", "fixed", "plink1")]
    write_calls(names[0], related_calls(60, 70, rng))
    write_calls(names[1], related_calls(12, 3000, rng))
    write_dosages(names[2], related_dosages(40, 70, rng))
    n_alts = [1, 2, 3, 5, 17, 18] * 6
    pairs = allele_pairs(36, 70, n_alts, rng)
    write_alleles(names[3], pairs, n_alts)
    write_alleles(names[4], pairs, n_alts, rng.random((36, 70)) < rng.choice([0.5, 1.0], (36, 1)))
    write_calls(names[5], related_calls(9, 21, rng))
    names[5].with_suffix(".pgen").write_bytes(
        b"\x6c\x1b\x04" + struct.pack("<IIB", 9, 21, 0x40) + rng.integers(0, 128, 9 * (6 + 84), np.uint8).tobytes()
    )
    write_calls(names[6], related_calls(9, 24, rng))
    names[6].with_suffix(".pgen").write_bytes(b"\x6c\x1b\x01" + rng.bytes(9 * 6))
    return names


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut, lengthen, flip bits or overwrite bytes, more often than not near the start, where the header is."""
    data = np.frombuffer(content, np.uint8).copy()
    header = rng.random() < 0.4
    at = int(rng.integers(0, min(len(data), 120) if header else len(data)))
    kind = rng.integers(0, 6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content + rng.bytes(int(rng.integers(1, 9)))
    if kind == 2:
        data[at : at + int(rng.integers(1, 33))] = rng.choice([0, 255])
    elif kind == 3:
        end = min(len(data), at + int(rng.integers(1, 33)))
        data[at:end] = rng.integers(0, 256, end - at)
    else:
        for place in {at, *(rng.integers(0, len(data), int(rng.integers(0, 4))).tolist())}:
            data[place] ^= 1 << rng.integers(0, 8)
    return data.tobytes()


def check_range(block: Block, n_variants: int, n_samples: int, encoding: Encoding) -> None:
    """Rows have their shape and padding; sums are those of the rows but for rounding, so both are of values in range."""
    rows = block.rows
    assert rows.shape == (n_variants, encoding.width(n_samples)) and rows.dtype == encoding.dtype
    if encoding is Encoding.CALLS:
        used = n_samples % 4
        assert not used or (rows[:, n_samples // 4] >> 2 * used == 255 >> 2 * used).all()
        assert (rows[:, -(-n_samples // 4) :] == 255).all()
    else:
        dosages = dosages_from_rows(rows, encoding, n_samples).astype(np.float64)
        assert block.dosage_sum is not None and block.dosage_squares is not None
        assert (abs(np.nansum(dosages, axis=1) - block.dosage_sum) <= n_samples * 0.5001 / 127).all()
        assert (abs(np.nansum(dosages**2, axis=1) - block.dosage_squares) <= n_samples * 2.0001 / 127).all()


def outcome(prefix: Path) -> str:
    """Open and read a fileset, and check that what comes is in range."""
    try:
        source = open_pgen(prefix)
    except InputFileError as error:
        assert "\n" not in str(error) and str(prefix.parent) in str(error)
        return "refused at opening"
    n, n_samples = source.variants.n, source.samples.n
    refused = 0
    for encoding in (Encoding.CALLS, Encoding.DOSAGE8):
        for start, stop in ((0, n), (n // 2, n // 2 + 1), (n - 1, n)):
            try:
                block = source.decoder.read(start, stop, encoding)
            except InputFileError as error:
                assert "\n" not in str(error) and str(prefix) in str(error)
                refused += 1
                continue
            check_range(block, stop - start, n_samples, encoding)
    return "refused at reading" if refused else "read"


def fuzz(folder: Path) -> None:
    """Print what became of each damaged copy, the case before it is read, so that the last line names a crash."""
    target = folder / "damaged"
    for prefix in write_kinds(folder):
        content = prefix.with_suffix(".pgen").read_bytes()
        for suffix in (".pvar", ".psam"):
            target.with_suffix(suffix).write_bytes(prefix.with_suffix(suffix).read_bytes())
        for case in range(N_CASES):
            print(prefix.name, case, end="\t", flush=True)
            target.with_suffix(".pgen").write_bytes(damaged(content, np.random.default_rng([case, len(content)])))
            print(outcome(target), flush=True)


def test_damage_is_refused_or_harmless(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    compiled = pytestconfig.cache.mkdir("numba_checked") if pytestconfig.cache else tmp_path
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(compiled),
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
    }
    command = [sys.executable, "-W", "error::RuntimeWarning", __file__, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    cases = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"exit {done.returncode} at {cases[-1:]}: {done.stderr[-2000:]}"
    counts = Counter(result for _, result in cases)
    assert counts.total() == 7 * N_CASES
    assert min(counts[result] for result in ("refused at opening", "refused at reading", "read")) > N_CASES, counts


if __name__ == "__main__":
    fuzz(Path(sys.argv[1]))
