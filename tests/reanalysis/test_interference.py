"""What others do to a reanalysis: inputs that change while it is at work, files that are lost, machines that differ."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import biolmm.genotypes.arithmetic.vnni
import biolmm.pipeline.steps
import biolmm.reanalysis.assemble
import biolmm.reanalysis.inventory
import biolmm.reanalysis.run
from biolmm.cluster import exits
from biolmm.reanalysis import lock
from biolmm.reanalysis.inventory import PIECE_JSON, finish, is_finished
from biolmm.reanalysis.state import look
from biolmm.results.associations import read_associations
from reanalysis.conftest import N_SAMPLES, N_VARIANTS, World, statuses
from running import same_statistics, succeed

FAST = {"method": "linear-only"}


class _Killed(BaseException):
    """Stands for a kill: nothing handles it."""


def killed(*_: Any, **__: Any) -> None:
    raise _Killed


def reverse(world: World) -> None:
    """Give people each other's values of a trait."""
    traits = world.traits
    world.write(traits.assign(a=traits["a"].to_numpy()[::-1]))


CHANGES = {"genotypes, model genotypes": World.append, "traits a": reverse}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("then", ["checked", "killed"])
def test_inputs_that_change_before_they_are_read_are_not_taken_for_those_that_were_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str, then: str
) -> None:
    say, before = biolmm.reanalysis.run._say, world.traits

    def changed(prospect: Any) -> None:
        CHANGES[what](world)
        say(prospect)

    with monkeypatch.context() as patch:
        patch.setattr(biolmm.reanalysis.run, "_say", changed)
        if then == "killed":
            patch.setattr(biolmm.reanalysis.run, "_changed", killed)
            with pytest.raises(_Killed):
                world.call("r1", **FAST)
        else:
            done = world.call("r1", **FAST)
            assert (done.code, f"Stopped: {what} changed while" in done.err) == (exits.CHECKPOINT, True)
            assert not list((world.out / "pieces").iterdir())
    assert not (world.out / "r1").exists()
    world.write(before)  # a name that is the same again must not find what was made of the other values
    release = world.run("r1", **FAST)
    assert same_statistics(release, world.fresh("fresh", "--method", "linear-only"))
    assert (
        len(read_associations(release, "a"))
        == json.loads((release / "release.json").read_text())["state"]["scan"]["n_variants"]
    )


def lose_contig(piece: Path) -> None:
    """Remove a contig of a trait."""
    shutil.rmtree(next(piece.glob("*/trait=a/contig=2")))


def lose_trait(piece: Path) -> None:
    """Remove a trait."""
    shutil.rmtree(next(piece.glob("*/trait=a")))


