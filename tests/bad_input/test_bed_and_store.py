"""Malformed PLINK files and stores: each with the beginning of its one-line message."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biolmm.errors import UserError
from biolmm.store.convert import convert
from biolmm.store.read import GenotypeStore

BIM_COLUMNS = "(chromosome, variant id, position in centimorgans, position in base pairs, allele 1, allele 2)"
FAM_COLUMNS = "(family id, sample id, father, mother, sex, phenotype)"


@dataclass(frozen=True)
class Case:
    """How to spoil a folder with `c.bed`, `c.bim`, `c.fam` (5 variants, 6 samples), and what is said then.

    `{d}` in the message stands for the folder.
    """

    name: str
    spoil: Callable[[Path], object]
    message: str


def put(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def line(name: str, number: int, text: str) -> Callable[[Path], object]:
    """Replace one line of a text file; an empty text removes it."""

    def spoil(folder: Path) -> None:
        lines = (folder / name).read_text().splitlines(keepends=True)
        lines[number - 1 : number] = [text + "\n"] if text else []
        (folder / name).write_text("".join(lines))

    return spoil


def head(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "c.bed").write_bytes(content + (folder / "c.bed").read_bytes()[len(content) :])


def cut(n_bytes: int) -> Callable[[Path], object]:
    return lambda folder: (folder / "c.bed").write_bytes((folder / "c.bed").read_bytes()[:n_bytes])


def unlink(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def make_folder(name: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return spoil


def rename_bed(folder: Path) -> None:
    for suffix in ("bed", "bim", "fam"):
        (folder / f"c.{suffix}").rename(folder / f"other.{suffix}")
    (folder / "c").write_text("not a bed")


BED_CASES = [
    Case("no .bed", unlink("c.bed"), "{d}/c.bed: no such file."),
    Case("a folder", make_folder("c.bed"), "{d}/c.bed is not a file."),
    Case("no .bim", unlink("c.bim"), "{d}/c.bim is missing: c.bed is read with the .bim and .fam of the same name."),
    Case("no .fam", unlink("c.fam"), "{d}/c.fam is missing: c.bed is read with the .bim and .fam of the same name."),
    Case("a folder as .bim", make_folder("c.bim"), "{d}/c.bim is missing: "),
    Case("not a .bed", rename_bed, "{d}/c is not a genotype file that biolmm knows: it reads .bed, .bgen,"),
    Case("empty .bed", put("c.bed", b""), "{d}/c.bed is empty."),
    Case(
        "wrong magic", head(b"\x00\x00"), "{d}/c.bed is not a PLINK .bed: it begins with 00 00 01 instead of 6c 1b 01."
    ),
    Case("text", head(b"#CH"), "{d}/c.bed is not a PLINK .bed: it begins with 23 43 48 instead of 6c 1b 01."),
    Case(
        "gzip",
        head(b"\x1f\x8b"),
        "{d}/c.bed is not a PLINK .bed: it begins with 1f 8b 01 instead of 6c 1b 01. It is "
        "compressed with gzip: unpack it first.",
    ),
    Case(
        "zstd",
        head(b"\x28\xb5\x2f"),
        "{d}/c.bed is not a PLINK .bed: it begins with 28 b5 2f instead of 6c 1b 01. It is "
        "compressed with zstd: unpack it first.",
    ),
    Case(
        "sample-major",
        head(b"\x6c\x1b\x00"),
        "{d}/c.bed is stored sample by sample (mode 00); biolmm reads variant by "
        "variant (mode 01). Rewrite it: plink --bfile {d}/c --make-bed",
    ),
    Case(".pgen", head(b"\x6c\x1b\x10"), "{d}/c.bed is not a PLINK 1 .bed: mode 10 instead of 01. If it is a .pgen, "),
    Case("two bytes", cut(2), "{d}/c.bed is not a PLINK 1 .bed: mode nothing instead of 01."),
    Case(
        "header only",
        cut(3),
        "{d}/c.bed is truncated: 3 bytes where 6 samples × 5 variants take 13; the data end at variant 1 (v0).",
    ),
    Case(
        "truncated",
        cut(12),
        "{d}/c.bed is truncated: 12 bytes where 6 samples × 5 variants take 13; the data end at "
        "variant 5 (v4). Copy the file again, or give the c.fam and c.bim that belong to it.",
    ),
    Case(
        "too long",
        lambda d: (d / "c.bed").write_bytes((d / "c.bed").read_bytes() + b"\xff"),
        "{d}/c.bed is too long: 14 "
        "bytes where 6 samples × 5 variants take 13. Give the c.fam and c.bim that belong to it.",
    ),
    Case(
        "a variant less in .bim", line("c.bim", 5, ""), "{d}/c.bed is too long: 13 bytes where 6 samples × 4 variants "
    ),
    Case(
        "a sample more in .fam",
        lambda d: (d / "c.fam").write_text((d / "c.fam").read_text() + "".join(f"f t{i} 0 0 0 -9\n" for i in range(3))),
        "{d}/c.bed is truncated: 13 bytes where 9 samples × 5 variants take 18",
    ),
    Case("empty .bim", put("c.bim", ""), "{d}/c.bim is empty."),
    Case("blank .bim", put("c.bim", "\n \n"), "{d}/c.bim is empty."),
    Case("empty .fam", put("c.fam", ""), "{d}/c.fam is empty."),
    Case(
        "five columns in .bim",
        line("c.bim", 3, "1 v2 201 A G"),
        "{d}/c.bim, line 3: 5 columns instead of six " + BIM_COLUMNS,
    ),
    Case(
        "seven columns in .bim",
        line("c.bim", 4, "1 v2 0 201 A G x"),
        "{d}/c.bim, line 4: 7 columns instead of six " + BIM_COLUMNS,
    ),
    Case(
        "nine columns in .bim",
        line("c.bim", 4, "1 v2 0 201 A G x y z"),
        "{d}/c.bim, line 4: 9 columns instead of six " + BIM_COLUMNS,
    ),
    Case(
        "five columns in .fam",
        line("c.fam", 2, "F S1 0 0 1"),
        "{d}/c.fam, line 2: 5 columns instead of six " + FAM_COLUMNS,
    ),
    Case(
        "a header in .fam",
        line("c.fam", 1, "#FID IID SEX\nF S0 0 0 1 -9"),
        "{d}/c.fam, line 1: 3 columns instead of six " + FAM_COLUMNS,
    ),
    Case(
        "binary .bim",
        put("c.bim", b"\x1f\x8b\x08\xff\xfe\n"),
        "{d}/c.bim is not a text file: invalid start byte at byte",
    ),
    Case(
        "text position",
        line("c.bim", 2, "1 v1 0 ten A G"),
        "{d}/c.bim, line 2: position 'ten' (column 4) is not an integer.",
    ),
    Case(
        "fractional position",
        line("c.bim", 2, "\n1 v1 0 10.5 A G"),
        "{d}/c.bim, line 3: position '10.5' (column 4) is not an integer.",
    ),
    Case(
        "scientific position",
        line("c.bim", 5, "1 v1 0 1e6 A G"),
        "{d}/c.bim, line 5: position '1e6' (column 4) is not an integer.",
    ),
    Case(
        "missing position",
        line("c.bim", 1, "1 v1 0 NA A G"),
        "{d}/c.bim, line 1: position 'NA' (column 4) is not an integer.",
    ),
    Case(
        "huge position",
        line("c.bim", 1, f"1 v1 0 {10**20} A G"),
        "{d}/c.bim, line 1: position '100000000000000000000' ",
    ),
    Case(
        "sample twice",
        line("c.fam", 4, "F S1 0 0 1 -9"),
        "{d}/c.fam names 1 sample ids (column 2) more than once: S1. Samples are matched by this id alone",
    ),
]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A folder with a good file set of 5 variants and 6 samples."""
    (tmp_path / "c.bim").write_text("".join(f"1 v{i} 0 {100 * i + 1} A G\n" for i in range(5)))
    (tmp_path / "c.fam").write_text("".join(f"F S{i} 0 0 1 -9\n" for i in range(6)))
    (tmp_path / "c.bed").write_bytes(b"\x6c\x1b\x01" + bytes(range(10)))
    return tmp_path


