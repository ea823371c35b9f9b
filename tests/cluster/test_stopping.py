"""Without a cluster: a stop between tasks, and fits that are taken up in the middle."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import faults
from biolmm.chunks import clear_stop, map_tasks, request_stop, sum_tasks, threads
from biolmm.cluster.signals import draining
from biolmm.errors import Stopped
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.store import checkpoint
from running import Disk, run_command, same_statistics


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

        def counted(operator: GenotypeOperator, X: NDArray[np.float32], left_out: object) -> NDArray[np.float32]:
            if self.n >= self.dies_after:
                raise _Killed
            self.n += 1
            return product(operator, X, left_out)  # type: ignore[arg-type]

        monkeypatch.setattr(GenotypeOperator, "_product", counted)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> _Counted:
    """Count passes; every one of them is worth a checkpoint."""
    monkeypatch.setattr(checkpoint, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "WRITE_BYTES_PER_SECOND", 1e18)
    return _Counted(monkeypatch)


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
    attempts = gwas_again_and_again(disk, tmp_path / "out", passes, step=7)
    assert attempts > 4
    assert passes.n == all_passes
    assert same_statistics(tmp_path / "alone", tmp_path / "out")
    assert (tmp_path / "alone" / "h2.tsv").read_bytes() == (tmp_path / "out" / "h2.tsv").read_bytes()
    assert not list((tmp_path / "out" / "model").glob("*.checkpoint"))


def test_a_damaged_checkpoint_is_computed_again(disk: Disk, alone: Path, tmp_path: Path, passes: _Counted) -> None:
    passes.dies_after = 6
    with pytest.raises(_Killed):
        disk.gwas(tmp_path / "out", "--solver", "stochastic")
    kept = sorted((tmp_path / "out" / "model" / "fit.checkpoint").glob("*/product-*.zarr"))
    assert len(kept) == 6
    chunk = next(file for file in (kept[0] / "product").rglob("*") if file.is_file() and file.name != "zarr.json")
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(bytes(content))
    (kept[1] / "zarr.json").write_text("")
    shutil.rmtree(kept[2] / "product")
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
