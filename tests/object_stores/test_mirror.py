"""What is on the store is always fit to continue from, whatever stops a run, and another machine continues there."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biolmm.atomic import write_json, write_text
from biolmm.errors import InputFileError, OutputError
from biolmm.mirror import _rank, mirrored
from biolmm.places import ObjectPath
from object_stores.conftest import Flaky, keys_in

N_FILES = 16
NEVER = 3600.0
"""Nothing is uploaded before the block ends."""


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def run_analysis(folder: Path, version: str = "1") -> None:
    """Write what an analysis writes, in its order; a part with the right mark is kept."""
    write_json(folder / "analysis.json", {"key": "a"})
    store = folder / "genotypes.zarr"
    if not (store / "zarr.json").exists():
        for i in range(3):
            write_text(store / "c" / str(i), f"chunk {i}")
        write_text(store / "zarr.json", "{}")
    mark = folder / "model" / "null.zarr.done.json"
    if not mark.exists() or json.loads(mark.read_text())["key"] != version:
        mark.unlink(missing_ok=True)
        write_text(folder / "model" / "null.zarr" / "x" / "0", f"model {version}")
        write_text(folder / "model" / "null.zarr" / "zarr.json", f"{{}} {version}")
        write_json(mark, {"key": version})
    for part in range(3):
        receipt = folder / "model" / "scan-ab" / f"{part}.json"
        if not receipt.exists():
            name = f"associations/trait=A%2F b/contig=1/part-{part}.parquet"
            write_text(folder / name, f"part {part}")
            write_json(receipt, {"file": name})
    write_text(folder / ".hidden", "no")
    write_text(folder / "model" / "loco.zarr.partial" / "c" / "0", "no")
    write_text(folder / "report.html", "<html>")
    write_json(folder / "run.json", {"finished": version})


def names_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".partial/" not in str(path) and not path.name.startswith(".")
    }


def names_on(store: ObjectPath) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.files()}


def expected(tmp_path: Path, version: str = "1") -> dict[str, bytes]:
    run_analysis(tmp_path / f"expected {version}", version)
    return names_below(tmp_path / f"expected {version}")


def check_fit_to_continue(found: dict[str, bytes]) -> None:
    """Every mark on the store has what it vouches for."""
    for name, content in found.items():
        assert not name.startswith(".") and ".partial" not in name
        if name.startswith("model/scan-"):
            assert json.loads(content)["file"] in found
        if name == "model/null.zarr.done.json":
            version = json.loads(content)["key"]
            assert found["model/null.zarr/x/0"] == f"model {version}".encode()
            assert found["model/null.zarr/zarr.json"] == f"{{}} {version}".encode()
        if name == "genotypes.zarr/zarr.json":
            assert {f"genotypes.zarr/c/{i}" for i in range(3)} <= set(found)
    if "run.json" in found:
        assert len(found) == N_FILES


def test_a_local_folder_is_itself(tmp_path: Path) -> None:
    with mirrored(tmp_path) as folder:
        assert folder == tmp_path


def test_results_are_on_the_store_at_the_end(bucket: ObjectPath, tmp_path: Path, s3: Any) -> None:
    out = bucket / "study" / "results"
    with mirrored(out, tmp_path / "scratch", NEVER) as folder:
        run_analysis(folder)
    assert names_on(out) == expected(tmp_path)
    assert all(key.startswith("study/results/") for key in keys_in(s3, bucket))
    assert not list((tmp_path / "scratch").iterdir())  # the local copy is not needed any more


def test_the_default_place_is_the_users_cache(
    bucket: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with mirrored(bucket) as folder:
        assert folder.is_relative_to(tmp_path / "biolmm")
        assert folder.is_dir()


def test_marks_come_after_what_they_vouch_for(bucket: ObjectPath, tmp_path: Path, flaky: Flaky) -> None:
    with flaky(p_503=0, p_reset=0) as proxy, mirrored(bucket / "r", tmp_path / "scratch", NEVER) as folder:
        run_analysis(folder)
    names = [change.partition("/r/")[2] for change in proxy.changes]
    ranks = [_rank(name) for name in names]
    assert ranks == sorted(ranks)
    assert len(names) == len(set(names)) == N_FILES
    assert names[-2:] == ["analysis.json", "run.json"]
    assert {name for name, rank in zip(names, ranks, strict=True) if rank == 3} == {
        f"model/scan-ab/{part}.json" for part in range(3)
    }
    assert {name for name, rank in zip(names, ranks, strict=True) if rank == 1} == {
        "genotypes.zarr/zarr.json",
        "model/null.zarr/zarr.json",
    }


def test_what_is_finished_is_uploaded_while_the_work_goes_on(bucket: ObjectPath, tmp_path: Path) -> None:
    with mirrored(bucket, tmp_path / "scratch", 0.02) as folder:
        write_text(folder / "x", "1")
        wait_for(lambda: names_on(bucket) == {"x": b"1"})
        write_text(folder / "x", "2")
        write_text(folder / "y", "3")
        wait_for(lambda: names_on(bucket) == {"x": b"2", "y": b"3"})
        (folder / "x").unlink()
        wait_for(lambda: names_on(bucket) == {"y": b"3"})
        uploaded = (bucket / "y").stat()
        time.sleep(0.1)
        assert (bucket / "y").stat() == uploaded
    assert names_on(bucket) == {"y": b"3"}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("n_changes", [0, 4, 6, 8, 13, N_FILES - 1, N_FILES])
def test_a_kill_after_any_upload_leaves_what_another_machine_continues(
    bucket: ObjectPath, tmp_path: Path, flaky: Flaky, n_changes: int
) -> None:
    with flaky(p_503=0, p_reset=0) as proxy:
        proxy.allowed_changes = n_changes
        if n_changes < N_FILES:
            with (
                pytest.raises(
                    OutputError, match=r"is not complete: the object store answers with status 400 \(Killed\)"
                ),
                mirrored(bucket, tmp_path / "first", NEVER) as folder,
            ):
                run_analysis(folder)
        assert len(names_on(bucket)) == n_changes % N_FILES
        check_fit_to_continue(names_on(bucket))
    with mirrored(bucket, tmp_path / "second", NEVER) as folder:
        check_fit_to_continue(names_below(folder))
        for path in folder.rglob("*.zarr"):
            assert (path / "zarr.json").exists()  # a store in part would be in the way of the conversion
        run_analysis(folder)
    assert names_on(bucket) == expected(tmp_path)


@pytest.mark.parametrize("n_changes", [0, 2, 4, 6, 11])
def test_a_kill_while_results_are_replaced(bucket: ObjectPath, tmp_path: Path, flaky: Flaky, n_changes: int) -> None:
    """A changed model: its mark and metadata are removed from the store before anything of it is replaced."""
    with mirrored(bucket, tmp_path / "first", NEVER) as folder:
        run_analysis(folder)
    with flaky(p_503=0, p_reset=0) as proxy:
        proxy.allowed_changes = n_changes
        try:
            with mirrored(bucket, tmp_path / "second", NEVER) as folder:
                assert names_below(folder) == expected(tmp_path)
                run_analysis(folder, "2")
        except OutputError:
            assert len(proxy.changes) == n_changes
        found = names_on(bucket)
        found.pop("run.json", None)
        check_fit_to_continue(found)
        if n_changes == 11:
            assert len(proxy.changes) < 11  # else more would have to be tried
    with mirrored(bucket, tmp_path / "third", NEVER) as folder:
        run_analysis(folder, "2")
    assert names_on(bucket) == expected(tmp_path, "2")


def test_the_same_machine_uploads_the_rest(bucket: ObjectPath, tmp_path: Path, flaky: Flaky) -> None:
    scratch = tmp_path / "scratch"
    with flaky(p_503=0, p_reset=0) as proxy:
        proxy.allowed_changes = 6
        remedy = f"Everything is in {scratch}/.*/files: run the same command again"
        with pytest.raises(OutputError, match=remedy) as raised, mirrored(bucket, scratch, NEVER) as folder:
            run_analysis(folder)
        assert raised.value.exit_code == 1  # nobody's mistake: schedulers try again
    with flaky(p_503=0, p_reset=0) as proxy:
        with mirrored(bucket, scratch, NEVER) as folder:
            assert names_below(folder) == expected(tmp_path)
        assert N_FILES - 6 <= len(proxy.changes) <= N_FILES - 6 + 2  # at most what was on its way is sent again
    assert names_on(bucket) == expected(tmp_path)


def test_an_error_in_the_work_is_kept_and_what_is_finished_is_uploaded(
    bucket: ObjectPath, tmp_path: Path, flaky: Flaky
) -> None:
    with pytest.raises(ValueError, match="mine"), mirrored(bucket, tmp_path / "scratch", NEVER) as folder:
        write_text(folder / "x", "1")
        raise ValueError("mine")
    assert names_on(bucket) == {"x": b"1"}
    with flaky(p_503=0, p_reset=0) as proxy, pytest.raises(ValueError, match="mine") as caught:  # noqa: SIM117
        with mirrored(bucket, tmp_path / "scratch", NEVER) as folder:
            write_text(folder / "y", "1")
            proxy.allowed_changes = 0
            raise ValueError("mine")
    assert "is not complete" in caught.value.__notes__[0]


def test_what_another_machine_has_done_meanwhile_counts(bucket: ObjectPath, tmp_path: Path) -> None:
    def stopped(folder: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), mirrored(bucket, tmp_path / "first", NEVER) as folder:
        run_analysis(folder, "1")
        stopped(folder)
    with mirrored(bucket, tmp_path / "second", NEVER) as folder:
        run_analysis(folder, "2")
        write_text(folder / "new", "2")
    with mirrored(bucket, tmp_path / "first", NEVER) as folder:
        assert names_below(folder) == {**expected(tmp_path, "2"), "new": b"2"}
        assert not (folder / "model" / "loco.zarr.partial" / "c" / "0").exists()
    (bucket / "new").unlink()
    assert names_on(bucket) == expected(tmp_path, "2")


def test_files_lost_from_scratch_are_fetched_again_not_removed(bucket: ObjectPath, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), mirrored(bucket, tmp_path / "scratch", NEVER) as folder:
        run_analysis(folder)
        raise KeyboardInterrupt
    (folder / "report.html").unlink()  # as systems clean up old files
    with mirrored(bucket, tmp_path / "scratch", NEVER) as again:
        assert again == folder
        assert names_below(folder) == expected(tmp_path)
    assert names_on(bucket) == expected(tmp_path)


def test_a_file_that_changes_while_it_is_uploaded_is_uploaded_again(
    bucket: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, n_uploads = ObjectPath.upload, 0

    def slow(path: ObjectPath, file: Path) -> str | None:
        nonlocal n_uploads
        n_uploads += 1
        token = upload(path, file)
        if n_uploads == 1:
            write_text(file, "2")  # of the same size
        return token

    monkeypatch.setattr(ObjectPath, "upload", slow)
    with mirrored(bucket, tmp_path / "scratch", 0.02) as folder:
        write_text(folder / "x", "1")
        wait_for(lambda: n_uploads > 1)
    assert n_uploads == 2
    assert names_on(bucket) == {"x": b"2"}


def test_two_runs_of_one_machine_do_not_share_a_folder(bucket: ObjectPath, tmp_path: Path) -> None:
    with mirrored(bucket, tmp_path, NEVER), pytest.raises(OutputError, match="is being written by another process"):  # noqa: SIM117
        with mirrored(bucket, tmp_path, NEVER):
            pass


def test_folders_that_web_consoles_make_are_no_files(bucket: ObjectPath, tmp_path: Path, s3: Any) -> None:
    for key in ("r/", "r/model/", "r/model/x"):
        s3.put_object(Bucket=bucket.bucket, Key=key, Body=b"" if key.endswith("/") else b"1")
    with mirrored(bucket / "r", tmp_path / "scratch", NEVER) as folder:
        assert names_below(folder) == {"model/x": b"1"}


def test_results_through_a_flaky_store(bucket: ObjectPath, tmp_path: Path, flaky: Flaky) -> None:
    big = os.urandom(11_000_000)
    with flaky(seed=5):
        with mirrored(bucket, tmp_path / "first", 0.05) as folder:
            run_analysis(folder)
            (folder / "big").write_bytes(big)
        with mirrored(bucket, tmp_path / "second", NEVER) as folder:
            assert names_below(folder) == {**expected(tmp_path), "big": big}
    assert threading.active_count() < 50


def test_what_cannot_be_fetched_is_named(bucket: ObjectPath, tmp_path: Path, flaky: Flaky) -> None:
    missing = ObjectPath("s3", "no-such-bucket", "r")
    with pytest.raises(InputFileError, match="s3://no-such-bucket/r cannot be listed: there is no bucket"):  # noqa: SIM117
        with mirrored(missing, tmp_path / "a", NEVER):
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"), mirrored(bucket, tmp_path / "file", NEVER):
        pass
    (bucket / "a").write_bytes(b"x")
    (bucket / "a" / "b").write_bytes(b"x")  # fine on a store, not on a disk
    with pytest.raises(InputFileError, match="cannot be fetched"), mirrored(bucket, tmp_path / "b", NEVER):
        pass
