"""PLINK 2 filesets that do not fit together or are damaged: the line that says so."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from biolmm.errors import InputFileError
from biolmm.files.encoding import Encoding
from biolmm.files.pgen import open_pgen
from oracles.pgen_files import related_calls, related_dosages, write_calls, write_dosages


def change(name: str, edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Make a function that edits one file of a set."""

    def apply(folder: Path) -> None:
        (folder / name).write_bytes(edit((folder / name).read_bytes()))

    return apply


def put(at: int, value: bytes) -> Callable[[Path], None]:
    """Make a function that overwrites bytes of the `.pgen`."""
    return change("x.pgen", lambda content: content[:at] + value + content[at + len(value) :])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "x.pgen").unlink(), "x.pgen: no such file"),
        (lambda folder: (folder / "x.pvar").unlink(), "x.pvar is missing: x.pgen is read with the .pvar or .pvar.zst"),
        (lambda folder: (folder / "x.psam").unlink(), "x.psam is missing: x.pgen is read with the .psam or .fam"),
        (lambda folder: (folder / "x").write_text(""), "x is not a .pgen file: give the .pgen"),
        (change("x.pgen", lambda content: b""), "x.pgen is empty"),
        (change("x.pgen", lambda content: content[:7]), "x.pgen is truncated: 7 bytes, and the header alone takes 12"),
        (
            change("x.pgen", lambda content: content[:70]),
            "x.pgen is truncated: 70 bytes, and the table of its 40 variants",
        ),
        (change("x.pgen", lambda content: content[:-1]), "bytes where 70 samples × 40 variants take"),
        (change("x.pgen", lambda content: content + b"x"), "x.pgen is too long: "),
        (put(0, b"PK"), "x.pgen is not a .pgen: it begins with 50 4b 10 instead of 6c 1b"),
        (put(2, b"\0"), "x.pgen is stored sample by sample (mode 00)"),
        (put(2, b"\x20"), "x.pgen has its table of variants in another file, a .pgen.pgi (mode 20)"),
        (put(2, b"\x05"), "x.pgen has storage mode 05; biolmm reads 01, 02, 03, 04 and 10"),
        (put(2, b"\x02"), "bytes where 70 samples × 40 variants take 732. Copy it again"),
        (put(11, b"\x88"), "x.pgen has a layout for single samples (byte 12 is 88)"),
        (put(12, struct.pack("<Q", 1 << 40)), "x.pgen is damaged: the records of variants 1 to 40 begin at byte 1,09"),
        (put(20, b"\x02"), "x.pgen is damaged: variant 1 is stored as differences from one before it"),
        (put(20, b"\x80"), "x.pgen is damaged: variant 2 has calls of several ALT alleles, and the variant file name"),
        (change("x.psam", lambda content: content + b"new\t1\n"), "x.pgen holds 70 samples, but the sample file besi"),
        (change("x.pvar", lambda content: content + b"1\t1\tv\tA\tC\n"), "x.pgen holds 40 variants, but the variant f"),
    ],
)
def test_what_does_not_fit_is_refused_at_opening(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    write_calls(tmp_path / "x", related_calls(40, 70, np.random.default_rng(0)))
    damage(tmp_path)
    with pytest.raises(InputFileError) as error:
        open_pgen(tmp_path / "x")
    assert message in str(error.value)
    assert str(tmp_path / "x") in str(error.value)


def test_dosages_of_several_alleles_are_refused(tmp_path: Path) -> None:
    write_dosages(tmp_path / "x", related_dosages(20, 9, np.random.default_rng(0)))
    variants = (tmp_path / "x.pvar").read_text().replace("\tC\n", "\tC,T\n")
    (tmp_path / "x.pvar").write_text(variants)
    with pytest.raises(InputFileError, match=r"x\.pgen has dosages for \d+ variants of several ALT alleles") as error:
        open_pgen(tmp_path / "x")
    assert "--make-pgen erase-dosage" in str(error.value)


def test_a_damaged_record_names_the_variant(tmp_path: Path) -> None:
    write_calls(tmp_path / "x", np.random.default_rng(0).integers(0, 3, (3, 80)).astype(np.int8))
    source = open_pgen(tmp_path / "x")
    put(20, b"\x70")(tmp_path)  # the second variant becomes a list of those who are not missing
    with pytest.raises(InputFileError, match=r"x\.pgen is damaged at variant 2: .*\. Copy or make it again"):
        source.decoder.read(0, 3, Encoding.CALLS)
    assert source.decoder.read(2, 3, Encoding.CALLS).rows.shape == (1, 24)


def test_a_file_changed_after_opening(tmp_path: Path) -> None:
    write_calls(tmp_path / "x", related_calls(4, 30, np.random.default_rng(0)))
    source = open_pgen(tmp_path / "x")
    change("x.pgen", lambda content: content[:-1])(tmp_path)
    with pytest.raises(InputFileError, match=r"x\.pgen was changed since it was opened"):
        source.decoder.read(0, 1, Encoding.CALLS)
    (tmp_path / "x.pgen").unlink()
    with pytest.raises(InputFileError, match=r"x\.pgen cannot be read: No such file"):
        source.decoder.read(0, 1, Encoding.CALLS)
