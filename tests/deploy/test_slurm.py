"""deploy/slurm on a real cluster: runs end with the results of one process, whatever is lost on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deploy.conftest import DEPLOY, Analysis, receipts, wait_for_parts
from deploy.slurm_cluster import SlurmCluster, wait_for
from running import close_statistics, same_statistics, statistics, succeed

pytestmark = pytest.mark.slurm

SCRIPT = DEPLOY / "slurm" / "biolmm.sbatch"
SMALL = ("--ntasks=3", "--cpus-per-task=1", "--mem-per-cpu=1300")
"""A leader and two workers."""
SPREAD = ("-N3", "--ntasks-per-node=1", *SMALL)


def submit(
    slurm: SlurmCluster, folder: Path, *words: str | Path, size: tuple[str, ...] = SMALL, **settings: str
) -> str:
    """Submit biolmm.sbatch from a folder, with the site's settings in the environment."""
    site = {"BIOLMM_SLURM": str(SCRIPT.parent), "BIOLMM_LEADER_TIMEOUT": "15", **settings}
    return slurm.submit(*size, "-D", folder, SCRIPT, *words, **site)


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happened to: what every other one has to give, bit for bit."""

    folder: Path
    job: str

    @property
    def out(self) -> Path:
        """The results."""
        return self.folder / "out"

    @property
    def parts(self) -> int:
        """Number of parts of the scan."""
        return receipts(self.out)


@pytest.fixture(scope="session")
def undisturbed(slurm: SlurmCluster, analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Run the analysis on three tasks."""
    folder = tmp_path_factory.mktemp("undisturbed")
    job = submit(slurm, folder, *analysis.words, "--out", folder / "out")
    assert slurm.wait(job) == ("COMPLETED", 0), log_of(folder, job)
    return Undisturbed(folder, job)


def log_of(folder: Path, job: str) -> str:
    """Read what the job printed."""
    return (folder / f"biolmm-{job}.log").read_text()


def start_now(slurm: SlurmCluster, job: str) -> None:
    """Let a job that is queued again start soon: SLURM holds it back for two minutes, and its nodes refuse it at once."""
    wait_for(lambda: slurm.state(job) == "PENDING", 30, f"job {job} being queued again")
    slurm.command("scontrol", "update", f"jobid={job}", "starttime=now+5seconds")


def finished(out: Path) -> bool:
    """Whether an analysis says that it is finished."""
    record = out / "run.json"
    return record.exists() and json.loads(record.read_text())["finished"] is not None


def ranks_of(slurm: SlurmCluster, job: str, rank: int) -> list[int]:
    """Find the processes of a task of the job's step."""
    found = []
    for node in slurm.nodes:
        for pid in slurm.processes(node):
            with suppress(OSError):
                words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                mine = {f"SLURM_JOB_ID={job}".encode(), f"SLURM_PROCID={rank}".encode()} <= set(words)
                if mine and any(word.startswith(b"SLURM_STEP_NUM_TASKS=") for word in words):
                    found.append(pid)
    return found


def kill_rank(slurm: SlurmCluster, job: str, rank: int) -> None:
    """Kill a task as a lack of memory would: at once, with all its processes."""
    found = ranks_of(slurm, job, rank)
    assert found
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_run_on_three_tasks_agrees_with_one_process(
    undisturbed: Undisturbed, analysis: Analysis, tmp_path: Path
) -> None:
    succeed(*analysis.words, "--out", tmp_path / "out")
    assert close_statistics(undisturbed.out, tmp_path / "out")
    log = log_of(undisturbed.folder, undisturbed.job)
    assert "leading at tls://" in log
    assert len(re.findall(r"worker: 1 threads, 1\.1 GiB", log)) == 2
    assert undisturbed.parts > 50


def test_certificates_and_results_are_the_users_alone(undisturbed: Undisturbed) -> None:
    run = next(undisturbed.folder.glob("biolmm-run-*"))
    private = [run, *run.rglob("*"), undisturbed.out, undisturbed.out / "run.json"]
    assert [path for path in private if path.stat().st_mode & 0o077] == []
    assert any(path.name.endswith(".pem") for path in private)


