"""deploy/slurm without SLURM: what its scripts do, with programs in the place of SLURM's that say what they were asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from biolmm.cluster import exits
from deploy.conftest import DEPLOY

SLURM = DEPLOY / "slurm"
PROGRAMS = {
    "sbatch": 'echo "sbatch $*" >>"$SAID"',
    "scontrol": 'echo "scontrol $*" >>"$SAID"',
    "sleep": 'echo "sleep $*" >>"$SAID"',
    "biolmm": "exit 1",
    # Each life of the leader leaves the next one of $CODES behind.
    "srun": '''life=$(sed -E "s/.*--run-directory ([^ ]+).*/\\1/" <<<"$*")
echo "srun" >>"$SAID"
mkdir -p "$life"
code=$(cut -d" " -f"$(grep -c srun "$SAID")" <<<"$CODES")
echo "{\\"life\\": \\"x\\", \\"code\\": $code}" >"$life/outcome.json"
exit "$code"''',
}


def call(folder: Path, script: str, *words: str, **settings: str) -> tuple[int, list[str]]:
    """Run a batch script in a folder; return its exit code and what it asked of SLURM."""
    programs = folder / "bin"
    programs.mkdir()
    for name, body in PROGRAMS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (programs / name).chmod(0o755)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "BIOLMM"))}
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "3", "SLURM_JOB_NODELIST": "n1", "BIOLMM_SLURM": str(SLURM)}
    environment = {**plain, "PATH": f"{programs}:{plain['PATH']}", "SAID": str(folder / "said"), **job, **settings}
    done = subprocess.run(
        ["bash", SLURM / script, *words], cwd=folder, env=environment, capture_output=True, check=False, timeout=60
    )
    said = folder / "said"
    return done.returncode, said.read_text().splitlines() if said.exists() else []


TICK = f"sbatch --begin=now+1day {SLURM}/reanalysis.sbatch plan.yaml"


@pytest.mark.parametrize(
    "site", ["BIOLMM_EVERY=now+1day", "BIOLMM_EVERY=now+1day\nBIOLMM_MODULES=python\n", "exit 3", None]
)
@pytest.mark.parametrize("plan", [True, False])
def test_the_schedule_goes_on_whatever_fails(tmp_path: Path, site: str | None, plan: bool) -> None:
    """The plan is away for a moment, or a module cannot be loaded: the next tick has been submitted."""
    if site is not None:
        (tmp_path / "site.env").write_text(site)
    if plan:
        (tmp_path / "plan.yaml").write_text("out: releases")
    code, said = call(tmp_path, "reanalysis.sbatch", "plan.yaml")
    works = site in (None, "BIOLMM_EVERY=now+1day")
    assert (code == 0) == (works and plan)
    assert said[0] == (TICK if site and "EVERY" in site else TICK.replace("1day", "7days"))
    assert len(said) == 1 + (works and plan)
    assert not works or not plan or said[1].endswith("biolmm.sbatch reanalyse plan.yaml")


def test_a_schedule_needs_a_plan(tmp_path: Path) -> None:
    assert call(tmp_path, "reanalysis.sbatch") == (exits.USER_NEVER_RETRY, [])


@pytest.mark.parametrize(
    ("codes", "restarts", "code", "said"),
    [
        ("73", "0", 73, ["srun"]),  # another run is at work: not of this job, and not to be waited for
        ("73 0", "1", 0, ["srun", "sleep 200", "srun"]),  # the lock of the life before, whose node was lost
        ("70 73 0", "0", 0, ["srun", "srun", "sleep 200", "srun"]),
        ("70 70 70", "0", 70, ["srun", "srun", "srun"]),
        ("64 0", "0", 64, ["srun"]),
        ("75 0", "0", 75, ["srun", "scontrol requeue 7"]),
    ],
)
def test_what_a_job_does_after_each_exit_code(
    tmp_path: Path, codes: str, restarts: str, code: int, said: list[str]
) -> None:
    settings = {"CODES": codes, "SLURM_RESTART_COUNT": restarts}
    assert call(tmp_path, "biolmm.sbatch", "reanalyse", "plan.yaml", **settings) == (code, said)
