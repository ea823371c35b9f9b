"""`gwas --method exact` and `sets` from the command line: files, plans, refusals, and a kill in between."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.schema import EXACT_COLUMNS, H2_COLUMNS, LEAD_COLUMNS
from biolmm.store.read import GenotypeStore
from running import Disk, run_command, same_statistics, simulate, statistics, succeed


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Give 150 people with families, 320 variants on two contigs, and two traits with missing values."""
    folder = tmp_path_factory.mktemp("disk")
    simulate(folder, "--large", "1")
    return Disk(folder)


@pytest.fixture(scope="module")
def exact(disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disk.gwas(tmp_path_factory.mktemp("exact") / "out", "--method", "exact")


def test_what_is_written(disk: Disk, exact: Path) -> None:
    table = pd.read_parquet(exact / "associations")
    assert len(table) == 2 * 320
    assert {column.name for column in EXACT_COLUMNS} <= set(table.columns)
    assert table["exact"].all()
    assert tuple(pd.read_csv(exact / "h2.tsv", sep="\t").columns) == H2_COLUMNS
    assert tuple(pd.read_csv(exact / "leads.tsv", sep="\t").columns) == LEAD_COLUMNS
    assert (exact / "report.html").is_file()
    again = succeed("gwas", *disk.inputs(), "--out", exact, "--method", "exact")
    assert "report.html" in again


def test_fixed_ratios_are_the_mixed_model(disk: Disk, tmp_path: Path) -> None:
    fixed = disk.gwas(tmp_path / "fixed", "--method", "exact-p3d")
    mixed = disk.gwas(tmp_path / "mixed", "--solver", "exact")
    one, two = statistics(fixed), statistics(mixed)
    np.testing.assert_allclose(one["chisq"], two["chisq"], rtol=5e-4, atol=1e-5)  # of one, predictors are float32
    h2 = [pd.read_csv(out / "h2.tsv", sep="\t") for out in (fixed, mixed)]
    np.testing.assert_allclose(h2[0]["h2"], h2[1]["h2"], atol=1e-6)
    given = disk.gwas(tmp_path / "given", "--method", "exact-p3d", "--fixed-h2", "0.25")
    np.testing.assert_allclose(pd.read_parquet(given / "associations")["l_remle"].dropna(), 1 / 3)


def test_sets_from_the_command_line(disk: Disk, tmp_path: Path) -> None:
    ids = GenotypeStore.open(disk.store).variant_id
    file = tmp_path / "genes.txt"
    file.write_text("".join(f"gene{i // 8}\t{name}\n" for i, name in enumerate(ids[:48])))
    printed = succeed("sets", *disk.inputs(), "--set-file", file, "--out", tmp_path / "out", "--no-loco")
    assert printed.strip().endswith("sets.tsv")
    table = pd.read_csv(tmp_path / "out" / "sets.tsv", sep="\t")
    assert table["set"].tolist() == [f"gene{i}" for i in range(6)] * 2
    assert table["joint_neg_log_10_p_value"].notna().all()
    other = run_command("sets", *disk.inputs(), "--set-file", tmp_path / "none.txt", "--out", tmp_path / "out2")
    assert (other.code, "none.txt" in other.err) == (2, True)


def test_other_sets_do_not_replace_results(disk: Disk, tmp_path: Path) -> None:
    ids = GenotypeStore.open(disk.store).variant_id
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("".join(f"a\t{name}\n" for name in ids[:4]))
    other.write_text("".join(f"b\t{name}\n" for name in ids[:4]))
    out = tmp_path / "out"

    def words(file: Path) -> tuple[str | Path, ...]:
        return ("sets", *disk.inputs(), "--set-file", file, "--out", out, "--no-loco")

    succeed(*words(one))
    before = {name: (out / name).read_bytes() for name in ("sets.tsv", "run.json", "analysis.json")}
    refused = run_command(*words(other))
    assert (refused.code, "--overwrite" in refused.err, "other.txt" in refused.err) == (2, True, True), refused.err
    assert {name: (out / name).read_bytes() for name in before} == before
    succeed(*words(one))
    assert (out / "sets.tsv").read_bytes() == before["sets.tsv"]
    succeed(*words(other), "--overwrite")
    assert set(pd.read_csv(out / "sets.tsv", sep="\t")["set"]) == {"b"}


def test_options_that_mean_nothing_are_refused(disk: Disk, exact: Path, tmp_path: Path) -> None:
    for options, message in (
        (("--fixed-h2", "0.3"), "--fixed-h2 fixes what --method exact estimates"),
        (("--known-model", str(exact)), "--known-model has spectra of the streaming solver"),
        (("--memory", "1MiB"), "eigendecomposition would use"),
    ):
        done = run_command("gwas", *disk.inputs(), "--method", "exact", "--out", tmp_path / "out", *options)
        assert done.code == 2
        assert message in done.err
    planned = succeed("gwas", *disk.inputs(), "--method", "exact", "--out", tmp_path / "out", "--plan")
    assert "eigendecomposition" in planned
    assert "exact tests" in planned


def test_killed_it_continues_to_the_same_bits(disk: Disk, exact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "biolmm.cli", "gwas", *disk.inputs(), "--method", "exact", "--out", str(out)]
    killed = 0
    for pattern in ("associations/trait=trait1/contig=1/part-*.parquet",):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and not any(out.glob(pattern)):
            time.sleep(0.001)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 1
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert same_statistics(out, exact)
    assert (out / "leads.tsv").read_text() == (exact / "leads.tsv").read_text()
