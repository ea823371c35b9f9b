"""Processors as machines, containers and SLURM limit them, with files that stand for the system's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from biolmm.processors import available_threads, quota_threads, slurm_threads


def group(folder: Path, **files: str) -> None:
    """Write the files of a control group; two underscores stand for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def member(tmp_path: Path, *lines: str) -> Path:
    """Write what `/proc/self/cgroup` says."""
    (tmp_path / "cgroup").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path / "cgroup"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a place where control groups are mounted."""
    (tmp_path / "fs").mkdir()
    return tmp_path / "fs"


@pytest.mark.parametrize(
    ("content", "processors"),
    [("max 100000", None), ("150000 100000", 2), ("400000 100000", 4), ("5000 100000", 1), ("-1", None), ("", None),
     ("² 100000", None)],
)  # fmt: skip
def test_the_quota_of_a_container(root: Path, tmp_path: Path, content: str, processors: int | None) -> None:
    group(root, cpu__max=content)
    assert quota_threads(root, member(tmp_path, "0::/")) == processors
    assert quota_threads(root, tmp_path / "absent") == processors


def test_the_least_quota_of_the_groups_above_counts(root: Path, tmp_path: Path) -> None:
    group(root / "slurm" / "job" / "step", cpu__max="max 100000")
    group(root / "slurm" / "job", cpu__max="250000 100000")
    group(root / "slurm", cpu__max="800000 100000")
    group(root / "slurm" / "other", cpu__max="100000 100000")
    assert quota_threads(root, member(tmp_path, "0::/slurm/job/step")) == 3
    assert quota_threads(root, member(tmp_path, "0::/slurm")) == 8
    assert quota_threads(root, member(tmp_path, "0::/a/name/outside")) is None


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_version_1(root: Path, tmp_path: Path, mount: str) -> None:
    group(root / mount / "docker", cpu__cfs_quota_us="350000", cpu__cfs_period_us="100000")
    group(root / mount, cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert quota_threads(root, member(tmp_path, "9:memory:/docker", f"4:{mount}:/docker")) == 4
    assert quota_threads(root, member(tmp_path, "9:memory:/docker", f"4:{mount}:/")) is None
    group(root / mount, cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    assert quota_threads(root, member(tmp_path, "9:memory:/x", f"4:{mount}:/what/it/is/called/outside")) == 1


def test_slurm() -> None:
    job = {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "16"}
    step = {**job, "SLURM_STEP_ID": "0", "SLURM_PROCID": "2"}
    assert slurm_threads(job) == 16
    assert slurm_threads({**job, "SLURM_CPUS_PER_TASK": "4"}) == 16  # the script has what its tasks share
    assert slurm_threads({**step, "SLURM_CPUS_PER_TASK": "4"}) == 4
    assert slurm_threads({**step, "SLURM_CPUS_PER_TASK": ""}) == 16
    assert slurm_threads({**job, "SLURM_STEP_ID": "batch", "SLURM_PROCID": "0"}) == 16
    assert slurm_threads({"SLURM_CPUS_ON_NODE": "16"}) is None


def test_the_least_limit_wins_and_one_is_left(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    plain = member(tmp_path, "0::/")
    assert available_threads({}, root, plain) == 8
    group(root, cpu__max="550000 100000")
    assert available_threads({}, root, plain) == 6
    assert available_threads({"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "4"}, root, plain) == 4
    assert available_threads({"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "32"}, root, plain) == 6
    group(root, cpu__max="1000 100000")
    assert available_threads({}, root, plain) == 1
