"""Stages that can be killed at any moment."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from biolmm.errors import OutputError
from biolmm.stages import Stages, content_hash


def folder_with(text: str) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        path.mkdir()
        (path / "data").write_text(text)

    return build


def must_not_run(path: Path) -> None:
    raise AssertionError("built again")


def full_disk(path: Path) -> None:
    path.mkdir()
    (path / "data").write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_finished_work_is_found_again(tmp_path: Path) -> None:
    path, resumed = Stages(tmp_path / "new").run("fit", "key", folder_with("one"))
    assert not resumed
    assert (path / "data").read_text() == "one"
    again, resumed = Stages(tmp_path / "new").run("fit", "key", must_not_run)
    assert resumed
    assert again == path
    assert sorted(p.name for p in path.parent.iterdir()) == ["fit", "fit.done.json"]


def test_a_file_is_an_artefact_too(tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    for key in ("a", "b"):
        path, _ = stages.run("table.tsv", key, lambda aside, key=key: aside.write_text(key))
        assert path.read_text() == key


def test_another_key_builds_again_and_replaces(tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    stages.run("fit", "one", folder_with("one"))
    assert stages.is_done("fit", "one")
    assert not stages.is_done("fit", "two")
    path, resumed = stages.run("fit", "two", folder_with("two"))
    assert not resumed
    assert (path / "data").read_text() == "two"
    assert not stages.is_done("fit", "one")


@pytest.mark.parametrize("before", [False, True], ids=["first", "over an older one"])
def test_killed_half_way_is_not_finished(tmp_path: Path, before: bool) -> None:
    stages = Stages(tmp_path)
    if before:
        stages.run("fit", "old", folder_with("old"))

    def killed(path: Path) -> None:
        path.mkdir()
        (path / "data").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.run("fit", "key", killed)
    assert not stages.is_done("fit", "key")
    assert not stages.is_done("fit", "old")
    path, resumed = stages.run("fit", "key", folder_with("whole"))
    assert not resumed
    assert (path / "data").read_text() == "whole"


def test_killed_between_rename_and_marker_builds_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = Stages(tmp_path)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("biolmm.stages.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        stages.run("fit", "key", folder_with("one"))
    monkeypatch.undo()
    assert not stages.is_done("fit", "key")
    _, resumed = stages.run("fit", "key", folder_with("two"))
    assert not resumed


def test_a_missing_artefact_is_not_finished_whatever_the_marker_says(tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    path, _ = stages.run("fit", "key", folder_with("one"))
    (path / "data").unlink()
    path.rmdir()
    assert not stages.is_done("fit", "key")


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null", "3", '"key"', '{"key": null}', "\udcff"])
def test_a_broken_marker_is_no_marker(tmp_path: Path, content: str) -> None:
    stages = Stages(tmp_path)
    stages.run("fit", "key", folder_with("one"))
    (tmp_path / "fit.done.json").write_bytes(content.encode(errors="surrogateescape"))
    assert not stages.is_done("fit", "key")
    assert not stages.run("fit", "key", folder_with("two"))[1]


def test_a_full_disk_is_said_and_continued_from(tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    stages.run("convert", "key", folder_with("kept"))
    with pytest.raises(OutputError, match=r"No space left on device.*run the same command again"):
        stages.run("fit", "key", full_disk)
    assert stages.run("convert", "key", must_not_run)[1]
    assert (stages.run("fit", "key", folder_with("whole"))[0] / "data").read_text() == "whole"


def test_a_full_disk_while_the_marker_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str, encoding: str | None = None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        Stages(tmp_path).run("fit", "key", lambda aside: aside.mkdir())
    monkeypatch.undo()
    assert not Stages(tmp_path).is_done("fit", "key")


def test_an_error_of_the_work_itself_is_passed_on(tmp_path: Path) -> None:
    def wrong(path: Path) -> None:
        raise ValueError("not about the disk")

    with pytest.raises(ValueError, match="not about the disk"):
        Stages(tmp_path).run("fit", "key", wrong)


def test_hashes_tell_contents_apart() -> None:
    values = ["a", b"a", ["a"], {"a": 1}, {"a": 2}, 1, "1", 1.5, None, "", b""]
    hashes = [content_hash(value) for value in values]
    assert hashes[0] != content_hash("a", "")
    assert content_hash("ab", "c") != content_hash("a", "bc")
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert len(set(hashes)) >= len(values) - 1  # b"" and "" alone could coincide with JSON of another