def test_the_users_mistake_is_not_tried_again(slurm: SlurmCluster, analysis: Analysis, tmp_path: Path) -> None:
    job = submit(slurm, tmp_path, *analysis.words, "--trait", "absent", "--out", tmp_path / "out")
    assert slurm.wait(job) == ("FAILED", 64), log_of(tmp_path, job)
    log = log_of(tmp_path, job)
    assert "absent" in log
    assert log.count("run directory") == 1


def test_a_lost_node_is_done_without(
    slurm: SlurmCluster, analysis: Analysis, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    job = submit(slurm, tmp_path, *analysis.words, "--out", tmp_path / "out", size=SPREAD)
    wait_for_parts(tmp_path / "out", 5)
    lost = "n3" if not ranks_on(slurm, job, "n3", 0) else "n2"
    slurm.lose_node(lost)
    left = undisturbed.parts - receipts(tmp_path / "out")
    try:
        assert slurm.wait(job) == ("COMPLETED", 0), log_of(tmp_path, job)
    finally:
        slurm.start_node(lost)
        slurm.back_up(lost)
    assert left > 0
    assert log_of(tmp_path, job).count("run directory") == 1
    assert same_statistics(undisturbed.out, tmp_path / "out")


def ranks_on(slurm: SlurmCluster, job: str, node: str, rank: int) -> bool:
    """Whether a task of the job runs on a node."""
    return bool(set(slurm.processes(node)) & set(ranks_of(slurm, job, rank)))


def test_a_killed_worker_is_done_without(
    slurm: SlurmCluster, analysis: Analysis, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    job = submit(slurm, tmp_path, *analysis.words, "--out", tmp_path / "out")
    wait_for_parts(tmp_path / "out", 5)
    kill_rank(slurm, job, 2)
    assert receipts(tmp_path / "out") < undisturbed.parts
    assert slurm.wait(job) == ("COMPLETED", 0), log_of(tmp_path, job)
    assert same_statistics(undisturbed.out, tmp_path / "out")


def test_a_killed_leader_is_started_again_in_the_allocation(
    slurm: SlurmCluster, analysis: Analysis, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    job = submit(slurm, tmp_path, *analysis.words, "--out", tmp_path / "out")
    wait_for_parts(tmp_path / "out", 5)
    kill_rank(slurm, job, 0)
    kept = receipts(tmp_path / "out")
    assert slurm.wait(job) == ("COMPLETED", 0), log_of(tmp_path, job)
    assert same_statistics(undisturbed.out, tmp_path / "out")
    # Workers finish what they have in hand after their leader is gone.
    assert parts_to_do(log_of(tmp_path, job))[-1] <= undisturbed.parts - kept < undisturbed.parts
    assert "ended with exit code 70" in log_of(tmp_path, job)


def parts_to_do(log: str) -> list[int]:
    """Read how many parts every life of a run had to do."""
    return [int(found) for found in re.findall(r"(\d+) of \d+ parts to do", log)]


def test_a_requeued_job_continues(
    slurm: SlurmCluster, analysis: Analysis, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    job = submit(slurm, tmp_path, *analysis.words, "--out", tmp_path / "out")
    wait_for_parts(tmp_path / "out", 5)
    slurm.command("scontrol", "requeue", job)
    start_now(slurm, job)
    assert slurm.wait(job) == ("COMPLETED", 0), log_of(tmp_path, job)
    assert slurm.show(job)["Restarts"] == "1"
    first, second = parts_to_do(log_of(tmp_path, job))
    assert first == undisturbed.parts > second
    assert same_statistics(undisturbed.out, tmp_path / "out")


def test_usr1_stops_at_a_checkpoint_and_queues_again(
    slurm: SlurmCluster, analysis: Analysis, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """USR1 goes to the tasks, as `--signal=USR1@300` sends it before the time is up."""
    job = submit(slurm, tmp_path, *analysis.words, "--out", tmp_path / "out")
    wait_for_parts(tmp_path / "out", 5)
    slurm.command("scancel", "--signal=USR1", job)
    start_now(slurm, job)
    kept = receipts(tmp_path / "out")
    assert "ended with exit code 75" in log_of(tmp_path, job)
    assert slurm.wait(job) == ("COMPLETED", 0), log_of(tmp_path, job)
    assert parts_to_do(log_of(tmp_path, job)) == [undisturbed.parts, undisturbed.parts - kept]
    assert same_statistics(undisturbed.out, tmp_path / "out")


def test_usr1_ends_with_75_where_nothing_is_queued_again(
    slurm: SlurmCluster, analysis: Analysis, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    words = (*analysis.words, "--out", tmp_path / "out")
    job = submit(slurm, tmp_path, *words, BIOLMM_REQUEUE="0")
    wait_for_parts(tmp_path / "out", 5)
    slurm.command("scancel", "--signal=USR1", job)
    assert slurm.wait(job) == ("FAILED", 75), log_of(tmp_path, job)
    assert 5 <= receipts(tmp_path / "out") < undisturbed.parts
    assert not finished(tmp_path / "out")


def test_too_much_memory_ends_the_job_with_70(slurm: SlurmCluster, analysis: Analysis, tmp_path: Path) -> None:
    size = (*SMALL[:2], "--mem-per-cpu=120")
    job = submit(slurm, tmp_path, *analysis.words, "--out", tmp_path / "out", size=size, BIOLMM_ATTEMPTS="1")
    state, code = slurm.wait(job)
    # SLURM kills the step, or the whole job, whichever it measures first.
    assert (state, code) in {("FAILED", 70), ("FAILED", 0), ("CANCELLED", 0), ("OUT_OF_MEMORY", 0)}
    assert not finished(tmp_path / "out")


def test_a_cancelled_worker_job_is_replaced(
    slurm: SlurmCluster, analysis: Analysis, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """dask-jobqueue submits a job for each worker, with the settings of deploy/slurm/jobqueue.yaml."""
    pytest.importorskip("dask_jobqueue")
    size = ("--workers", "2", "--worker-memory", "1300MiB", "--spill", str(tmp_path))
    driver = subprocess.Popen(
        ["biolmm", "run", "--cluster", "slurm", *size, "--", *analysis.words, "--out", tmp_path / "out"],
        env={**slurm.environment, "DASK_CONFIG": str(SCRIPT.with_name("jobqueue.yaml"))},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_parts(tmp_path / "out", 5)
        jobs = slurm.command("squeue", "-h", "-o", "%i %j").splitlines()
        assert [job.split()[1] for job in jobs] == ["biolmm-worker", "biolmm-worker"]
        slurm.command("scancel", jobs[0].split()[0])
        _, said = driver.communicate(timeout=180)
    finally:
        driver.kill()
    assert driver.returncode == 0, said
    assert same_statistics(undisturbed.out, tmp_path / "out")
    wait_for(lambda: not slurm.command("squeue", "-h"), 30, "an empty queue")


def test_an_array_scans_and_a_merge_joins(slurm: SlurmCluster, analysis: Analysis, tmp_path: Path) -> None:
    whole, shards = tmp_path / "whole", tmp_path / "shards"
    succeed("gwas", *analysis.inputs, "--memory", "1GiB", "--out", whole)
    scan = submit_array(slurm, tmp_path, "1-4", shards, "scan", "--genotypes", analysis.inputs[1], "--model", whole)
    merge = submit_merge(slurm, tmp_path, scan, shards)
    assert slurm.wait(merge) == ("COMPLETED", 0)
    # The same statistics; sums of 400 products each, cut into other parts, round differently.
    for trait in ("trait1", "trait2"):
        one, other = statistics(whole, trait), statistics(tmp_path / "merged", trait)
        assert one["rsid"].tolist() == other["rsid"].tolist()
        assert np.allclose(one["chisq"], other["chisq"], rtol=400 * np.finfo(float).eps, atol=0, equal_nan=True)
    leads = (tmp_path / "merged" / "leads.tsv").read_text().splitlines()
    assert sum(line.startswith("trait\t") for line in leads) == 1


def test_a_failed_shard_cancels_the_merge(slurm: SlurmCluster, analysis: Analysis, tmp_path: Path) -> None:
    scan = submit_array(
        slurm, tmp_path, "1", tmp_path / "shards", "scan", "--genotypes", "absent.zarr", "--model", "no"
    )
    merge = submit_merge(slurm, tmp_path, scan, tmp_path / "shards")
    assert slurm.wait(merge)[0] == "CANCELLED"
    assert not (tmp_path / "merged").exists()


def submit_array(slurm: SlurmCluster, folder: Path, tasks: str, *words: str | Path) -> str:
    """Submit array.sbatch for small tasks."""
    size = (f"--array={tasks}", "--cpus-per-task=1", "--mem-per-cpu=1000", "-D", folder)
    script = SCRIPT.with_name("array.sbatch")
    return slurm.submit(*size, script, *words, "--memory", "700MiB", BIOLMM_SLURM=str(SCRIPT.parent))


def submit_merge(slurm: SlurmCluster, folder: Path, scan: str, shards: Path) -> str:
    """Submit merge.sbatch behind an array."""
    behind = (f"--dependency=afterok:{scan}", "--kill-on-invalid-dep=yes", "-D", folder)
    return slurm.submit(*behind, SCRIPT.with_name("merge.sbatch"), shards, folder / "merged")


def test_a_schedule_goes_on_and_runs_do_not_overlap(slurm: SlurmCluster, analysis: Analysis, tmp_path: Path) -> None:
    settings = {
        "BIOLMM_SLURM": str(SCRIPT.parent),
        "BIOLMM_EVERY": "now+10seconds",
        "BIOLMM_SIZE": " ".join(SMALL),
    }
    traits = pd.read_csv(analysis.folder / "long.traits.tsv", sep="\t")
    table, out = tmp_path / "traits.tsv", tmp_path / "releases"
    traits.drop(columns="trait2").to_csv(table, sep="\t", index=False, na_rep="NA")
    options = [f"genotypes: {analysis.folder}/long.zarr", "traits: traits.tsv", "method: linear-only", "memory: 1GiB"]
    (tmp_path / "plan.yaml").write_text("\n  ".join(["out: releases\ngwas:", *options]) + "\n")

    def wait_for_releases(count: int) -> list[Path]:
        wait_for(lambda: len(list(out.glob("20*/release.json"))) >= count, 150, f"{count} releases")
        return sorted(path.parent for path in out.glob("20*/release.json"))

    slurm.submit("-D", tmp_path, SCRIPT.with_name("reanalysis.sbatch"), "plan.yaml", **settings)
    try:
        wait_for_releases(1)
        traits.to_csv(table.with_suffix(".new"), sep="\t", index=False, na_rep="NA")
        table.with_suffix(".new").replace(table)
        one, other = wait_for_releases(2)
    finally:
        slurm.command("scancel", "--name=biolmm-tick")
        slurm.command("scancel", "--name=biolmm-reanalysis")
    wait_for(lambda: not slurm.command("squeue", "-h"), 30, "an empty queue")
    files = [file.relative_to(one) for file in one.glob("associations/**/*.parquet")]
    assert files
    assert all((one / file).samefile(other / file) for file in files)  # the trait was taken over
    assert list(other.glob("associations/trait=trait2/**/*.parquet"))
    times = re.compile(r"^(20\S+) .*(?:run directory|ended with)", re.MULTILINE)
    lives = sorted(times.findall(path.read_text()) for path in tmp_path.glob("biolmm-[0-9]*.log"))
    assert len(lives) >= 2
    assert all(before[-1] <= after[0] for before, after in pairwise(lives))
