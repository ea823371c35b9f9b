"""Damaged BGEN files: every one is an error that names file and variant, or reads as a file that could be."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from biolmm.errors import InputFileError
from biolmm.files.bgen import open_bgen
from biolmm.files.encoding import Encoding, dosages_from_rows
from biolmm.files.genotypes import Block, Source
from oracles.bgen_writer import Options, Variant, genotype_bytes, write_bgen, write_bgi

IDS = tuple(f"S{i}" for i in range(12))
KINDS = {
    "layout 1": Options(1, "none", IDS),
    "layout 1, zlib": Options(1, "zlib", IDS),
    "layout 2": Options(2, "none", IDS),
    "layout 2, zlib": Options(2, "zlib", IDS),
    "layout 2, zstd": Options(2, "zstd", IDS),
    "layout 2, zstd without sizes": Options(2, "zstd", IDS, zstd_size=False),
}
N_CASES = 60
"""Of each kind of file and of each kind of damage."""


def some_variants(layout: int) -> list[Variant]:
    """Give variants of every kind that a layout has."""
    rng = np.random.default_rng(3)
    n, variants = len(IDS), []
    kinds = [(8, False, 2), (16, False, 2), (8, True, 2), (5, False, 3), (11, True, 3), (8, False, 2)]
    for i, (bits, phased, n_alleles) in enumerate(kinds if layout == 2 else [(0, False, 2)] * 4):
        ploidy = tuple(rng.choice([1, 2], n).tolist()) if i == 5 else (2,) * n
        samples = []
        for z in ploidy:
            sets, each = (z, n_alleles) if phased else (1, z + 1 if n_alleles == 2 else 6)
            top = 2**bits - 1 if layout == 2 else 32_768
            samples.append(
                tuple(v for _ in range(sets) for v in rng.multinomial(top, np.full(each, 1 / each)).tolist())
            )
        missing = tuple((rng.random(n) < 0.1).tolist())
        names = ("A", "C", "GTT")[:n_alleles]
        variants.append(Variant(tuple(samples), ploidy, missing, bits, phased, names, f"rs{i}", position=100 + i))
    return variants


def read_all(path: Path, encoding: Encoding) -> tuple[Source, Block]:
    source = open_bgen(path)
    return source, source.decoder.read(0, source.variants.n, encoding)


def outcome(path: Path, encoding: Encoding) -> Block | None:
    """Read a file; gives None for an error in our words, and fails for anything but that or a block that can be."""
    try:
        source, block = read_all(path, encoding)
    except InputFileError as error:
        message = str(error)
        assert message.startswith(str(path))
        assert "\n" not in message
        return None
    n_rows, n_samples = source.variants.n, source.samples.n
    assert len(set(source.samples.sample_id)) == n_samples
    assert len(source.variants.variant_id) == len(source.variants.ref) == len(source.variants.alt) == n_rows
    assert block.rows.shape == (n_rows, encoding.width(n_samples))
    if encoding.is_dosage:
        assert ((block.rows <= 2 * encoding.steps) | (block.rows == encoding.missing)).all()
    for sums in (block.dosage_sum, block.dosage_squares, block.expected_squares):
        assert sums is not None
        assert ((sums >= 0) & (sums <= 4 * n_samples + 1e-9)).all()
    return block


def truncate(rng: np.random.Generator, file: bytearray) -> None:
    del file[int(rng.integers(0, len(file))) :]


def flip(rng: np.random.Generator, file: bytearray) -> None:
    file[int(rng.integers(0, len(file)))] ^= 1 << int(rng.integers(0, 8))


def flip_in_head(rng: np.random.Generator, file: bytearray) -> None:
    file[int(rng.integers(0, 130))] ^= 1 << int(rng.integers(0, 8))


def overwrite(rng: np.random.Generator, file: bytearray) -> None:
    at, n = int(rng.integers(0, len(file))), int(rng.integers(1, 40))
    kind = int(rng.integers(0, 3))
    file[at : at + n] = rng.bytes(n) if kind == 0 else bytes([0 if kind == 1 else 255]) * n


def cut_out(rng: np.random.Generator, file: bytearray) -> None:
    at = int(rng.integers(0, len(file)))
    del file[at : at + int(rng.integers(1, 20))]


@pytest.mark.parametrize("damage", [truncate, flip, flip_in_head, overwrite, cut_out])
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_an_error_or_does_not_matter(
    tmp_path: Path, kind: str, damage: Callable[[np.random.Generator, bytearray], None]
) -> None:
    """1,800 files. Lost bytes are always found."""
    path, options = tmp_path / "x.bgen", KINDS[kind]
    variants = some_variants(options.layout)
    offsets = write_bgen(path, variants, options)
    whole = path.read_bytes()
    bgi = write_bgi(path, variants, offsets, metadata=False)
    rng = np.random.default_rng([list(KINDS).index(kind), len(damage.__name__)])
    found = 0
    for case in range(N_CASES):
        if case == N_CASES // 2:
            bgi.unlink()
        damaged = bytearray(whole)
        damage(rng, damaged)
        path.write_bytes(damaged)
        found += outcome(path, list(Encoding)[case % 3]) is None
    assert found > 0
    if damage in (truncate, cut_out):
        assert found == N_CASES


def test_a_damaged_bgi_changes_nothing(tmp_path: Path) -> None:
    """What it says is either what the file says, or it is not used."""
    path = tmp_path / "x.bgen"
    variants = some_variants(2)
    offsets = write_bgen(path, variants, KINDS["layout 2, zlib"])
    _, right = read_all(path, Encoding.DOSAGE16)
    bgi = write_bgi(path, variants, offsets)
    whole, rng = bgi.read_bytes(), np.random.default_rng(4)
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(5):
            overwrite(rng, damaged)
        bgi.write_bytes(damaged)
        source, block = read_all(path, Encoding.DOSAGE16)
        np.testing.assert_array_equal(block.rows, right.rows)
        assert source.variants.variant_id.tolist() == ["rs0", "rs1", "rs2", "rs3", "rs3", "rs4", "rs4", "rs5"]


@pytest.mark.parametrize("kind", ["layout 1, zlib", "layout 2, zlib"])
def test_every_flip_in_data_with_a_checksum_is_found(tmp_path: Path, kind: str) -> None:
    """What is not found are bits that fill the last byte of a stream, which change nothing."""
    path, options = tmp_path / "x.bgen", KINDS[kind]
    variant = some_variants(options.layout)[1]
    offsets = write_bgen(path, [variant], options)
    whole, (_, right) = path.read_bytes(), read_all(path, Encoding.DOSAGE16)
    begin = whole.index(b"\x78\x9c", offsets[0])
    n_unfound = 0
    for bit in range(8 * begin, 8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        block = outcome(path, Encoding.DOSAGE16)
        if block is not None:
            n_unfound += 1
            np.testing.assert_array_equal(block.rows, right.rows)
    assert n_unfound < 8


def error_of(path: Path) -> str:
    with pytest.raises(InputFileError) as error:
        read_all(path, Encoding.DOSAGE16)
    return str(error.value)


def put(path: Path, at: int, raw: bytes) -> None:
    file = bytearray(path.read_bytes())
    file[at : at + len(raw)] = raw
    path.write_bytes(file)


HEADS = {
    "magic": (16, b"bgEn", "is not a BGEN file: bytes 17 to 20 are 62 67 45 6e instead of 'bgen'"),
    "gzip": (0, b"\x1f\x8b" + b"x" * 20, "It is compressed with gzip: unpack it first."),
    "header length": (4, b"\x13", "its header of 19 bytes does not lie between 20 bytes and byte"),
    "long header": (4, b"\xff\xff", "its header of 65,535 bytes does not lie"),
    "first variant": (0, b"\xff\xff", "its variants begin at byte 65,539 and it has"),
    "layout": (20, b"\x0d", "has layout 3; biolmm reads layouts 1 and 2"),
    "compression": (20, b"\x0b", "code 3 of the compression"),
    "zstd in layout 1": (20, b"\x06", "code 2 of the compression of its genotypes is not defined for layout 1"),
    "flags": (22, b"\x01", "have bits set that no version defines"),
    "no samples": (12, b"\0", "holds no genotypes: 6 variants of 0 samples"),
    "no variants": (8, b"\0", "holds no genotypes: 0 variants of 12 samples"),
    "variants": (8, b"\xff\xff", "65,535 variants take 1,572,840 bytes or more"),
    "one variant less": (8, b"\x05", "its 5 variants end at byte"),
    "one variant more": (
        8,
        b"\x07",
        "variant 7 \\(after rs5\\), from byte .*: it does not fit into the .* bytes of the file",
    ),
    "samples": (12, b"\x0d", "its header counts 13 samples .* the block of ids counts 12 samples in"),
    "many samples": (12, b"\xff\xff", "the ids of 65,535 samples do not fit into the"),
    "id block": (24, b"\x22", "the id of sample 7 does not fit its block"),
    "no id": (32, b"\0", "the id of sample 1 \\(b''\\) is empty or not text"),
    "id": (34, b"\xff", "the id of sample 1 .* is empty or not text"),
    "twice": (39, b"0", "names 1 sample ids more than once: S0"),
}


@pytest.mark.parametrize("name", HEADS)
def test_damaged_heads(tmp_path: Path, name: str) -> None:
    at, raw, message = HEADS[name]
    path = tmp_path / "x.bgen"
    write_bgen(path, some_variants(2), KINDS["layout 2, zlib"])
    put(path, at, raw)
    with pytest.raises(InputFileError, match=rf"x\.bgen.*{message}"):
        read_all(path, Encoding.DOSAGE16)


def test_what_is_no_bgen_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bgen"
    with pytest.raises(InputFileError, match="cannot be read: No such file"):
        open_bgen(path)
    with pytest.raises(InputFileError, match="cannot be read: Is a directory"):
        open_bgen(tmp_path)
    path.write_bytes(b"")
    assert error_of(path) == f"{path} is empty."
    path.write_bytes(b"text")
    assert "bytes 17 to 20 are nothing" in error_of(path)
    write_bgen(path, some_variants(2), KINDS["layout 2"])
    path.write_bytes(path.read_bytes()[:22])
    assert "ends in its header, at byte 22" in error_of(path)


@dataclass(frozen=True)
class Case:
    """What is put where into the genotypes of the second variant, of 16 bits, 12 diploid samples; and the message."""

    at: int
    raw: bytes
    message: str


N = len(IDS)
GENOTYPES = {
    "samples": Case(0, b"\x0d", "genotypes of 13 samples instead of 12"),
    "alleles": Case(4, b"\x03", "genotypes of 3 alleles, of which the variant has another number"),
    "ploidy range": Case(6, b"\x03", "a ploidy from 3 to 2, which cannot be (0 to 63)"),
    "ploidy above": Case(7, b"\x40", "a ploidy from 2 to 64, which cannot be (0 to 63)"),
    "ploidy": Case(10, b"\x03", "the ploidy of sample 3 is not from 2 to 2"),
    "ploidy bit": Case(11, b"\xc2", "the ploidy of sample 4 is not from 2 to 2"),
    "phase": Case(8 + N, b"\x02", "a phase of 2, which is neither 0 nor 1"),
    "no bits": Case(9 + N, b"\x00", "0 bits a probability, which are not from 1 to 32"),
    "bits": Case(9 + N, b"\x21", "33 bits a probability, which are not from 1 to 32"),
    "other bits": Case(9 + N, b"\x0f", "genotypes of 70 bytes, which are not those of its samples, ploidy and bits"),
    "more ploidy": Case(7, b"\x3f" + b"\x3f" * N, "genotypes of 70 bytes, which are not those"),
    "sum": Case(10 + N + 4 * 5, b"\xff\xff\x01\x00", "the genotype probabilities of sample 6 add up to more than 1"),
}


@pytest.mark.parametrize("kind", ["layout 2", "layout 2, zlib", "layout 2, zstd"])
@pytest.mark.parametrize("name", GENOTYPES)
def test_damaged_genotypes(tmp_path: Path, name: str, kind: str) -> None:
    case, variants = GENOTYPES[name], some_variants(2)
    variants[1] = Variant(variants[1].samples, (2,) * N, (False,) * N, 16, rsid="rs1")
    data = bytearray(genotype_bytes(variants[1], 2))
    data[case.at : case.at + len(case.raw)] = case.raw
    path = tmp_path / "x.bgen"
    write_bgen(path, variants, KINDS[kind], {1: bytes(data)})
    assert f"{path}, variant 2 (rs1): {case.message}" in error_of(path)


@pytest.mark.parametrize("bits", [3, 8, 16])
@pytest.mark.parametrize("encoding", Encoding)
def test_the_sum_of_a_missing_sample_is_not_looked_at(tmp_path: Path, bits: int, encoding: Encoding) -> None:
    top, path = 2**bits - 1, tmp_path / "x.bgen"
    variant = Variant(((top, 0, 0),) * 12, (2,) * 12, (True,) + (False,) * 11, bits)
    data = bytearray(genotype_bytes(variant, 2))
    data[10 + N] = 255
    write_bgen(path, [variant], KINDS["layout 2"], {0: bytes(data)})
    block = outcome(path, encoding)
    assert block is not None
    assert (dosages_from_rows(block.rows, encoding, N)[0, 1:] == 0).all()
    data[8] = 2
    data[10 + N : 10 + N + bits // 4 + 1] = b"\xff" * (bits // 4 + 1)
    write_bgen(path, [variant], KINDS["layout 2"], {0: bytes(data)})
    assert "variant 1 (rs1): the genotype probabilities of sample 1 add up to more than 1" in error_of(path)


def test_sums_of_phased_and_many_alleles(tmp_path: Path) -> None:
    for phased in (False, True):
        parts = (3, 0, 0, 3, 0, 0) if phased else (3, 0, 0, 0, 0, 0)
        variant = Variant((parts,) * 12, (2,) * 12, (False,) * 12, 2, phased, ("A", "C", "G"))
        data = bytearray(genotype_bytes(variant, 2))
        data[10 + N + 5 * 6 // 8] = 0xFF
        path = tmp_path / "x.bgen"
        write_bgen(path, [variant], KINDS["layout 2"], {0: bytes(data)})
        assert "variant 1 (rs1): the genotype probabilities of sample" in error_of(path)


def test_layout_1_sums(tmp_path: Path) -> None:
    path = tmp_path / "x.bgen"
    variants = some_variants(1)
    data = genotype_bytes(variants[2], 1)
    for kind in ("layout 1", "layout 1, zlib"):
        write_bgen(path, variants, KINDS[kind], {2: data[:-6] + struct.pack("<3H", 20_000, 10_000, 5_000)})
        assert "variant 3 (rs2): the genotype probabilities of sample 12 add up to more than 1" in error_of(path)
    write_bgen(path, variants, KINDS["layout 1, zlib"], {2: data[:-6]})
    assert "variant 3 (rs2): genotypes of 66 bytes where 72 are expected" in error_of(path)


@pytest.mark.parametrize("kind", ["layout 2, zlib", "layout 2, zstd", "layout 2, zstd without sizes"])
@pytest.mark.parametrize("unpacked", [1 << 31, 5000, -1])
def test_a_wrong_count_of_bytes_is_not_believed(tmp_path: Path, kind: str, unpacked: int) -> None:
    path, variants = tmp_path / "x.bgen", some_variants(2)
    offsets = write_bgen(path, variants, KINDS[kind])
    right = len(genotype_bytes(variants[1], 2))
    at = path.read_bytes().index(struct.pack("<I", right), offsets[1])
    put(path, at, struct.pack("<I", right - 1 if unpacked < 0 else unpacked))
    assert f"{path}, variant 2 (rs1): genotypes" in error_of(path)


def test_samples_of_a_variant_of_layout_1(tmp_path: Path) -> None:
    path = tmp_path / "x.bgen"
    offsets = write_bgen(path, some_variants(1), KINDS["layout 1"])
    put(path, offsets[2], b"\x0b")
    message = f"{path}, variant 3 (after rs1), from byte {offsets[2]:,}: it says 11 samples where the file has 12."
    assert message in error_of(path)


def test_variants_without_alt(tmp_path: Path) -> None:
    path = tmp_path / "x.bgen"
    offsets = write_bgen(path, some_variants(2), KINDS["layout 2"])
    at = path.read_bytes().index(struct.pack("<IH", 102, 2), offsets[2]) + 4
    put(path, at, b"\x01")
    assert "variant 3 (after rs1), from byte" in error_of(path)
    assert "fewer than two alleles" in error_of(path)


@pytest.mark.parametrize(("what", "text"), [("id", b"rs2"), ("chromosome", b"01"), ("ALT", b"C")])
@pytest.mark.parametrize("byte", [b"\xff", b"\n", b"\0"])
def test_texts_that_are_none(tmp_path: Path, what: str, text: bytes, byte: bytes) -> None:
    path, variants = tmp_path / "x.bgen", some_variants(2)
    offsets = write_bgen(path, variants, KINDS["layout 2, zlib"])
    at = path.read_bytes().index(text, offsets[2] + 2 + len(variants[2].other_id))
    put(path, at, byte)
    message = error_of(path)
    assert message.startswith(f"{path}, variant 3 (")
    assert f"its {what} is not text" in message


def test_a_file_that_is_changed_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.bgen"
    write_bgen(path, some_variants(2), KINDS["layout 2, zlib"])
    source = open_bgen(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputFileError, match=r"x\.bgen was changed since it was opened"):
        source.decoder.read(0, 1, Encoding.CALLS)
    path.unlink()
    with pytest.raises(InputFileError, match=r"x\.bgen cannot be read: No such file"):
        source.decoder.read(0, 1, Encoding.CALLS)
