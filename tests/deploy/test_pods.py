"""The chart's pods under podman (T3): set BIOLMM_IMAGE to an image that deploy/container/Containerfile built."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.conftest import Analysis, receipts, wait_for_parts
from deploy.pod_set import PodSet, exit_code, logs, podman
from deploy.slurm_cluster import wait_for
from deploy.test_chart import job_spec, render, values_of
from running import close_statistics, same_statistics, succeed

IMAGE = os.environ.get("BIOLMM_IMAGE", "")
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not IMAGE or shutil.which("podman") is None, reason="no podman, or BIOLMM_IMAGE is not set"),
]
USER = 10001


@pytest.fixture
def data(analysis: Analysis, tmp_path: Path) -> Path:
    """Give a volume with the cohort, which the pods' user can write."""
    folder = tmp_path / "data"
    shutil.copytree(analysis.folder, folder)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER)
    tmp_path.chmod(0o755)
    return folder


@pytest.fixture
def started() -> Iterator[list[PodSet]]:
    """Remove the pods of the sets in this list when the test ends."""
    sets: list[PodSet] = []
    yield sets
    for one in sets:
        one.remove()


def pod_set(data: Path, name: str, *words: str) -> PodSet:
    """Render the chart for the words and take its pods."""
    values = values_of("dev")
    values["arguments"] = list(words)
    return PodSet(name, job_spec(render(values))["template"]["spec"], IMAGE, data)


def words_of(analysis: Analysis, out: str) -> list[str]:
    """Write the analysis as pods see it."""
    return [*(word.replace(str(analysis.folder), "/data") for word in analysis.words), "--out", f"/data/{out}"]


def test_a_killed_leader_is_replaced_and_continues(
    data: Path, analysis: Analysis, started: list[PodSet], tmp_path: Path
) -> None:
    for name, killed in (("biolmm-calm", False), ("biolmm-killed", True)):
        pods = pod_set(data, name, *words_of(analysis, name))
        started.append(pods)
        leader, *workers = [pods.start(index) for index in range(3)]
        if killed:
            wait_for_parts(data / name, 5)
            podman("kill", "--signal", "KILL", leader)
            assert exit_code(leader) == 137
            assert receipts(data / name) < receipts(data / "biolmm-calm")
            leader = pods.start(0, life=1)
        assert exit_code(leader) == 0, logs(leader)
        assert [exit_code(worker) for worker in workers] == [0, 0]
    assert same_statistics(data / "biolmm-calm", data / "biolmm-killed")
    succeed(*analysis.words, "--out", tmp_path / "one")
    assert close_statistics(tmp_path / "one", data / "biolmm-calm")
    run = data / ".biolmm-runs" / "biolmm-killed"
    assert (run.stat().st_uid, run.stat().st_mode & 0o077) == (USER, 0)


def test_a_stopped_leader_says_that_it_can_be_continued(data: Path, analysis: Analysis, started: list[PodSet]) -> None:
    """SIGTERM is what an eviction sends."""
    pods = pod_set(data, "biolmm-stop", *words_of(analysis, "stop"))
    started.append(pods)
    leader, *_ = [pods.start(index) for index in range(3)]
    wait_for_parts(data / "stop", 5)
    podman("kill", "--signal", "TERM", leader)
    assert exit_code(leader) == 75, logs(leader)
    again = pods.start(0, life=1)
    assert exit_code(again) == 0, logs(again)
    assert json.loads((data / "stop" / "run.json").read_text())["finished"]


def test_the_users_mistake_fails_the_leader_with_64(data: Path, analysis: Analysis, started: list[PodSet]) -> None:
    pods = pod_set(data, "biolmm-wrong", *words_of(analysis, "wrong"), "--trait", "absent")
    started.append(pods)
    leader, worker = pods.start(0), pods.start(1)
    assert exit_code(leader) == 64, logs(leader)
    # Only the leader may end the Job.
    assert exit_code(worker) != 64, logs(worker)


def test_pods_write_nowhere_but_their_volumes(data: Path, started: list[PodSet]) -> None:
    pods = pod_set(data, "biolmm-shut", "--version")
    started.append(pods)
    shell = ["--entrypoint", "sh", IMAGE, "-c"]
    script = "id -u; touch /opt/x; touch /x; touch /tmp/x /spill/x /data/x && echo written; grep Cap /proc/self/status"
    name = "biolmm-shut-0-0"
    podman("run", "--detach", "--name", name, *pods.flags(0), *shell, script)
    wait_for(lambda: "CapEff" in logs(name), 30, "the container's output")
    said = logs(name)
    assert said.splitlines()[0] == str(USER) or str(USER) in said
    assert said.count("Read-only file system") == 2
    assert "written" in said
    assert "CapEff:\t0000000000000000" in said
