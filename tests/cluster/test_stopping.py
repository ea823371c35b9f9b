"""Without a cluster: a stop between tasks, and fits that are taken up in the middle."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import faults
from biolmm.chunks import clear_stop, map_tasks, request_stop, sum_tasks, threads
from biolmm.cluster.signals import draining
from biolmm.covariance import genetic
from biolmm.errors import Stopped
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.heritability import blocks
from biolmm.linalg.dense import DenseProjection
from biolmm.linalg.operators import Restriction
from biolmm.reml import traits
from biolmm.reml.traits import exact_eigenpairs
from biolmm.store import checkpoint
from running import Disk, run_command, same_statistics, succeed


def test_a_stop_finishes_what_is_in_hand_and_begins_nothing(tmp_path: Path) -> None:
    try:
        threading.Timer(0.6, request_stop).start()
        with pytest.raises(Stopped), threads(2):
            map_tasks(faults.noted, range(12), tmp_path)
    finally:
        clear_stop()
    begun = {path.stem for path in tmp_path.glob("*.begun")}
    assert begun == {path.stem for path in tmp_path.glob("*.done")}
    assert 2 <= len(begun) <= 5
    assert sum_tasks(abs, [1, 2]) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_ask_to_stop_and_a_second_one_insists(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with draining():
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped, match=f"on {number.name}; the same command continues"):
            map_tasks(abs, [1])
        with pytest.raises(Stopped, match="second"):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before
    assert map_tasks(abs, [-1]) == [1]


class _Killed(BaseException):
    """Stands for a kill: nothing handles it."""


class _Counted:
    """Counts passes, and dies after some of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n = 0
        self.dies_after = 10**9
        product = GenotypeOperator._product

        monkeypatch.setattr(GenotypeOperator, "_product", self.dying(product))

    def dying(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Count the calls of a function, and die instead of some."""

        def counted(*inputs: Any) -> Any:
            if self.n >= self.dies_after:
                raise _Killed
            self.n += 1
            return function(*inputs)

        return counted


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> _Counted:
    """Count passes; every one of them is worth a checkpoint."""
    monkeypatch.setattr(checkpoint, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "WRITE_BYTES_PER_SECOND", 1e18)
    return _Counted(monkeypatch)


def test_a_stop_between_pieces_of_dense_algebra(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decomposition in hand is finished, the next one does not begin; and so do Cholesky factors."""
    begun: list[int] = []

    def asked_meanwhile(*arguments: Any) -> Any:
        begun.append(1)
        request_stop("in a test")
        return exact_eigenpairs(*arguments)

    command = ("gwas", *disk.inputs(), "--solver", "exact", "--out", tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(traits, "exact_eigenpairs", asked_meanwhile)
        try:
            done = run_command(*command)
            request_stop()
            with pytest.raises(Stopped):
                DenseProjection(np.eye(3), Restriction(np.ones(3, bool), np.ones((3, 1)) / 3**0.5))
        finally:
            clear_stop()
    assert (done.code, len(begun)) == (75, 1)
    assert "stopped at a checkpoint in a test" in done.err
    assert run_command(*command).code == 0


def gwas_again_and_again(disk: Disk, out: Path, passes: _Counted, step: int) -> int:
    """Run the main job, dying after every `step` passes; return how often it was started."""
    for attempt in range(1, 100):
        passes.dies_after = passes.n + step
        try:
            disk.gwas(out, "--solver", "stochastic", "--no-exact-leads")
        except _Killed:
            continue
        return attempt
    raise AssertionError("it never ended")


def test_a_killed_fit_is_taken_up_in_the_middle_of_a_stage(disk: Disk, tmp_path: Path, passes: _Counted) -> None:
    """No pass is computed twice, and the bits are those of a run that was left alone."""
    disk.gwas(tmp_path / "alone", "--solver", "stochastic", "--no-exact-leads")
    all_passes, passes.n = passes.n, 0
    attempts = gwas_again_and_again(disk, tmp_path / "out", passes, step=5)
    assert attempts > 2
    assert passes.n == all_passes
    assert same_statistics(tmp_path / "alone", tmp_path / "out")
    assert (tmp_path / "alone" / "h2.tsv").read_bytes() == (tmp_path / "out" / "h2.tsv").read_bytes()
    assert not list((tmp_path / "out" / "model").glob("*.checkpoint"))


OTHERS = {
    "components": ("components", "{inputs}", "--formula", "genetic + dominance", "--solver", "stochastic",
                   "--no-test", "--pcs", "1", "--trait", "trait1"),
    "h2": ("h2", "{store}", "{tables}", "--solver", "stochastic", "--blocks", "10", "--pcs", "1"),
    "rg": ("rg", "{store}", "{tables}", "--solver", "stochastic", "--method", "reml", "--eigenpairs", "4"),
}  # fmt: skip


@pytest.mark.parametrize(("command", "step"), [("components", 40), ("h2", 7), ("rg", 13)])
def test_killed_components_and_heritability_are_taken_up(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: _Counted, command: str, step: int
) -> None:
    """Passes of all kinds: those of panels of terms, and the two of moments, too."""
    for owner, name in ((genetic, "sum_tasks"), (blocks, "sum_tasks"), (blocks, "map_tasks")):
        monkeypatch.setattr(owner, name, passes.dying(getattr(owner, name)))
    given = {"{inputs}": disk.inputs(), "{store}": (str(disk.store),), "{tables}": disk.inputs()[2:]}
    words = [part for word in OTHERS[command] for part in given.get(word, (word,))]
    succeed(*words, "--out", tmp_path / "alone")
    all_passes, passes.n = passes.n, 0
    finished, attempts = False, 0
    while not finished and attempts < 60:
        attempts, passes.dies_after = attempts + 1, passes.n + step
        with suppress(_Killed):
            succeed(*words, "--out", tmp_path / "out")
            finished = True
    assert attempts > 1
    assert passes.n == all_passes
    tables = {path.name: path.read_bytes() for path in (tmp_path / "alone").glob("*.t*")}
    assert len(tables) > 1
    assert {name: (tmp_path / "out" / name).read_bytes() for name in tables} == tables
    assert not list((tmp_path / "out").rglob("*.checkpoint"))


def test_a_damaged_checkpoint_is_computed_again(disk: Disk, alone: Path, tmp_path: Path, passes: _Counted) -> None:
    passes.dies_after = 6
    with pytest.raises(_Killed):
        disk.gwas(tmp_path / "out", "--solver", "stochastic")
    kept = sorted((tmp_path / "out" / "model" / "fit.checkpoint").glob("*/product-*.zarr"))
    assert len(kept) == 6
    chunk = next(file for file in (kept[0] / "product_0").rglob("*") if file.is_file() and file.name != "zarr.json")
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(bytes(content))
    (kept[1] / "zarr.json").write_text("")
    shutil.rmtree(kept[2] / "product_0")
    passes.dies_after = 10**9
    disk.gwas(tmp_path / "out", "--solver", "stochastic")
    assert same_statistics(tmp_path / "out", alone)


def test_a_full_disk_costs_the_checkpoint_but_not_the_run(
    disk: Disk, alone: Path, tmp_path: Path, passes: _Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_dataset", full)
    done = run_command("gwas", *disk.inputs(), "--solver", "stochastic", "--out", tmp_path / "out")
    assert done.code == 0
    assert "could not be kept" in done.err
    assert same_statistics(tmp_path / "out", alone)


def test_short_passes_leave_no_checkpoint(tmp_path: Path) -> None:
    with checkpoint.checkpointed(tmp_path / "c", "key") as kept:
        kept.product("x", (1,), lambda: np.ones(3))
        assert not list((tmp_path / "c").rglob("*.zarr"))
    assert not (tmp_path / "c").exists()
