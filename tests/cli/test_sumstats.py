"""`biolmm sumstats` from the command line."""

from __future__ import annotations

from pathlib import Path

from oracles.sumstats import random_rows, write_study
from running import run_command, succeed


def test_add_info_remove_verify(tmp_path: Path) -> None:
    rows = random_rows(80)
    a, b = write_study(tmp_path / "a.tsv", rows), write_study(tmp_path / "b.tsv", rows[10:])
    store = tmp_path / "s.zarr"
    assert "add" in succeed("sumstats", "add", store, a, b, "--plan") and not store.exists()
    out = succeed("sumstats", "add", store, a, b, "--name", "first", "--name", "second", "--palindromic", "trust")
    assert "80 variants, 2 studies" in out and "second  (GWAS-SSF)  70 of 70 records" in out
    assert "3 studies" in succeed("sumstats", "add", store, b, "--build", "hg19")
    assert "3 studies" in succeed("sumstats", "add", store, b, "--replace")
    said = succeed("sumstats", "info", store)
    assert "palindromic trust" in said and "build GRCh37" in said and "first" in said
    assert "2 studies" in succeed("sumstats", "remove", store, "second")
    assert "is intact" in succeed("sumstats", "verify", store)
    (store / "beta" / "c" / "0" / "0").write_bytes(b"x" * 50)
    done = run_command("sumstats", "verify", store)
    assert done.code == 1 and "beta/c/0/0" in done.out


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    a = write_study(tmp_path / "a.tsv", random_rows(30))
    for words, message in (
        (["--map", "beta"], "no COLUMN=ROLE"),
        (["--map", "beta=slope"], "no such role"),
        (["--name", "x", "--name", "y"], "2 times for 1 studies"),
        (["--trait", "x", "--trait", "y", str(a)], "give one path"),
        (["--alleles", "metal", "--reference", "x.fa"], "knows no reference"),
        (["--memory", "1MB"], "--memory is"),
        (["--build", "hg17"], "hg17"),
    ):
        done = run_command("sumstats", "add", tmp_path / "s.zarr", a, *words)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done.err
    assert not (tmp_path / "s.zarr").exists()