def check_message(error: UserError, case_message: str, folder: Path, exit_code: int = 2) -> None:
    message = str(error)
    assert message.startswith(case_message.replace("{d}", str(folder)))
    assert "\n" not in message
    assert error.exit_code == exit_code


def test_the_good_file_set_is_good(good: Path) -> None:
    assert convert([good / "c.bed"], good / "x.zarr").n_variants == 5


@pytest.mark.parametrize("case", BED_CASES, ids=lambda case: case.name)
def test_bad_file_sets_are_named(good: Path, case: Case) -> None:
    case.spoil(good)
    path = good / "c" if case.name == "not a .bed" else good / "c.bed"
    with pytest.raises(UserError) as error:
        convert([path], good / "x.zarr")
    check_message(error.value, case.message, good)
    assert not (good / "x.zarr").exists()
    assert not (good / "x.zarr.partial").exists()


def test_no_file_and_a_file_twice_are_named(good: Path) -> None:
    with pytest.raises(UserError, match=r"^no genotype file was given"):
        convert([], good / "x.zarr")
    with pytest.raises(UserError, match=r"c\.bed was given twice"):
        convert([good / "c.bed", good / "c"], good / "x.zarr")


@pytest.mark.parametrize("name", ["c.bed", "c.bim", "c.fam"])
def test_files_that_cannot_be_read_are_named(good: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the refusal is put in by hand."""
    really = Path.open

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError) as error:
        convert([good / "c.bed"], good / "x.zarr")
    check_message(error.value, f"{{d}}/{name} cannot be read: Permission denied.", good)


def attribute(name: str, value: object) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        metadata = json.loads((folder / "x.zarr" / "zarr.json").read_text())
        metadata["attributes"][name] = value
        if value is None:
            del metadata["attributes"][name]
        (folder / "x.zarr" / "zarr.json").write_text(json.dumps(metadata))

    return spoil


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder / "x.zarr")
    (folder / "x.zarr").write_text("")


def unfinished(folder: Path) -> None:
    (folder / "x.zarr").rename(folder / "x.zarr.partial")


CHUNK = "x.zarr/call_alt_count/c/0/0"
STORE_CASES = [
    Case("nothing there", lambda d: shutil.rmtree(d / "x.zarr"), "{d}/x.zarr: no such store."),
    Case(
        "unfinished",
        unfinished,
        "{d}/x.zarr: no such store (x.zarr.partial is unfinished: run the command that writes it again).",
    ),
    Case("a file", replace_by_file, "{d}/x.zarr is not a store: it has no zarr.json. Make one with biolmm convert."),
    Case(
        "a folder", unlink("x.zarr/zarr.json"), "{d}/x.zarr is not a store: it has no zarr.json. Make one with biolmm "
    ),
    Case(
        "another Zarr", attribute("biolmm_format", None), "{d}/x.zarr is a Zarr group but not a biolmm store. Make one "
    ),
    Case(
        "newer version",
        attribute("biolmm_format", 3),
        "{d}/x.zarr has store format 3; this biolmm reads format 2. Use "
        "the biolmm that wrote it, or convert the genotypes again.",
    ),
    Case(
        "broken metadata", put("x.zarr/zarr.json", '{"attri'), "{d}/x.zarr is damaged: zarr.json is not a Zarr group's "
    ),
    Case("lost table", unlink("x.zarr/sample_id/c/0"), "{d}/x.zarr is damaged: sample_id/c/0 is missing. Restore it"),
    Case("changed table", put("x.zarr/sample_id/c/0", "x"), "{d}/x.zarr is damaged: sample_id/c/0 has CRC-32C "),
    Case(
        "lost chunk",
        unlink(CHUNK),
        "{d}/x.zarr is damaged: chunk 0 (variants 1 to 5) is missing. Its file is "
        "call_alt_count/c/0/0. Restore it from a backup, or remove the store and write it again.",
    ),
    Case(
        "empty chunk",
        put(CHUNK, ""),
        "{d}/x.zarr is damaged: chunk 0 (variants 1 to 5) has CRC-32C 00000000 in 0 bytes",
    ),
    Case("changed chunk", put(CHUNK, "x"), "{d}/x.zarr is damaged: chunk 0 (variants 1 to 5) has CRC-32C "),
    Case("folder as chunk", make_folder(CHUNK), "{d}/x.zarr/call_alt_count/c/0/0 cannot be read: Is a directory."),
]


@pytest.mark.parametrize("case", STORE_CASES, ids=lambda case: case.name)
def test_bad_stores_are_named(good: Path, case: Case) -> None:
    convert([good / "c.bed"], good / "x.zarr")
    case.spoil(good)
    with pytest.raises(UserError) as error:
        read(good / "x.zarr")
    check_message(error.value, case.message, good)


def read(path: Path) -> None:
    store = GenotypeStore.open(path)
    assert store.sample_id.size == 6
    store.read_rows(0)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("c.bed/x.zarr", "{d}/c.bed/x.zarr cannot be written: Not a directory. Choose another place, or make this one"),
        ("c.fam", "{d}/c.fam exists and is not a store of this biolmm: choose another name or move it."),
    ],
)
def test_places_that_cannot_be_written_are_named(good: Path, out: str, message: str) -> None:
    before = (good / "c.fam").read_bytes()
    with pytest.raises(UserError) as error:
        convert([good / "c.bed"], good / out, overwrite=True)
    check_message(error.value, message, good)
    assert (good / "c.fam").read_bytes() == before


def test_a_full_disk_is_named_and_nothing_is_lost(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (good / "c.bim").write_text("".join(f"1 v{i} 0 {i} A G\n" for i in range(200)))
    rows = np.arange(400, dtype=np.uint8).reshape(200, 2)
    rows[:, 1] &= 0b1111  # six samples: the rest of the second byte is padding
    (good / "c.bed").write_bytes(b"\x6c\x1b\x01" + rows.tobytes())
    really = Path.replace

    def full(path: Path, target: Path) -> Path:
        if target.name == "2.npz":
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(UserError) as error:
            convert([good / "c.bed"], good / "x.zarr", chunk_variants=64)
    message = "{d}/x.zarr cannot be written: No space left on device. Free space there and run the same command again"
    check_message(error.value, message, good, exit_code=1)  # it may pass
    assert {path.name for path in (good / "x.zarr.partial" / "markers").iterdir()} == {"0.npz", "1.npz"}
    assert not list((good / "x.zarr.partial" / "scratch").iterdir())
    assert convert([good / "c.bed"], good / "x.zarr", chunk_variants=64).n_chunks == 4
