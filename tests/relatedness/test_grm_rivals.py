"""PLINK 2 and GCTA compute the same matrix from the same genotypes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from biolmm.relatedness.grm import Grm
from oracles.toy import Calls
from running import run_command, succeed

from .conftest import CONTIGS, write_bed

SINGLE = 2e-6


def varying(calls: Calls) -> Calls:
    """Leave out the two variants that do not vary: PLINK counts them among those that a pair has."""
    return np.delete(calls, [7, 11], axis=0)


@pytest.fixture(scope="module")
def bed(calls: Calls, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the calls as a PLINK file set, with a few variants on X that no matrix is made of."""
    stem = tmp_path_factory.mktemp("bed") / "c"
    write_bed(stem, np.vstack([varying(calls), calls[20:50]]), [*CONTIGS[2:], *["X"] * 30])
    return stem.with_suffix(".bed")


def run_plink(plink: str, bed: Path, out: Path, *options: str) -> None:
    """Run PLINK on the cohort."""
    subprocess.run([plink, "--bfile", bed.with_suffix(""), *options, "--out", out, "--threads", "1", "--memory", "640"],
                   check=True, capture_output=True)  # fmt: skip


@pytest.mark.parametrize("missing", ["mean", "pairwise"])
@pytest.mark.parametrize("alpha", [-1, 0])
def test_plink_make_rel(plink: str, calls: Calls, bed: Path, tmp_path: Path, missing: str, alpha: int) -> None:
    """PLINK divides covariances by the number of variants, we by the sum of 2p(1−p)."""
    modifiers = [*(["cov"] if alpha == 0 else []), *(["meanimpute"] if missing == "mean" else [])]
    run_plink(plink, bed, tmp_path / "p", "--make-rel", *modifiers, "bin")
    succeed("grm", bed, "--out", tmp_path / "k.zarr", "--missing", missing, "--alpha", str(alpha))
    mine, theirs = Grm.open(tmp_path / "k.zarr"), Grm.open(tmp_path / "p.rel.bin")
    assert theirs.sample_id.tolist() == mine.sample_id.tolist()
    called = (varying(calls) != 3).astype(float)
    counts = called.T @ called if missing == "pairwise" else np.full((203, 203), len(called))
    everyone = np.arange(203)
    mean_weight = mine.weights(everyone, everyone) / counts
    np.testing.assert_allclose(mine.dense() * mean_weight, theirs.dense(), atol=SINGLE)


def test_plink_grm_bin_with_counts(plink: str, bed: Path, tmp_path: Path) -> None:
    run_plink(plink, bed, tmp_path / "p", "--make-grm-bin")
    succeed("grm", bed, "--out", tmp_path / "k.zarr", "--missing", "pairwise", "--format", "gcta", "--format", "plink4")
    theirs, mine = Grm.open(tmp_path / "p.grm.bin"), Grm.open(tmp_path / "k.grm.bin")
    np.testing.assert_allclose(mine.dense(), theirs.dense(), atol=SINGLE)
    everyone = np.arange(203)
    np.testing.assert_array_equal(mine.weights(everyone, everyone), theirs.weights(everyone, everyone))
    np.testing.assert_array_equal(Grm.open(tmp_path / "k.rel.bin").dense(), mine.dense())


def test_gcta_on_mice(shared_data: Path, tmp_path: Path) -> None:
    """GCTA 1.94.1, `--make-grm --autosome-num 19 --autosome` on the mapped variants."""
    mice = shared_data / "mouse_hs1940"
    succeed("grm", mice / "mouse_hs1940.bed", "--extract", mice / "mapped_variants.txt", "--out", tmp_path / "k.zarr")
    mine, theirs = Grm.open(tmp_path / "k.zarr"), Grm.open(mice / "gcta" / "m.grm.bin")
    assert mine.sample_id.tolist() == theirs.sample_id.tolist()
    assert np.abs(mine.dense() - theirs.dense()).max() < 1e-5


def test_every_form_opens_as_the_same_matrix(bed: Path, tmp_path: Path) -> None:
    forms = ("--format", "gcta", "--format", "plink", "--sparse-cutoff", "0.2")
    printed = succeed("grm", bed, "--out", tmp_path / "k.zarr", "--missing", "pairwise", *forms)
    assert "203 samples" in printed and "k.grm.sp" in printed
    first = Grm.open(tmp_path / "k.zarr")
    everyone = np.arange(203)
    for name in ("k.grm.bin", "k.rel.bin"):
        succeed("grm", tmp_path / name, "--out", tmp_path / f"{name}.zarr")
        again = Grm.open(tmp_path / f"{name}.zarr")
        np.testing.assert_array_equal(again.dense(), first.dense())
        assert again.sample_id.tolist() == first.sample_id.tolist()
        assert again.family_id.tolist() == first.family_id.tolist()
        if name == "k.grm.bin":
            np.testing.assert_array_equal(again.weights(everyone, everyone), first.weights(everyone, everyone))
    succeed("grm", tmp_path / "k.zarr", "--out", tmp_path / "k.zarr", "--format", "plink4")
    assert (tmp_path / "k.rel.bin").stat().st_size == 203**2 * 4


def test_the_same_command_again_ends_well(bed: Path, tmp_path: Path) -> None:
    out = tmp_path / "k.zarr"
    first = succeed("grm", bed, "--out", out)
    assert succeed("grm", bed, "--out", out) == first
    succeed("grm", out, "--out", tmp_path / "copy.zarr")
    succeed("grm", out, "--out", tmp_path / "copy.zarr")
    for words in ((bed, "--out", out, "--alpha", "0"), (bed, "--out", tmp_path / "copy.zarr")):
        refused = run_command("grm", *words)
        assert (refused.code, refused.err.count("\n"), "--overwrite" in refused.err) == (2, 1, True), refused.err
    succeed("grm", bed, "--out", out, "--alpha", "0", "--overwrite")
    assert Grm.open(out).m != Grm.open(tmp_path / "copy.zarr").m


def test_plan_and_mistakes_are_lines(bed: Path, tmp_path: Path) -> None:
    assert "grm" in succeed("grm", bed, "--out", tmp_path / "k.zarr", "--plan")
    assert not list(tmp_path.iterdir())
    refused = run_command("grm", bed, "--out", tmp_path / "k.zarr", "--tile-samples", "7")
    assert refused.code == 2 and refused.err.count("\n") == 1 and "64" in refused.err
