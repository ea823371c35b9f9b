"""Heavy commands on worker processes: the same files, bit by bit, as in threads; all on one cluster."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import SpecCluster

from biolmm.cli import cli
from biolmm.cli.root import Section
from biolmm.cluster.options import ClusterOptions
from biolmm.cluster.processes import scheduler_spec, worker_spec
from biolmm.cluster.settings import applied
from biolmm.store.open import genotype_store
from running import Disk, run_command, succeed

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

MARKS = {".json", ".html", ".png"}
"""Records hold times and commands; figures are drawn from the tables."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a scheduler with two worker processes, of which this process is no client."""
    options = ClusterOptions(spill=tmp_path_factory.mktemp("spill"))
    spec = worker_spec(options, n_threads=1, memory_bytes=700 * 10**6, security=None, host="127.0.0.1")
    scheduler = scheduler_spec(options, security=None, host="127.0.0.1")
    with applied(), SpecCluster(workers={0: spec, 1: spec}, scheduler=scheduler, silence_logs="ERROR") as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def made(disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give what some commands start from: a model, PCA loadings, studies in a store."""
    folder = tmp_path_factory.mktemp("made")
    succeed("fit", *disk.inputs(), "--out", folder / "fit", "--solver", "stochastic")
    succeed("pca", disk.store, "--out", folder / "pca", "--components", "2")
    disk.gwas(folder / "gwas", "--method", "linear-only")
    succeed("sumstats", "add", folder / "studies.zarr", folder / "gwas", "--trait", "trait1", "--trait", "trait2")
    names = genotype_store(disk.store).variant_id[:30].tolist()
    (folder / "sets.txt").write_text("".join(f"set{i // 10}\t{name}\n" for i, name in enumerate(names)))
    return folder


def files(out: Path) -> dict[str, bytes]:
    """Read everything below a path, and beside it under its name, but what holds times and commands."""
    found = [out] if out.is_file() else [file for file in out.rglob("*") if file.is_file()]
    beside = [file for file in out.parent.glob(f"{out.name}.*") if file.is_file()]
    contents = {
        str(file.relative_to(out.parent)).removeprefix(out.name): file.read_bytes()
        for file in sorted({*found, *beside})
        if file.suffix not in MARKS
    }
    return {name: gzip.decompress(one) if name.endswith(".gz") else one for name, one in contents.items()}


CASES = {
    "simulate": ("simulate", "{out}.zarr", "--samples", "60", "--variants", "200", "--contigs", "2"),
    "convert": ("convert", "{disk}/toy.bed", "{out}", "--chunk-variants", "64"),
    "export": ("export", "{disk}/toy.zarr", "{out}", "--format", "bed"),
    "gwas": ("gwas", "{inputs}", "--out", "{out}", "--solver", "stochastic"),
    "gwas, exact solver": ("gwas", "{inputs}", "--out", "{out}", "--solver", "exact", "--method", "exact"),
    "scan": ("scan", "--genotypes", "{disk}/toy.zarr", "--model", "{made}/fit", "--out", "{out}"),
    "components": ("components", "{inputs}", "--out", "{out}", "--formula", "genetic + dominance",
                   "--solver", "stochastic", "--no-test"),
    "components, exact": ("components", "{inputs}", "--out", "{out}", "--formula", "genetic(contigs)", "--no-test", "--solver",
                          "exact"),
    "sets": ("sets", "{inputs}", "--out", "{out}", "--set-file", "{made}/sets.txt"),
    "h2": ("h2", "{disk}/toy.zarr", "{tables}", "--out", "{out}", "--solver", "stochastic", "--blocks", "10"),
    "rg": ("rg", "{disk}/toy.zarr", "{tables}", "--out", "{out}", "--blocks", "10", "--method", "rhe"),
    "grm": ("grm", "{disk}/toy.zarr", "--out", "{out}", "--tile-samples", "64", "--per-contig"),
    "relatives": ("relatives", "{disk}/toy.zarr", "--out", "{out}.tsv"),
    "pca": ("pca", "{disk}/toy.zarr", "--out", "{out}", "--components", "3"),
    "project": ("project", "{disk}/toy.zarr", "--loadings", "{made}/pca", "--out", "{out}"),
    "predict": ("predict", "{disk}/toy.zarr", "--model", "{made}/fit", "--out", "{out}", "--folds", "2"),
    "qc": ("qc", "{disk}/toy.zarr", "--out", "{out}"),
    "prune": ("prune", "{disk}/toy.zarr", "--out", "{out}", "--r2", "0.1"),
    "meta": ("meta", "{made}/studies.zarr", "--out", "{out}", "--no-plots"),
    "ld-scores": ("ld-scores", "{disk}/toy.zarr", "--out", "{out}/ld", "--window", "100kb"),
}  # fmt: skip


def run(case: str, out: Path, disk: Disk, made: Path, *more: str) -> dict[str, bytes]:
    """Run one of the commands; return the files that it wrote."""
    given = {"{inputs}": disk.inputs(), "{tables}": disk.inputs()[2:]}
    words: list[str] = []
    for word in CASES[case]:
        words += given[word] if word in given else (word.format(out=out, disk=disk.folder, made=made),)
    out.parent.mkdir(parents=True, exist_ok=True)
    succeed(*words, *more)
    return files(out)


@pytest.mark.parametrize("case", CASES)
def test_a_command_gives_the_same_bits_on_workers(
    case: str, address: str, disk: Disk, made: Path, tmp_path: Path
) -> None:
    here = run(case, tmp_path / "here" / "out", disk, made)
    there = run(case, tmp_path / "there" / "out", disk, made, "--cluster", address)
    assert here
    assert list(here) == list(there)
    assert [name for name in here if here[name] != there[name]] == []


def test_a_store_is_verified_on_workers(address: str, disk: Disk) -> None:
    assert "intact" in succeed("verify", disk.store, "--cluster", address)


def test_every_command_with_a_budget_can_run_on_a_cluster() -> None:
    """Its options are listed under a heading of their own."""
    heavy = [name for name, command in cli.commands.items() if {"memory", "plan"} <= {p.name for p in command.params}]
    assert len(heavy) > 15
    for name in set(heavy) - {"metal", "reanalyse"}:  # text in, text out; and a plan of other commands
        found = [option for option in cli.commands[name].params if isinstance(option, Section)]
        assert found[0].opts == ["--cluster"], name
        assert len(found) == 6
        assert f"{Section.heading}:\n  --cluster TARGET" in succeed(name, "--help"), name


def test_both_ways_to_name_a_cluster_do_the_same(disk: Disk, made: Path, tmp_path: Path) -> None:
    """`run --cluster local -- fit` and `fit --cluster local`; but not both at once."""
    local = ("--cluster", "local", "--workers", "2", "--worker-memory", "600MB")
    fit = ("fit", *disk.inputs(), "--solver", "stochastic")
    succeed(*fit, "--out", tmp_path / "a", *local)
    done = run_command("--quiet", "run", *local, "--", *fit, "--out", tmp_path / "b")
    assert done.code == 0, done.err
    first, second, here = (files(folder) for folder in (tmp_path / "a", tmp_path / "b", made / "fit"))
    assert first == second == here
    twice = run_command("run", *local, "--", *fit, "--out", tmp_path / "c", "--cluster", "local")
    assert twice.code == 64
    assert "has a cluster already" in twice.err
    assert not (tmp_path / "c").exists()


def test_workers_without_a_cluster_are_refused_and_plans_start_none(disk: Disk, tmp_path: Path) -> None:
    fit = ("fit", *disk.inputs(), "--solver", "stochastic", "--out", tmp_path / "out")
    done = run_command(*fit, "--workers", "4")
    assert done.code == 2
    assert "--workers is for workers, and this runs in threads" in done.err
    plan = succeed(*fit, "--cluster", "tls://10.1.2.3:8786", "--workers", "4", "--plan")
    assert "on 4 workers of 1 threads:" in plan
    assert not (tmp_path / "out").exists()


def test_a_step_of_many_ranks_starts_no_cluster_for_each(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "3"}.items():
        monkeypatch.setenv(name, value)
    done = run_command("verify", disk.store, "--cluster", "slurm", "--workers", "2")
    assert done.code == 2
    assert "biolmm run" in done.err
