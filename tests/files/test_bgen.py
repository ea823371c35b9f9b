"""BGEN rows: against the definition in exact fractions, and against cbgen."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from math import comb, floor
from pathlib import Path
from tempfile import TemporaryDirectory

import cbgen
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from biolmm.files import bgen
from biolmm.files.bgen import BgenDecoder, open_bgen
from biolmm.files.encoding import Encoding, Rows, dosages_from_rows
from biolmm.files.genotypes import Block
from oracles.bgen_writer import Expected, Options, Values, Variant, expected_row, genotypes, write_bgen

LAYOUT_1_TOP = 32_768


@st.composite
def parts_of(draw: st.DrawFn, top: int, n: int) -> Values:
    """Draw n numbers that add up to `top`; often some take all."""
    cuts = sorted(
        draw(st.lists(st.one_of(st.sampled_from([0, top]), st.integers(0, top)), min_size=n - 1, max_size=n - 1))
    )
    return tuple(int(d) for d in np.diff([0, *cuts, top]))


@st.composite
def variant_of(
    draw: st.DrawFn, n_samples: int, bits: int, phased: bool, n_alleles: int, ploidies: list[int]
) -> Variant:
    ploidy = tuple(draw(st.lists(st.sampled_from(ploidies), min_size=n_samples, max_size=n_samples)))
    top = 2**bits - 1
    samples = []
    for z in ploidy:
        sets, each = (z, n_alleles) if phased else (1, comb(z + n_alleles - 1, n_alleles - 1))
        samples.append(tuple(value for _ in range(sets) for value in draw(parts_of(top, each))))
    missing = tuple(
        draw(st.lists(st.sampled_from([False, False, False, True]), min_size=n_samples, max_size=n_samples))
    )
    number = draw(st.integers(0, 10**6))
    return Variant(
        tuple(samples), ploidy, missing, bits, phased, ("A", "C", "GT", "T" * 30)[:n_alleles], f"rs{number}",
        position=draw(st.integers(0, 2**32 - 1)),
    )  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> tuple[list[Variant], str]:
    """Draw variants of layout 2 that have nothing in common but their samples, and a compression."""
    n_samples = draw(st.integers(1, 7))
    kinds = st.tuples(
        st.one_of(st.sampled_from([8, 16]), st.integers(1, 32)),
        st.booleans(),
        st.sampled_from([2, 2, 3, 4]),
        st.sampled_from([[2], [2], [1, 2], [1], [1, 2, 3, 5]]),
    )
    variants = [draw(variant_of(n_samples, *draw(kinds))) for _ in range(draw(st.integers(1, 4)))]
    return variants, draw(st.sampled_from(["none", "zlib", "zstd"]))


def options(n_samples: int, compression: str = "zlib", layout: int = 2) -> Options:
    return Options(layout, compression, tuple(f"S{i}" for i in range(n_samples)))


def code_of(dosage: Fraction | None, encoding: Encoding) -> int:
    """Round to the nearest code by definition."""
    if dosage is None:
        return encoding.missing
    code = floor(dosage * encoding.steps + Fraction(1, 2))
    return 3 if encoding is Encoding.CALLS and abs(dosage - code) > Fraction(1, 10) else code


def unpacked(rows: Rows, encoding: Encoding, n_samples: int) -> NDArray[np.uint16]:
    if encoding.is_dosage:
        return rows.astype(np.uint16)
    codes = dosages_from_rows(rows, encoding, n_samples)
    return np.where(np.isnan(codes), 3, codes).astype(np.uint16)


def check_block(block: Block, encoding: Encoding, expected: list[Expected]) -> None:
    """Compare codes exactly, and sums to the rounding of doubles."""
    n_samples = len(expected[0].dosages)
    codes = [[code_of(dosage, encoding) for dosage in row.dosages] for row in expected]
    assert unpacked(block.rows, encoding, n_samples).tolist() == codes
    called = [[dosage for dosage in row.dosages if dosage is not None] for row in expected]
    assert block.dosage_sum is not None
    assert block.dosage_squares is not None
    assert block.expected_squares is not None
    close = {"rtol": 1e-13, "atol": 1e-13}
    np.testing.assert_allclose(block.dosage_sum, [float(sum(row)) for row in called], **close)
    np.testing.assert_allclose(block.dosage_squares, [float(sum(d * d for d in row)) for row in called], **close)
    np.testing.assert_allclose(block.expected_squares, [float(row.expected_squares) for row in expected], **close)
    assert block.haploid_count is not None
    assert block.haploid_count.tolist() == [row.haploid_count for row in expected]
    assert block.haploid_dosage_sum is not None
    np.testing.assert_allclose(block.haploid_dosage_sum, [float(row.haploid_dosage_sum) for row in expected], **close)
    haplotypes = [np.nan if row.haplotype_squares is None else float(row.haplotype_squares) for row in expected]
    if np.isnan(haplotypes).all():
        assert block.haplotype_squares is None
    else:
        assert block.haplotype_squares is not None
        np.testing.assert_allclose(block.haplotype_squares, haplotypes, **close)


@settings(deadline=None, max_examples=60)
@given(files(), st.sampled_from(Encoding), st.data())
def test_rows_are_the_definition(file: tuple[list[Variant], str], encoding: Encoding, data: st.DataObject) -> None:
    variants, compression = file
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.bgen"
        write_bgen(path, variants, options(len(variants[0].ploidy), compression))
        source = open_bgen(path)
        expected = [expected_row(v, alt) for v in variants for alt in range(1, len(v.alleles))]
        check_block(source.decoder.read(0, len(expected), encoding), encoding, expected)
        start = data.draw(st.integers(0, len(expected) - 1))
        stop = data.draw(st.integers(start + 1, len(expected)))
        check_block(source.decoder.read(start, stop, encoding), encoding, expected[start:stop])
    alleles = [(v.rsid, v.position, v.alleles[0], alt) for v in variants for alt in v.alleles[1:]]
    table = source.variants
    assert list(zip(table.variant_id, table.position, table.ref, table.alt, strict=True)) == alleles


@settings(deadline=None, max_examples=50)
@given(st.data(), st.sampled_from(Encoding), st.sampled_from(["none", "zlib"]))
def test_rows_of_layout_1_are_the_definition(data: st.DataObject, encoding: Encoding, compression: str) -> None:
    n_samples = data.draw(st.integers(1, 9))
    variants = []
    for i in range(data.draw(st.integers(1, 3))):
        tops = st.integers(LAYOUT_1_TOP - 300, LAYOUT_1_TOP + 300)
        samples = tuple(data.draw(parts_of(data.draw(tops), 3)) for _ in range(n_samples))
        missing = tuple(data.draw(st.lists(st.booleans(), min_size=n_samples, max_size=n_samples)))
        variants.append(Variant(samples, (2,) * n_samples, missing, rsid=f"rs{i}"))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.bgen"
        write_bgen(path, variants, options(n_samples, compression, layout=1))
        source = open_bgen(path)
        block = source.decoder.read(0, len(variants), encoding)
    check_block(block, encoding, [expected_row(v, 1, layout=1) for v in variants])


def dosages_of_cbgen(path: Path) -> list[NDArray[np.float64]]:
    """Read a file with cbgen; gives the dosage of every ALT allele of every variant, from its probabilities."""
    rows = []
    meta = path.with_suffix(".metafile")
    with cbgen.bgen_file(path) as file:
        file.create_metafile(meta)
        with cbgen.bgen_metafile(meta) as metafile:
            variants = [metafile.read_partition(i).variants for i in range(metafile.npartitions)]
            places = [(o, n) for part in variants for o, n in zip(part.offset, part.nalleles, strict=True)]
        for offset, n_alleles in places:
            found = file.read_genotype(int(offset))
            for alt in range(1, n_alleles):
                row = np.full(file.nsamples, np.nan)
                for i in np.flatnonzero(~found.missing):
                    z, p = int(found.ploidy[i]), found.probability[i]
                    if found.phased:
                        copies = sum(p[k * n_alleles + alt] for k in range(z))
                    else:
                        copies = sum(p[g] * alleles.count(alt) for g, alleles in enumerate(genotypes(z, n_alleles)))
                    row[i] = 2 * copies / z
                rows.append(row)
    return rows


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
@pytest.mark.parametrize("phased", [False, True])
def test_rows_equal_those_of_cbgen(tmp_path: Path, compression: str, phased: bool) -> None:
    """Every number of bits, with and without missing samples and samples of other ploidies, of two to four alleles.

    cbgen misreads files without compression and of layout 1; these are compared with PLINK 2.
    """
    rng = np.random.default_rng([len(compression), phased])
    variants = []
    for bits in range(1, 33):
        for n_alleles, ploidies in ((2, [2]), (2, [1, 2]), (3, [2]), (4, [1, 2, 3])):
            ploidy = tuple(rng.choice(ploidies, 23).tolist())
            sizes = [[n_alleles] * z if phased else [comb(z + n_alleles - 1, n_alleles - 1)] for z in ploidy]
            samples = tuple(tuple(v for n in each for v in random_parts(rng, 2**bits - 1, n)) for each in sizes)
            missing = tuple((rng.random(23) < 0.1 * (bits % 2)).tolist())
            variants.append(Variant(samples, ploidy, missing, bits, phased, ("A", "C", "G", "T")[:n_alleles]))
    path = tmp_path / "x.bgen"
    write_bgen(path, variants, options(23, compression))
    source = open_bgen(path)
    for encoding in (Encoding.DOSAGE8, Encoding.DOSAGE16):
        block = source.decoder.read(0, source.variants.n, encoding)
        found = np.where(block.rows == encoding.missing, np.nan, block.rows / encoding.steps)
        # Half a step, and the rounding of cbgen's doubles.
        np.testing.assert_allclose(found, dosages_of_cbgen(path), rtol=0, atol=0.5 / encoding.steps + 1e-12)


def random_parts(rng: np.random.Generator, top: int, n: int) -> Values:
    cuts = np.sort(rng.integers(0, top, n - 1, endpoint=True))
    return tuple(int(d) for d in np.diff([0, *cuts, top]))


@pytest.fixture
def many(tmp_path: Path) -> tuple[Path, list[Variant]]:
    """Give 20 variants, every fifth of three alleles, of 4,200 samples, more than a run of the fast loops."""
    rng = np.random.default_rng(5)
    variants = []
    for i in range(20):
        n_alleles, bits = (3 if i % 5 == 4 else 2), (8, 16)[i % 2]
        each = comb(n_alleles + 1, 2)
        kinds = [random_parts(rng, 2**bits - 1, each) for _ in range(50)]
        samples = tuple(kinds[k] for k in rng.integers(0, 50, 4200))
        missing = tuple((rng.random(4200) < 0.02).tolist())
        variants.append(Variant(samples, (2,) * 4200, missing, bits, alleles=("A", "C", "G")[:n_alleles], rsid=f"v{i}"))
    path = tmp_path / "many.bgen"
    write_bgen(path, variants, options(4200))
    return path, variants


def test_many_samples_and_small_ranges(many: tuple[Path, list[Variant]], monkeypatch: pytest.MonkeyPatch) -> None:
    path, variants = many
    source = open_bgen(path)
    expected = [expected_row(v, alt) for v in variants[2:5] for alt in range(1, len(v.alleles))]
    for encoding in Encoding:
        check_block(source.decoder.read(2, 6, encoding), encoding, expected)
    whole = source.decoder.read(0, source.variants.n, Encoding.DOSAGE16).rows
    monkeypatch.setattr(bgen, "_RANGE_BYTES", 20_000)
    np.testing.assert_array_equal(source.decoder.read(0, source.variants.n, Encoding.DOSAGE16).rows, whole)


def test_threads_and_other_processes_read_the_same(many: tuple[Path, list[Variant]]) -> None:
    path, _ = many
    source = open_bgen(path)
    decoder: BgenDecoder = pickle.loads(pickle.dumps(source.decoder))
    whole = source.decoder.read(0, source.variants.n, Encoding.DOSAGE8)
    runs = [(start, min(start + 7, source.variants.n)) for start in range(0, source.variants.n, 7)] * 3
    with ThreadPoolExecutor(4) as pool:
        blocks = list(pool.map(lambda run: decoder.read(*run, Encoding.DOSAGE8), runs))
    for (start, stop), block in zip(runs, blocks, strict=True):
        np.testing.assert_array_equal(block.rows, whole.rows[start:stop])
        np.testing.assert_array_equal(block.dosage_sum, np.asarray(whole.dosage_sum)[start:stop])


def test_a_haploid_call_counts_as_none_or_two(tmp_path: Path) -> None:
    """Also where phased; its dosage, squares and haplotypes are those of a homozygous diploid."""
    haploid = Variant(((255, 0), (0, 255)), (1, 1), (False, False))
    diploid = Variant(((255, 0, 0), (0, 0, 255)), (2, 2), (False, False))
    phased_haploid = Variant(((255, 0), (0, 255)), (1, 1), (False, False), phased=True)
    phased_diploid = Variant(((255, 0, 255, 0), (0, 255, 0, 255)), (2, 2), (False, False), phased=True)
    path = tmp_path / "x.bgen"
    write_bgen(path, [haploid, diploid, phased_haploid, phased_diploid], options(2))
    block = open_bgen(path).decoder.read(0, 4, Encoding.DOSAGE8)
    assert block.rows.tolist() == [[0, 254]] * 4
    assert block.expected_squares is not None
    assert block.haplotype_squares is not None
    assert block.expected_squares.tolist() == [4.0] * 4
    np.testing.assert_array_equal(block.haplotype_squares, [np.nan, np.nan, 2.0, 2.0])
    assert block.haploid_count is not None
    assert block.haploid_count.tolist() == [2, 0, 2, 0]
    np.testing.assert_array_equal(block.haploid_dosage_sum, [2.0, 0.0, 2.0, 0.0])


def test_ploidy_zero_is_missing(tmp_path: Path) -> None:
    variants = [Variant(((), (0, 255)), (0, 1), (False, False), phased=p) for p in (False, True)]
    variants[0] = Variant(((255,), (0, 255)), (0, 1), (False, False))
    path = tmp_path / "x.bgen"
    write_bgen(path, variants, options(2))
    assert open_bgen(path).decoder.read(0, 2, Encoding.DOSAGE8).rows.tolist() == [[255, 254]] * 2


@pytest.mark.parametrize("bits", [8, 16])
def test_every_dosage_of_8_and_16_bits_gets_its_nearest_code(tmp_path: Path, bits: int) -> None:
    top = 2**bits - 1
    nums = np.arange(2 * top + 1)
    first = np.maximum(0, top - nums)
    samples = tuple(
        (int(a), int(2 * top - 2 * a - num), int(top - a - (2 * top - 2 * a - num)))
        for a, num in zip(first, nums, strict=True)
    )
    variant = Variant(samples, (2,) * len(samples), (False,) * len(samples), bits)
    path = tmp_path / "x.bgen"
    write_bgen(path, [variant], options(len(samples)))
    decoder = open_bgen(path).decoder
    for encoding in (Encoding.DOSAGE8, Encoding.DOSAGE16):
        codes = (2 * encoding.steps * nums + top) // (2 * top)
        np.testing.assert_array_equal(decoder.read(0, 1, encoding).rows[0], codes)
    nearest = (2 * nums + top) // (2 * top)
    calls = np.where(10 * np.abs(nums - nearest * top) <= top, nearest, 3)
    np.testing.assert_array_equal(
        unpacked(decoder.read(0, 1, Encoding.CALLS).rows, Encoding.CALLS, len(nums))[0], calls
    )
    if bits == 8:
        np.testing.assert_array_equal(decoder.read(0, 1, Encoding.DOSAGE16).rows[0], 128 * nums)
