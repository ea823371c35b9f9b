"""The small commands, and how quickly the command line answers."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from biolmm.cli import main
from running import run_command, simulate, succeed

HEAVY = ("numpy", "pandas", "xarray", "zarr", "numba", "scipy", "dask", "distributed", "matplotlib", "pyarrow", "sgkit")


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from biolmm.cli import main
try:
    main(["gwas", "--help"])
except SystemExit:
    pass
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: biolmm gwas" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_is_printed(arguments: list[str]) -> None:
    done = run_command(*arguments)
    assert done.code == 0
    for command in ("simulate", "convert", "info", "fit", "scan", "gwas", "report"):
        assert f"\n  {command} " in done.out


def test_the_version_is_printed() -> None:
    assert run_command("--version").out.startswith("biolmm, version ")


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "biolmm.cli", "nonsense"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_an_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("biolmm.cli.entry.cli.main", interrupt)
    with pytest.raises(SystemExit) as stop:
        main(["info", "x"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted; the same command continues\n"


def test_info_describes_a_store_for_people_and_for_programs(tmp_path: Path) -> None:
    store = simulate(tmp_path, samples=40, variants=128)
    text = succeed("info", store)
    assert "40 samples × 128 variants" in text
    assert "contig" in text
    found = json.loads(succeed("info", store, "--json"))
    assert (found["n_samples"], found["n_variants"]) == (40, 128)
    assert [contig["name"] for contig in found["contigs"]] == ["1", "2"]


def test_simulated_files_lie_beside_the_store(tmp_path: Path) -> None:
    simulate(tmp_path, samples=40, variants=128)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "toy.zarr", "toy.bed", "toy.bim", "toy.fam", "toy.traits.tsv", "toy.covariates.tsv", "toy.samples.tsv",
        "toy.truth.tsv", "toy.truth.json",
    }  # fmt: skip


def test_converting_twice_does_the_work_once(tmp_path: Path) -> None:
    simulate(tmp_path, samples=40, variants=128)
    succeed("convert", tmp_path / "toy.bed", tmp_path / "c.zarr")
    before = (tmp_path / "c.zarr" / "zarr.json").stat().st_mtime_ns
    assert "40 samples × 128 variants" in succeed("convert", tmp_path / "toy.bed", tmp_path / "c.zarr")
    assert (tmp_path / "c.zarr" / "zarr.json").stat().st_mtime_ns == before
    succeed("convert", tmp_path / "toy.bed", tmp_path / "c.zarr", "--overwrite")
    assert (tmp_path / "c.zarr" / "zarr.json").stat().st_mtime_ns > before


def test_the_report_is_written_again_from_the_files(tmp_path: Path) -> None:
    store = simulate(tmp_path, samples=60, variants=128)
    out = tmp_path / "out"
    succeed("gwas", "--genotypes", store, "--traits", tmp_path / "toy.traits.tsv", "--out", out)
    (out / "report.html").unlink()
    assert succeed("report", out).strip() == str(out / "report.html")
    assert (out / "report.html").read_text().startswith("<!")


def test_quiet_keeps_progress_off_the_terminal(tmp_path: Path) -> None:
    store = simulate(tmp_path, samples=60, variants=128)
    command = ("fit", "--genotypes", store, "--traits", tmp_path / "toy.traits.tsv", "--out")
    assert "fit" in run_command(*command, tmp_path / "a").err
    assert run_command("--quiet", *command, tmp_path / "b").err == ""
    assert logging.getLogger("biolmm").propagate, "the tests' own logging is as it was"
