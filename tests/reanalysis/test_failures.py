"""Traits that fail, runs that are stopped, and two at a time."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import biolmm.pipeline.steps
import biolmm.reanalysis.run
from biolmm.cluster import exits
from biolmm.reanalysis import lock
from reanalysis.conftest import N_SAMPLES, World, stages, statuses
from running import run_command, same_statistics

FAST = {"method": "linear-only"}


def spoiled(world: World) -> pd.DataFrame:
    """Return the traits with five more that cannot be analysed."""
    traits = world.traits
    few = traits["a"].where(np.arange(len(traits)) < 3)
    text = traits["a"].astype(object).where(np.arange(len(traits)) != 7, "tall")
    infinite = traits["a"].where(np.arange(len(traits)) != 7, np.inf)
    return traits.assign(constant=1.0, few=few, text=text, infinite=infinite, empty=np.nan)


REASONS = {
    "constant": "No variation in 'constant'",
    "few": "Too few samples for the covariates: 'few' (3 observed",
    "text": "Trait 'text' in",
    "infinite": "Infinite values in",
    "empty": "No value for 'empty'",
}


def test_a_failing_trait_does_not_stop_the_others(world: World) -> None:
    expected = world.run("r0", **FAST)
    world.write(spoiled(world))
    release = world.run("r1", code=exits.PARTIAL, **FAST)
    found = pd.read_csv(release / "traits.tsv", sep="\t").set_index("trait")
    assert found["status"].to_dict() == {"a": "taken over", "b": "taken over"} | dict.fromkeys(REASONS, "failed")
    page, report = ((release / name).read_text() for name in ("changes.md", "report.html"))
    for trait, reason in REASONS.items():
        assert found.loc[trait, "why"].startswith(reason)
        assert f"* **{trait}**: {reason}" in page
        assert f"trait &#39;{trait}&#39; failed" in report
    assert same_statistics(release, expected)
    # Nothing is gained by trying again: the same code, nothing computed, also for a scheduler.
    again = world.call("r2", **FAST)
    assert (again.code, "nothing to do" in again.out) == (exits.PARTIAL, True)
    assert "failed: few: Too few samples" in again.out
    assert exits.for_schedulers(again.code) in exits.FINAL
    # Mended, only that trait is computed.
    world.write(
        spoiled(world).drop(columns=["text", "few", "infinite", "empty"]).assign(constant=np.arange(float(N_SAMPLES)))
    )
    mended = world.run("r3", **FAST)
    assert statuses(mended) == {"a": "taken over", "b": "taken over", "constant": "computed"}
    (why,) = pd.read_csv(mended / "traits.tsv", sep="\t").query("trait == 'constant'")["why"]
    assert why == "failed in r1"


def test_with_no_trait_left_it_is_a_mistake(world: World) -> None:
    world.write(spoiled(world)[["constant", "few"]])
    done = world.call("r1", **FAST)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert not (world.out / "r1").exists()


def test_a_named_trait_that_is_not_there_fails_alone(world: World) -> None:
    release = world.run("r1", code=exits.PARTIAL, trait="[a, hieght]", **FAST)
    assert statuses(release) == {"a": "computed", "hieght": "failed"}


def test_too_few_people_for_the_components(world: World) -> None:
    traits = world.traits
    world.write(traits.assign(c=traits["a"].where(np.arange(len(traits)) < 6)))
    release = world.run("r1", code=exits.PARTIAL, pcs=3, solver="exact")
    assert statuses(release) == {"a": "computed", "b": "computed", "c": "failed"}
    assert "3 principal components" in (release / "traits.tsv").read_text()


def test_a_signal_stops_at_a_checkpoint_and_the_same_command_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_scan = biolmm.pipeline.steps.run_scan

    def signalled(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return run_scan(*given)

    with monkeypatch.context() as patch:
        patch.setattr(biolmm.pipeline.steps, "run_scan", signalled)
        done = world.call("r1", solver="exact")
    assert done.code == exits.CHECKPOINT
    assert "the same command continues" in done.err
    assert not (world.out / "r1").exists()
    release = world.run("r1", solver="exact")
    assert stages(release)["fit (everything)"]["resumed"]
    assert same_statistics(release, world.fresh("fresh", "--solver", "exact"))


class _Killed(BaseException):
    """Stands for a kill: nothing handles it."""


@pytest.mark.parametrize("moment", ["write_changes", "compare", "check_stop"])
def test_a_killed_release_is_made_again_from_its_pieces(
    world: World, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    calls = []

    def killed(*given: Any) -> None:
        calls.append(given)
        if moment != "check_stop" or len(calls) == 2:  # the second is after the pieces
            raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(biolmm.reanalysis.run, moment, killed)
        with pytest.raises(_Killed):
            world.call("r1", **FAST)
    assert not (world.out / "r1").exists()
    pieces = {path: path.stat().st_mtime_ns for path in world.out.glob("pieces/*/associations/**/*.parquet")}
    release = world.run("r1", **FAST)
    assert {path: path.stat().st_mtime_ns for path in pieces} == pieces
    assert same_statistics(release, world.fresh("fresh", "--method", "linear-only"))
    assert not [path.name for path in world.out.iterdir() if path.name.endswith(".partial")]


def test_a_lost_piece_is_computed_again(world: World) -> None:
    first = world.run("r1", **FAST)
    for piece in world.out.glob("pieces/*/piece.json"):
        piece.unlink()
    world.write(world.traits.assign(c=np.arange(float(N_SAMPLES)) ** 2))
    release = world.run("r2", **FAST)
    assert set(statuses(release).values()) == {"computed"}
    assert " is gone or damaged" in (release / "traits.tsv").read_text()
    files = [path.relative_to(first) for path in first.rglob("*.parquet") if path.name != "tables.parquet"]
    assert files
    for file in files:
        one, other = (pd.read_parquet(folder / file) for folder in (first, release))
        np.testing.assert_allclose(one["chisq"], other["chisq"], rtol=1e-5, atol=1e-5)


def owned(world: World, **owner: object) -> Path:
    """Leave a lock with an owner."""
    world.out.mkdir()
    path = world.out / lock.LOCK_NAME
    path.write_text(json.dumps({"host": socket.gethostname(), "pid": 1, "since": "then", "plan": "p", **owner}))
    return path


def test_two_reanalyses_do_not_overlap(world: World) -> None:
    path = owned(world)
    with path.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = world.call("r1", **FAST)
    assert done.code == exits.BUSY  # a scheduler that tries again at once would spin
    assert "another reanalysis is running" in done.err
    assert f"process 1 on {socket.gethostname()}" in done.err
    assert sorted(each.name for each in world.out.iterdir()) == [lock.LOCK_NAME]


def test_a_lock_of_another_machine_holds_while_it_gives_signs_of_life(world: World) -> None:
    path = owned(world, host="elsewhere")
    done = world.call("r1", **FAST)
    assert (done.code, "process 1 on elsewhere" in done.err) == (exits.BUSY, True)
    old = time.time() - lock.STALE_SECONDS - 1
    os.utime(path, (old, old))
    done = world.call("r1", **FAST)
    assert done.code == 0, done.err
    assert "was left by process 1 on elsewhere" in done.err
    assert path.read_text() == ""


def test_a_dead_owner_on_this_machine_does_not_hold_a_lock(world: World) -> None:
    path = owned(world)
    with lock.only_one(world.out, Path("plan.yaml")):
        assert json.loads(path.read_text())["pid"] == os.getpid()
        with pytest.raises(lock.BusyError, match=f"process {os.getpid()} on"), lock.only_one(world.out, Path("x")):
            pass
    path.write_text("{")
    with lock.only_one(world.out, Path("plan.yaml")):
        pass


def test_signs_of_life_are_given(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with lock.only_one(world.out, Path("plan.yaml")):
        path = world.out / lock.LOCK_NAME
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(world: World) -> None:
    done = world.call("r1", words=("--plan",), **FAST)
    assert done.code == 0
    assert "  a: computed (there is no earlier release)" in done.out
    assert "scan" in done.out
    assert not world.out.exists()
    world.run("r1", **FAST)
    before = sorted(world.out.rglob("*"))
    assert "nothing to do" in world.call("r2", words=("--plan",), **FAST).out
    world.write(world.traits.assign(c=np.arange(float(N_SAMPLES)), d=1.0))
    done = world.call("r2", words=("--plan",), **FAST)
    assert "release r2 in" in done.out
    assert "  a: taken over (unchanged since r1)" in done.out
    assert "  c: computed (new trait)" in done.out
    assert "  d: failed (No variation in 'd'" in done.out
    assert "(new and changed traits, 1 traits): to compute" in done.out
    world.append()
    n_new = len((world.folder / "more.bim").read_text().splitlines())
    done = world.call("r2", words=("--plan",), **FAST)
    assert f"  a: extended ({n_new} variants appended since r1)" in done.out
    assert "(appended variants, 2 traits): to compute" in done.out
    assert sorted(world.out.rglob("*")) == before


def test_names_of_releases(world: World) -> None:
    world.run("r1", **FAST)
    world.write(world.traits.assign(c=np.arange(float(N_SAMPLES))))
    done = world.call("r1", **FAST)
    assert (done.code, "release 'r1' of" in done.err) == (2, True)
    (world.out / "mine").mkdir()
    assert "is there and no release" in world.call("mine", **FAST).err
    absent = world.call("r2", head=("previous: r0",), **FAST)
    assert "takes over from release 'r0', which is not in" in absent.err
    assert world.call("date", **FAST).code == 0
    world.write(world.traits.assign(d=np.arange(float(N_SAMPLES)) ** 2))
    assert world.call("date", head=("previous: r1",), **FAST).code == 0
    names = sorted(path.name for path in world.out.iterdir() if (path / "release.json").is_file())
    assert names[1] == f"{names[0]}.2"
    second = world.out / names[1]
    assert statuses(second) == {"a": "taken over", "b": "taken over", "c": "computed", "d": "computed"}
    assert (world.out / "latest").resolve() == second


def test_a_damaged_record_is_named(world: World) -> None:
    record = world.run("r1", **FAST) / "release.json"
    record.write_text(record.read_text()[:100])
    done = world.call("r2", **FAST)
    assert (done.code, f"{record} is damaged" in done.err) == (2, True)


def test_it_runs_on_a_cluster(world: World) -> None:
    words = ("--quiet", "run", "--cluster", "local", "--workers", "1", "--", "reanalyse")
    done = run_command(*words, world.plan("r1", **FAST))
    assert done.code == 0, done.err
    assert same_statistics(world.out / "r1", world.fresh("fresh", "--method", "linear-only"))
    world.write(world.traits.assign(c=1.0))
    words = ("--quiet", "run", "--cluster", "threads", "--", "reanalyse")
    assert run_command(*words, world.plan("r2", **FAST)).code == exits.PARTIAL
