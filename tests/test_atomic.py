"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path

import pytest

from biolmm.atomic import atomic_path, saving, write_json, write_text, write_whole
from biolmm.cluster.exits import for_schedulers
from biolmm.errors import OutputError


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x"
    with atomic_path(path) as aside:
        aside.write_text("whole")
        assert not path.exists()
        assert aside.name.startswith(".")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError("x")]
)
def test_what_stops_half_way_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, error: BaseException) -> None:
    path = write_text(tmp_path / "x", "old")
    with pytest.raises(OutputError if isinstance(error, OSError) else type(error)), atomic_path(path) as aside:
        aside.write_text("ha")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_from_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Free space there"), saving(tmp_path / "x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OutputError, match="make this one writable"), saving(tmp_path / "x"):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize(
    ("name", "code"),
    [("ENOSPC", 70), ("EDQUOT", 70), ("EIO", 70), ("ESTALE", 70), ("ETIMEDOUT", 70), ("ENOMEM", 70),
     ("EACCES", 64), ("EPERM", 64), ("EROFS", 64), ("ENAMETOOLONG", 64), ("ENOTDIR", 64), ("EEXIST", 64)],
)  # fmt: skip
def test_schedulers_try_again_what_may_pass(tmp_path: Path, name: str, code: int) -> None:
    """Storage that fails, or is full, is not the user's mistake; also when a worker of a cluster has found it so."""
    number = getattr(errno, name)
    with pytest.raises(OutputError, match="cannot be written: ") as raised, saving(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    assert for_schedulers(raised.value.exit_code) == code
    travelled = pickle.loads(pickle.dumps(raised.value))
    assert (str(travelled), travelled.exit_code) == (str(raised.value), raised.value.exit_code)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_json(tmp_path / "file" / "x.json", {})


def test_json_is_written_for_people(tmp_path: Path) -> None:
    path = write_json(tmp_path / "x.json", {"b": 1, "path": tmp_path})
    assert json.loads(path.read_text()) == {"b": 1, "path": str(tmp_path)}
    assert path.read_text().endswith("}\n")


def test_bytes_are_written_whole_by_way_of_a_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    target = tmp_path / "x"
    write_whole(target, bytes(range(256)), tmp_path / "scratch")
    assert target.read_bytes() == bytes(range(256))

    def full(path: Path, to: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(target, b"new", tmp_path / "scratch")
    assert target.read_bytes() == bytes(range(256))
    assert not list((tmp_path / "scratch").iterdir())
