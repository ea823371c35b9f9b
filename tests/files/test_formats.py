"""Which files are meant: patterns, suffixes, names of file sets, libraries that are not there."""

from __future__ import annotations

import glob
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolmm.errors import InputFileError, ParameterError
from biolmm.files import formats
from biolmm.files.formats import expand, open_source

WritePlink = Callable[..., Path]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("")


def test_stars_match_in_natural_order(tmp_path: Path) -> None:
    touch(tmp_path, "chr10.bed", "chr2.bed", "chr1.bed", "chrX.bed", "chr1.bim", "b2c10.bed", "b2c9.bed")
    names = ["chr1.bed", "chr2.bed", "chr10.bed", "chrX.bed"]
    assert expand([tmp_path / "chr*.bed"]) == [tmp_path / name for name in names]
    assert expand([str(tmp_path / "b2c*.bed")]) == [tmp_path / "b2c9.bed", tmp_path / "b2c10.bed"]
    assert expand([tmp_path / "chr[12].bed"]) == [tmp_path / "chr1.bed", tmp_path / "chr2.bed"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("c{1..3}", ["c1", "c2", "c3"]),
        ("c{3..1}", ["c3", "c2", "c1"]),
        ("c{08..10}", ["c08", "c09", "c10"]),
        ("c{0..1}", ["c0", "c1"]),
        ("{a,b}{1..2}.x", ["a1.x", "a2.x", "b1.x", "b2.x"]),
        ("c{X,Y,}", ["cX", "cY", "c"]),
        ("c{a}", ["c{a}"]),
        ("c{}", ["c{}"]),
        ("c{1..b}", ["c{1..b}"]),
        ("plain.bed", ["plain.bed"]),
    ],
)
def test_braces_are_written_out_as_a_shell_does(pattern: str, expected: list[str]) -> None:
    assert [str(path) for path in expand([pattern])] == expected


def test_a_path_that_exists_is_no_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].bed", "a{1,2}.bed", "a1.bed")
    for name in ("a[1].bed", "a{1,2}.bed"):
        assert expand([tmp_path / name]) == [tmp_path / name]
    assert expand([tmp_path / "a[!2].bed", tmp_path / "gone.bed"]) == [tmp_path / "a1.bed", tmp_path / "gone.bed"]


def test_patterns_that_match_nothing_or_too_much_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "x.vcf")
    with pytest.raises(InputFileError, match=r"chr\*\.bed' matches no file; in .*: x\.vcf\.$"):
        expand([tmp_path / "chr*.bed"])
    with pytest.raises(InputFileError, match=r"matches no file; in .*gone: no such folder"):
        expand([tmp_path / "gone" / "*.bed"])
    with pytest.raises(ParameterError, match=r"'\{1\.\.99999999\}' stands for 99,999,999 paths"):
        expand(["c{1..99999999}.bed"])
    with pytest.raises(ParameterError, match="stands for 1,000,000 paths"):
        expand(["{0..999}{0..999}"])


@given(st.text(alphabet="ab{},.1[]*?", max_size=12))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        found = expand([text])
    except (InputFileError, ParameterError):
        return
    assert found or not text
    assert all(glob.has_magic(str(path)) is False or path.exists() for path in found) or Path(text).exists()


def test_formats_are_known_by_their_suffix(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, str]] = []
    monkeypatch.setattr(
        formats.Format, "open", property(lambda each: lambda path, **_: opened.append((each.key, path.name)))
    )
    names = ["a.bed", "a.bgen", "a.pgen", "a.vcf", "a.vcf.gz", "a.VCF.BGZ", "a.b.bcf"]
    for name in names:
        open_source(name)
    keys = ["bed", "bgen", "pgen", "vcf", "vcf", "vcf", "vcf"]
    assert opened == list(zip(keys, names, strict=True))


def test_a_file_set_is_found_by_its_name(write_plink: WritePlink, tmp_path: Path) -> None:
    bed = write_plink(np.zeros((3, 2), np.uint8))
    assert open_source(tmp_path / "cohort").path == bed
    touch(tmp_path, "cohort.pgen", "only.bgen")
    with pytest.raises(InputFileError, match=r"cohort could be .*cohort\.bed and .*cohort\.pgen: give one of them"):
        open_source(tmp_path / "cohort")
    with pytest.raises(InputFileError, match=r"only: no such file\. Did you mean .*only\.bgen\?"):
        open_source(tmp_path / "only")
    with pytest.raises(InputFileError, match=r"gone: no such file, and no file set gone\.bed or gone\.pgen"):
        open_source(tmp_path / "gone")


def test_unknown_files_are_refused_with_what_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "x.txt")
    message = r"x\.txt is not a genotype file that biolmm knows: it reads \.bed, \.bgen, \.pgen, \.vcf, \.vcf\.gz"
    with pytest.raises(InputFileError, match=message):
        open_source(tmp_path / "x.txt")


def test_a_sample_file_belongs_to_bgen(write_plink: WritePlink, tmp_path: Path) -> None:
    bed = write_plink(np.zeros((3, 2), np.uint8))
    with pytest.raises(
        ParameterError, match=r"cohort\.bed is not a \.bgen: only these take a sample file \(a\.sample\)"
    ):
        open_source(bed, sample_file="a.sample")


def test_a_missing_library_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def needs(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(formats.Format, "open", property(lambda each: lambda path: needs("Zipper.fast")))
    with pytest.raises(
        InputFileError, match=r"a\.vcf needs a library that is not installed, Zipper: pip install Zipper"
    ):
        open_source("a.vcf")
    monkeypatch.setattr(formats.Format, "open", property(lambda each: lambda path: needs("biolmm.gone")))
    with pytest.raises(ModuleNotFoundError):
        open_source("a.vcf")


def test_readers_are_imported_when_they_are_needed() -> None:
    import subprocess

    program = (
        "import sys; import biolmm.files.formats; print([m for m in sys.modules if m.startswith('biolmm.files.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(eval(done.stdout))
    assert not loaded & {f"biolmm.files.{each.key}" for each in formats.FORMATS}