def truncate(piece: Path) -> None:
    """Halve a file, whatever else is linked to it."""
    path = next(piece.glob("*/trait=a/contig=1/*.parquet"))
    os.truncate(path, path.stat().st_size // 2)


def spoil(piece: Path) -> None:
    """Change a table without changing its size."""
    path = piece / "leads.tsv"
    path.write_bytes(path.read_bytes()[:-2] + b"7\n")


@pytest.mark.parametrize("damage", [lose_contig, lose_trait, truncate, spoil])
@pytest.mark.parametrize("again", [False, True])
def test_a_damaged_piece_is_computed_again(world: World, damage: Callable[[Path], None], again: bool) -> None:
    world.run("r1", **FAST)
    (piece,) = (world.out / "pieces").iterdir()
    if again:  # the same piece, in its place
        shutil.rmtree(world.out / "r1")
    else:
        world.write(world.traits.assign(c=np.arange(float(N_SAMPLES)) ** 2))
    damage(piece)
    release = world.run("r2", **FAST)
    assert set(statuses(release).values()) == {"computed"}
    assert same_statistics(release, world.fresh("fresh", "--method", "linear-only"))
    assert not list((world.out / "pieces").glob(".*"))
    assert again is (" is gone or damaged" not in (release / "traits.tsv").read_text())


def test_a_kill_while_a_damaged_piece_is_removed_leaves_nothing_to_go_on_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run("r1", **FAST)
    (piece,) = (world.out / "pieces").iterdir()
    shutil.rmtree(world.out / "r1")
    truncate(piece)
    remove = biolmm.reanalysis.inventory.remove
    with monkeypatch.context() as patch:
        patch.setattr(biolmm.reanalysis.inventory, "remove", lambda path: killed() if path.exists() else remove(path))
        with pytest.raises(_Killed):
            world.call("r1", **FAST)
    assert not piece.exists()
    release = world.run("r1", **FAST)
    assert same_statistics(release, world.fresh("fresh", "--method", "linear-only"))
    assert [path.name for path in (world.out / "pieces").iterdir()] == [piece.name]


def test_what_was_left_half_written_is_no_file_of_a_piece(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    leftover = tmp_path / "model" / f".{'0f' * 16}.partial"
    for path in (leftover, tmp_path / "h2.tsv"):
        path.write_text("x")
    finish(tmp_path, label="x")
    assert not leftover.exists()
    assert list(json.loads((tmp_path / PIECE_JSON).read_text())["files"]) == ["h2.tsv"]
    assert is_finished(tmp_path)
    (tmp_path / "h2.tsv").write_text("y")
    assert not is_finished(tmp_path)


def test_a_machine_with_other_arithmetic_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with what the first one has begun, which it could not have computed."""
    if biolmm.genotypes.arithmetic.vnni.missing_features():
        pytest.skip("this machine has one arithmetic")
    with monkeypatch.context() as patch:
        patch.setattr(biolmm.pipeline.steps, "run_scan", killed)
        with pytest.raises(_Killed):
            world.call("r1", solver="stochastic")
    monkeypatch.setattr(biolmm.genotypes.arithmetic.vnni, "missing_features", lambda: ("avx512_vnni",))
    world.run("r1", solver="stochastic")
    assert len(list((world.out / "pieces").iterdir())) == 2


def test_appended_variants_have_the_gamma_of_those_that_they_follow(later: World) -> None:
    shutil.copytree(later.folder / "cohort.zarr", later.folder / "array.zarr")
    options = {"solver": "stochastic", "model_genotypes": "array.zarr"}
    succeed("convert", later.folder / "more.bed", later.folder / "other.zarr", "--chunk-variants", "64")
    second = later.run("r2", genotypes="other.zarr", **options)
    succeed("convert", later.folder / "first.bed", later.folder / "other.zarr", "--append")
    third = later.run("r3", genotypes="other.zarr", **options)
    assert set(statuses(third).values()) == {"extended"}
    scans = pd.read_csv(third / "traits.tsv", sep="\t")["scans"][0].split(",")
    tables = [(folder / "gamma.tsv").read_bytes() for folder in (second, *(later.out / scan for scan in scans))]
    assert tables[1:] == [tables[0]] * 2
    assert tables[0] != (later.out / "r1" / "gamma.tsv").read_bytes()


def test_latest_is_set_by_the_next_run_where_a_kill_came_before_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run("r1", **FAST)
    world.write(world.traits.assign(c=np.arange(float(N_SAMPLES))))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", killed)
        with pytest.raises(_Killed):
            world.call("r2", **FAST)
    assert (world.out / "latest").resolve() == world.out / "r1"
    assert "nothing to do" in world.call("r2", **FAST).out
    assert (world.out / "latest").resolve() == world.out / "r2"


def test_a_release_that_was_never_finished_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(biolmm.reanalysis.run, "write_changes", killed)
        with pytest.raises(_Killed):
            world.call("r1", **FAST)
    assert (world.out / ".r1.partial").is_dir()
    world.run("r2", **FAST)
    assert sorted(path.name for path in world.out.iterdir()) == [lock.LOCK_NAME, "latest", "pieces", "r2"]


@pytest.mark.parametrize(
    ("owner", "free"),
    [
        ({"host": "this", "boot": "this"}, True),
        ({"host": "elsewhere", "boot": "this"}, True),  # a container under another name: the lock is the system's
        ({"host": "this", "boot": "other"}, False),  # another machine of the same name
        ({"host": "this"}, True),
        ({"host": "elsewhere"}, False),
    ],
)
def test_a_machine_is_known_by_its_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: dict[str, str], free: bool
) -> None:
    monkeypatch.setattr(lock, "_boot", lambda: "this")
    monkeypatch.setattr(lock.socket, "gethostname", lambda: "this")
    (tmp_path / lock.LOCK_NAME).write_text(json.dumps({"pid": 1, "since": "then", "plan": "p", **owner}))
    try:
        with lock.only_one(tmp_path, Path("plan.yaml")):
            assert free
    except lock.BusyError as error:
        assert (error.exit_code, free) == (exits.BUSY, False)


def test_ld_scores_are_known_by_content(world: World) -> None:
    from biolmm.cli.reanalyse import plan_config
    from biolmm.reanalysis.plan import read_plan

    def key() -> str:
        return look(plan_config(read_plan(world.plan("r1", ld_scores="ref@", **FAST))), "gwas").state.key

    scores, count = (world.folder / f"ref1{ending}" for ending in (".l2.ldscore", ".l2.M_5_50"))
    keys = []
    for text, n in (("1", "5"), ("2", "5"), ("2", "6"), ("1", "5")):
        scores.write_text(f"CHR SNP BP L2\n1 rs1 5 {text}\n")
        count.write_text(f"{n}\n")
        keys.append(key())
    assert keys[0] == keys[3]
    assert len(set(keys)) == 3


def test_a_piece_is_listed_once_for_all_traits(later: World, monkeypatch: pytest.MonkeyPatch) -> None:
    later.write(later.traits.assign(c=np.arange(float(N_SAMPLES)), d=np.arange(float(N_SAMPLES)) ** 2))
    listed = []
    real = biolmm.reanalysis.assemble.list_parts

    def counted(folder: Path, *given: Any, **named: Any) -> Any:
        listed.append(folder.name)
        return real(folder, *given, **named)

    monkeypatch.setattr(biolmm.reanalysis.assemble, "list_parts", counted)
    release = later.run("r2", solver="stochastic")
    assert len(read_associations(release, "d")) < N_VARIANTS
    assert len(listed) == len(set(listed)) == 2
