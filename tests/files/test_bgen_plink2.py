"""BGEN files that PLINK 2 wrote, and ours that it reads: the dosages are those that it exports itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from biolmm.files.bgen import open_bgen
from biolmm.files.encoding import Encoding, dosages_from_rows
from biolmm.files.genotypes import Source
from oracles.bgen_writer import Options, Variant, write_bgen

N = 41
SEX = [i % 3 for i in range(N)]
PLINK_STEP, PRINTED = 1 / 16_384, 5e-6
"""PLINK 2 keeps dosages in steps of 1/16,384 and prints six digits."""


def write_cohort(path: Path, options: Options) -> None:
    """Write 90 variants of soft and hard genotypes on 1, 2 and X, where males have one copy; and their samples."""
    rng = np.random.default_rng(8)
    variants = []
    for i in range(90):
        contig = ("1", "2", "X")[i // 30]
        ploidy = tuple(1 if contig == "X" and sex == 1 and options.layout == 2 else 2 for sex in SEX)
        top = 255 if options.layout == 2 else 32_768
        samples = []
        for z in ploidy:
            parts = np.floor(rng.dirichlet(np.full(z + 1, 0.1 + i % 2)) * top).astype(int)
            parts[rng.integers(0, z + 1)] += top - parts.sum()
            samples.append(tuple(parts.tolist()))
        missing = tuple((rng.random(N) < 0.05).tolist())
        variants.append(Variant(tuple(samples), ploidy, missing, rsid=f"rs{i}", contig=contig, position=3_000_000 + i))
    write_bgen(path, variants, options)
    rows = "".join(f"F{i} S{i} 0 {sex or 'NA'}\n" for i, sex in enumerate(SEX))
    path.with_suffix(".sample").write_text("ID_1 ID_2 missing sex\n0 0 0 D\n" + rows)


def run(plink2: str, *arguments: object) -> None:
    command = [plink2, *map(str, arguments), "--threads", "1", "--memory", "640"]
    subprocess.run(command, check=True, capture_output=True)


def exported(plink2: str, bgen: Path) -> NDArray[np.float64]:
    """Let PLINK 2 say the dosages of ALT of a file; it counts the allele named in the header, A here, which is REF."""
    out = bgen.with_suffix("")
    run(plink2, "--bgen", bgen, "ref-first", "--sample", bgen.with_suffix(".sample"), "--export", "A", "--out", out)
    raw = pd.read_csv(out.with_suffix(".raw"), sep="\t")
    dosages = raw.iloc[:, 6:]
    assert all(name.endswith("_A") for name in dosages)
    return 2 - dosages.to_numpy(np.float64).T


def check(source: Source, expected: NDArray[np.float64]) -> None:
    encoding = Encoding.DOSAGE16
    rows = source.decoder.read(0, source.variants.n, encoding).rows
    tolerance = PLINK_STEP + PRINTED + 0.5 / encoding.steps + 1e-6  # single precision of `dosages_from_rows`
    found = dosages_from_rows(rows, encoding, source.samples.n)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert np.ptp(expected[np.isfinite(expected)]) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    "kind", [("bgen-1.1",), ("bgen-1.2", "bits=8"), ("bgen-1.2", "bits=16"), ("bgen-1.2", "bits=13"), ("bgen-1.3",)],
    ids=" ".join,
)  # fmt: skip
def test_files_of_plink2(tmp_path: Path, plink2: str, kind: tuple[str, ...]) -> None:
    ours, theirs = tmp_path / "ours.bgen", tmp_path / "theirs.bgen"
    write_cohort(ours, Options())
    prefix = theirs.with_suffix("")
    given = ("--bgen", ours, "ref-first", "--sample", ours.with_suffix(".sample"))
    run(plink2, *given, "--export", *kind, "ref-first", "--out", prefix)
    source = open_bgen(theirs)
    assert source.samples.sample_id.tolist() == [f"S{i}" for i in range(N)]
    assert source.samples.family_id.tolist() == [f"F{i}" for i in range(N)]
    assert source.samples.sex.tolist() == SEX
    assert source.variants.variant_id.tolist() == [f"rs{i}" for i in range(90)]
    assert set(source.variants.ref) == {"A"}
    assert set(source.variants.alt) == {"G"}
    check(source, exported(plink2, theirs))


@pytest.mark.parametrize(
    "options",
    [Options(1, "none"), Options(1, "zlib"), Options(2, "none"), Options(2, "zlib"), Options(2, "zstd")],
    ids=lambda options: f"{options.layout}-{options.compression}",
)
def test_files_that_plink2_reads(tmp_path: Path, plink2: str, options: Options) -> None:
    path = tmp_path / "x.bgen"
    write_cohort(path, options)
    check(open_bgen(path), exported(plink2, path))
