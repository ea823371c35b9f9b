"""What is in deploy/ can be read by what will read it, names only what exists, and is described in its README."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from biolmm.cli.root import cli
from deploy.conftest import DEPLOY

FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
SCRIPTS = [path for path in FILES if path.suffix in {".sh", ".sbatch"}]
BY_SBATCH = {"SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_QOS"}
"""sbatch reads these itself: see "INPUT ENVIRONMENT VARIABLES" in its manual."""


def name(path: Path) -> str:
    """Name a file as the README does."""
    return str(path.relative_to(DEPLOY))


def program(found: str) -> str:
    """Find a program; skip without it."""
    path = shutil.which(found)
    if path is None:
        pytest.skip(f"{found} is not installed")
    return path


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_scripts_are_bash(script: Path) -> None:
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if script.name != "site.sh":  # which is read by others
        assert re.search(r"^set -euo pipefail$", script.read_text(), re.MULTILINE)


def test_shellcheck_finds_nothing() -> None:
    check = program("shellcheck")
    done = subprocess.run(
        [check, "-x", "-P", DEPLOY.parent, *SCRIPTS], capture_output=True, text=True, check=False, cwd=DEPLOY.parent
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "file", [path for path in FILES if path.suffix == ".yaml" and "templates" not in path.parts], ids=name
)
def test_yaml_loads(file: Path) -> None:
    assert all(yaml.safe_load_all(file.read_text()))


@pytest.mark.parametrize(
    ("example", "readers"),
    [("slurm/site.env.example", "slurm"), ("local/reanalysis.env.example", "local")],
)
def test_every_setting_is_used_and_every_one_used_is_listed(example: str, readers: str) -> None:
    listed = set(re.findall(r"^([A-Z_]+)=", (DEPLOY / example).read_text(), re.MULTILINE))
    text = "".join(path.read_text() for path in SCRIPTS if path.parent == DEPLOY / readers)
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", text))
    assert listed - used <= BY_SBATCH
    # Where the scripts are and which file the settings are in cannot be said inside it.
    ours = {found for found in used if found.startswith("BIOLMM")} - {"BIOLMM_SITE", "BIOLMM_SLURM"}
    assert ours <= listed


def test_settings_can_be_sourced() -> None:
    command = f"set -euo pipefail; set -a; . {DEPLOY}/slurm/site.env.example; echo $BIOLMM_RUNS"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("/biolmm-runs")


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    verify = program("systemd-analyze")
    for unit in DEPLOY.glob("local/biolmm-reanalysis.*"):
        # The program's place is one of the machine's that it will run on.
        (tmp_path / unit.name).write_text(re.sub("^ExecStart=.*", "ExecStart=/bin/true", unit.read_text(), flags=re.M))
    units = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run([verify, "verify", *units], capture_output=True, text=True, check=False)
    assert (len(units), done.returncode, done.stdout + done.stderr) == (2, 0, "")
    when = re.search("^OnCalendar=(.*)$", (tmp_path / "biolmm-reanalysis.timer").read_text(), re.M)
    assert when is not None
    subprocess.run([verify, "calendar", when[1]], capture_output=True, check=True)


def test_the_service_does_not_repeat_the_users_mistake() -> None:
    from biolmm.cluster import exits

    unit = (DEPLOY / "local" / "biolmm-reanalysis.service").read_text()
    assert f"RestartPreventExitStatus={exits.USER_NEVER_RETRY} {exits.PARTIAL}\n" in unit
    assert f"SuccessExitStatus={exits.BUSY} {exits.CHECKPOINT}\n" in unit


def test_batch_scripts_use_options_that_biolmm_has() -> None:
    found = {}
    for script in SCRIPTS:
        text = script.read_text().replace("\\\n", " ")
        for line in re.findall(r"biolmm run ([^\n]*?) -- ", text):
            found[script.name] = set(re.findall(r"--[a-z-]+", line))
    known = {option for parameter in cli.commands["run"].params for option in parameter.opts}
    assert set(found) >= {"biolmm.sbatch"}
    assert [(script, options - known) for script, options in found.items() if options - known] == []


def test_jobqueue_names_settings_that_dask_jobqueue_has() -> None:
    jobqueue = pytest.importorskip("dask_jobqueue")
    defaults = yaml.safe_load((Path(jobqueue.__file__).parent / "jobqueue.yaml").read_text())["jobqueue"]["slurm"]
    ours = yaml.safe_load((DEPLOY / "slurm" / "jobqueue.yaml").read_text())["jobqueue"]["slurm"]
    assert set(ours) <= set(defaults)


def test_the_image_is_pinned_and_its_user_is_nobody_special() -> None:
    text = (DEPLOY / "container" / "Containerfile").read_text()
    assert re.findall("^FROM (.*)$", text, re.M) == ["${BASE_IMAGE} AS build", "${BASE_IMAGE}"]
    assert "\nARG BASE_IMAGE\n" in text  # without a default: the build fails unless one is given
    assert re.findall("^USER (.*)$", text, re.M) == ["10001:10001"]
    values = yaml.safe_load((DEPLOY / "kubernetes" / "chart" / "values.yaml").read_text())
    assert values["user"] == 10001
    written = set(re.findall(r"(?:HOME|DIR)=(\S+)", text))
    assert {place.split("/")[1] for place in written} == {"tmp"}


@pytest.mark.parametrize("file", FILES, ids=name)
def test_the_readme_says_what_a_file_is_for_and_how_it_was_tested(file: Path) -> None:
    if file.name == "README.md":
        return
    rows = [line for line in (DEPLOY / "README.md").read_text().splitlines() if line.startswith("| `")]
    named = [
        row for row in rows if any(Path(name(file)).match(one) for one in re.findall(r"`([^`]+)`", row.split("|")[1]))
    ]
    assert len(named) == 1
    assert re.search(r"T[0-4]|not run", named[0].split("|")[3])


def test_scripts_can_be_started() -> None:
    started = [path for path in SCRIPTS if path.suffix == ".sh" and path.name != "site.sh"]
    assert [name(path) for path in started if not os.access(path, os.X_OK)] == []
