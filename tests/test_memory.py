"""Sizes for people and budgets that are checked before the work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolmm.errors import MemoryBudgetError, ParameterError
from biolmm.memory import (
    BUDGET_VARIABLE,
    Need,
    StagePlan,
    available_bytes,
    default_budget_bytes,
    format_bytes,
    parse_bytes,
    peak_bytes,
)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("1", 1), ("12b", 12), ("4GiB", 4 * 2**30), ("4gib", 4 * 2**30), ("4Gi", 4 * 2**30), ("512MB", 512 * 10**6),
        ("1.5 g", 15 * 10**8), (".5k", 500), (" 2 TiB ", 2 * 2**40), ("3k", 3000),
    ],
)  # fmt: skip
def test_sizes_as_people_write_them(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1G", "0", "0.1", "4 GiBs", "4PB", "1e9", "1,5G", "nan", "inf", "4 G iB"])
def test_what_is_not_a_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ParameterError, match="for example 4GiB"):
        parse_bytes(text)


def test_the_peak_is_that_of_this_process_alone() -> None:
    """A small process that a large one starts is small: `ru_maxrss` would say otherwise."""
    held = np.ones(2**26)
    assert peak_bytes() > held.nbytes
    command = [sys.executable, "-c", "from biolmm.memory import peak_bytes; print(peak_bytes())"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert 0 < int(done.stdout) < held.nbytes / 2


@given(st.integers(1, 2**50))
def test_a_printed_size_is_read_back_within_its_digits(n_bytes: int) -> None:
    assert parse_bytes(format_bytes(n_bytes)) == pytest.approx(n_bytes, rel=0.06)


def test_printing_at_the_edges() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1024, 2**20, 5 * 2**40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.0 MiB",
        "5.0 TiB",
    ]


def test_the_default_is_a_part_of_what_is_available() -> None:
    assert 0 < default_budget_bytes() < available_bytes()


@pytest.mark.parametrize(
    ("line", "group", "file"),
    [("0::/system.slice/biolmm.service", "system.slice/biolmm.service", "memory.max"),
     ("5:memory:/slurm/uid_1/job_7/step_0", "memory/slurm/uid_1/job_7/step_0", "memory.limit_in_bytes")],
)  # fmt: skip
def test_the_least_limit_of_the_groups_above_counts(tmp_path: Path, line: str, group: str, file: str) -> None:
    """As `MemoryMax` of a service, or of a SLURM job around its steps: not at the root of the mount."""
    (tmp_path / "cgroup").write_text(f"3:cpu:/elsewhere\n{line}\n")
    own = tmp_path / "fs" / group
    own.mkdir(parents=True)
    free = available_bytes(tmp_path / "fs", tmp_path / "cgroup")
    assert free > 2**20
    (own / file).write_text("max\n" if file == "memory.max" else "9223372036854771712\n")
    assert available_bytes(tmp_path / "fs", tmp_path / "cgroup") > 2**20
    (own.parent / file).write_text("1048576\n")
    assert available_bytes(tmp_path / "fs", tmp_path / "cgroup") == 2**20
    (own / file).write_text("524288\n")
    assert available_bytes(tmp_path / "fs", tmp_path / "cgroup") == 2**19
    (own / file).write_text("4²\n")
    assert available_bytes(tmp_path / "fs", tmp_path / "cgroup") == 2**20


def test_the_budget_of_the_environment() -> None:
    assert default_budget_bytes({BUDGET_VARIABLE: "300MiB"}) == 300 * 2**20
    with pytest.raises(ParameterError, match="'much' is not a size"):
        default_budget_bytes({BUDGET_VARIABLE: "much"})


def test_a_plan_adds_up_and_names_the_largest_need() -> None:
    plan = StagePlan("fit", needs=(Need("panels", 3 * 2**30), Need("cache", 2**30)))
    assert plan.peak_bytes == 4 * 2**30
    plan.check(plan.peak_bytes)
    with pytest.raises(MemoryBudgetError, match=r"fit would use 4.0 GiB but --memory is 2.0 GiB.*panels = 3.0 GiB"):
        plan.check(2 * 2**30)


def test_following_the_advice_helps() -> None:
    plan = StagePlan("fit", needs=(Need("panels", 123_456_789),))
    with pytest.raises(MemoryBudgetError) as error:
        plan.check(1000)
    advised = str(error.value).split("Raise --memory to ")[1].split(",")[0]
    plan.check(parse_bytes(advised))


def test_a_plan_without_needs_fits() -> None:
    StagePlan("info").check(0)
