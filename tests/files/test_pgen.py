"""PLINK 2 filesets: calls, dosages and alleles against what was written, pgenlib's reader and the format's definition."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pgenlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding, rows_from_calls, rows_from_dosages
from biolmm.files.genotypes import Source
from biolmm.files.pgen import open_pgen
from oracles.pgen_files import (
    allele_pairs,
    pgen_writer,
    related_calls,
    related_dosages,
    write_alleles,
    write_calls,
    write_dosages,
)

Calls = NDArray[np.int8]

few_calls = st.tuples(st.integers(1, 9), st.integers(1, 70)).flatmap(
    lambda shape: arrays(np.int8, shape, elements=st.sampled_from([0, 1, 2, -9]))
)


def rows(source: Source, encoding: Encoding = Encoding.CALLS) -> NDArray[np.uint16]:
    return source.decoder.read(0, source.variants.n, encoding).rows


def check_slices(source: Source, rng: np.random.Generator, n: int = 20) -> None:
    """Any run of rows is that run of the whole."""
    encodings = [Encoding.CALLS, Encoding.DOSAGE8]
    whole = {encoding: rows(source, encoding) for encoding in encodings}
    for _ in range(n):
        start, stop = np.sort(rng.integers(0, source.variants.n + 1, 2)).tolist()
        for encoding in encodings:
            part = source.decoder.read(start, stop, encoding).rows
            np.testing.assert_array_equal(part, whole[encoding][start:stop])


def types_of(source: Source) -> NDArray[np.uint8]:
    header = source.decoder.header
    descriptor = os.open(header.path, os.O_RDONLY)
    try:
        return header.records(descriptor, 0, header.n_variants).types
    finally:
        os.close(descriptor)


@settings(deadline=None, max_examples=40)
@given(few_calls)
def test_calls_are_those_written(calls: Calls) -> None:
    with TemporaryDirectory() as folder:
        write_calls(Path(folder) / "x", calls)
        source = open_pgen(Path(folder) / "x")
        for encoding in Encoding:
            np.testing.assert_array_equal(rows(source, encoding), rows_from_calls(calls, encoding))
    assert not source.has_dosages


@pytest.mark.parametrize("n_samples", [3, 64, 301, 70_000, 270_000])
def test_calls_in_every_way_they_are_stored(n_samples: int, tmp_path: Path) -> None:
    """Indices of samples take 1, 2, 3 bytes, lengths of records 1, 2, 3, and variants refer to those before them."""
    rng = np.random.default_rng(n_samples)
    calls = related_calls(120 if n_samples < 1000 else 10, n_samples, rng)
    write_calls(tmp_path / "x", calls)
    source = open_pgen(tmp_path / "x")
    np.testing.assert_array_equal(rows(source), rows_from_calls(calls, Encoding.CALLS))
    if n_samples in (64, 301):
        assert set(types_of(source).tolist()) == {0, 1, 2, 3, 4, 6, 7}
        check_slices(source, rng)


def test_references_across_anchors_and_blocks(tmp_path: Path) -> None:
    """Variants like the first of their block, through 65,536 of them and into the next block."""
    rng = np.random.default_rng(5)
    first = rng.integers(0, 3, 40).astype(np.int8)
    calls = np.tile(first, (66_000, 1))
    changed = rng.integers(0, 40, len(calls))
    calls[np.arange(len(calls)), changed] = -9
    write_calls(tmp_path / "x", calls)
    source = open_pgen(tmp_path / "x")
    types = types_of(source)
    assert types[0] == types[65_536] == 0 and (types[1:65_536] == 2).all()
    packed = rows_from_calls(calls, Encoding.CALLS)
    np.testing.assert_array_equal(rows(source), packed)
    for start, stop in ((1023, 1025), (5000, 5003), (65_530, 65_540), (65_535, 65_536), (65_536, 66_000), (9, 9)):
        np.testing.assert_array_equal(source.decoder.read(start, stop, Encoding.CALLS).rows, packed[start:stop])


@pytest.mark.parametrize("n_samples", [3, 70, 301])
def test_dosages_are_those_of_pgenlib(n_samples: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(n_samples)
    written = related_dosages(100, n_samples, rng)
    write_dosages(tmp_path / "x", written)
    source = open_pgen(tmp_path / "x")
    reader = pgenlib.PgenReader(str(tmp_path / "x.pgen").encode())
    dosages, calls = np.empty((100, n_samples), np.float32), np.empty((100, n_samples), np.int8)
    reader.read_dosages_range(0, 100, dosages)
    reader.read_range(0, 100, calls)
    dosages = np.where(dosages == -9, np.nan, dosages)
    np.testing.assert_allclose(dosages, np.where(written == -9, np.nan, written), rtol=0, atol=1.001 / 32_768)
    assert source.has_dosages
    np.testing.assert_array_equal(rows(source), rows_from_calls(calls, Encoding.CALLS))
    for encoding in (Encoding.DOSAGE8, Encoding.DOSAGE16):
        block = source.decoder.read(0, 100, encoding)
        np.testing.assert_array_equal(block.rows, rows_from_dosages(dosages, encoding))
        np.testing.assert_array_equal(block.dosage_sum, np.nansum(dosages.astype(np.float64), axis=1))
        np.testing.assert_array_equal(block.dosage_squares, np.nansum(dosages.astype(np.float64) ** 2, axis=1))
    check_slices(source, rng)


@pytest.mark.parametrize("n_samples", [4, 301])
@pytest.mark.parametrize("phased", [False, True])
def test_alleles_are_those_written(n_samples: int, phased: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(n_samples)
    n_alts = [1, 2, 3, 4, 5, 6, 16, 17, 18, 40, 200, 1, 1, 2, 2] * 3
    pairs = allele_pairs(len(n_alts), n_samples, n_alts, rng)
    share = rng.choice([0.0, 0.5, 1.0], (len(n_alts), 1))
    write_alleles(tmp_path / "x", pairs, n_alts, rng.random((len(n_alts), n_samples)) < share if phased else None)
    source = open_pgen(tmp_path / "x")
    pairs = pairs.reshape(len(n_alts), n_samples, 2)
    expected = [
        np.where(pairs[i, :, 0] < 0, -9, (pairs[i] == allele).sum(axis=1))
        for i, n_alt in enumerate(n_alts)
        for allele in range(1, n_alt + 1)
    ]
    np.testing.assert_array_equal(rows(source), rows_from_calls(np.array(expected, np.int8), Encoding.CALLS))
    check_slices(source, rng, n=8)
    assert source.variants.n == sum(n_alts)
    assert source.variants.alt[1:6].tolist() == ["C", "CC", "C", "CC", "CCC"]
    assert source.variants.variant_id[:4].tolist() == ["v0", "v1", "v1", "v2"]
    assert source.notes == {
        "kind": "pgen", "storage_mode": "10", "phased": phased, "n_multiallelic_split": sum(n > 1 for n in n_alts)
    }  # fmt: skip


def test_provisional_references_are_stepped_over(tmp_path: Path) -> None:
    """One bit a variant says that its REF is provisional; it follows types and lengths."""
    calls = related_calls(77, 30, np.random.default_rng(2))
    write_calls(tmp_path / "x", calls)
    plain = (tmp_path / "x.pgen").read_bytes()
    records = 12 + 8 + 39 + 77  # 4 bits a type, 1 byte a length
    assert plain[11] == 0x80 and struct.unpack_from("<Q", plain, 12) == (records,)
    start = plain[:11] + b"\xc0" + struct.pack("<Q", records + 10)
    (tmp_path / "x.pgen").write_bytes(start + plain[20:records] + bytes(10) + plain[records:])
    source = open_pgen(tmp_path / "x.pgen")
    np.testing.assert_array_equal(rows(source), rows_from_calls(calls, Encoding.CALLS))


def packed(calls: Calls) -> bytes:
    """Pack by definition: two bits a sample, the first sample lowest, zeros behind the last."""
    codes = np.where(calls < 0, 3, calls)
    return b"".join(
        bytes(sum(int(code) << 2 * k for k, code in enumerate(row[i : i + 4])) for i in range(0, len(row), 4))
        for row in codes
    )


def fixed_width(path: Path, mode: int, calls: Calls, tail: Callable[[int], bytes], control: int = 0x40) -> None:
    """Write a file of records of one size: two bits a call, then what `tail` gives."""
    flags = bytes(-(-len(calls) // 8)) if control == 0xC0 else b""
    header = b"\x6c\x1b" + struct.pack("<BIIB", mode, *calls.shape, control) + flags
    path.write_bytes(header + b"".join(packed(calls[i : i + 1]) + tail(i) for i in range(len(calls))))


@pytest.mark.parametrize("control", [0x40, 0xC0])
@pytest.mark.parametrize("mode", [2, 3, 4])
def test_records_of_one_size(mode: int, control: int, tmp_path: Path) -> None:
    """A missing dosage (65,535) leaves the call."""
    rng = np.random.default_rng(mode)
    calls = related_calls(10, 13, rng)
    units = rng.integers(0, 32_769, calls.shape)
    units[rng.random(calls.shape) < 0.2] = 65_535
    units[0] = 16_384
    write_calls(tmp_path / "x", calls)

    def tail(i: int) -> bytes:
        values = units[i].astype("<u2").tobytes()
        return {2: b"", 3: values, 4: values + bytes(26)}[mode]

    fixed_width(tmp_path / "x.pgen", mode, calls, tail, control)
    source = open_pgen(tmp_path / "x")
    np.testing.assert_array_equal(rows(source), rows_from_calls(calls, Encoding.CALLS))
    dosages = np.where(calls < 0, np.nan, calls.astype(np.float32))
    if mode > 2:
        dosages = np.where(units == 65_535, dosages, units / np.float32(16_384))
    np.testing.assert_array_equal(rows(source, Encoding.DOSAGE16), rows_from_dosages(dosages, Encoding.DOSAGE16))
    assert source.has_dosages == (mode > 2)
    assert source.notes["phased"] == (mode == 4)
    check_slices(source, rng, n=5)


def test_a_bed_may_be_called_pgen(tmp_path: Path, write_plink: Callable[..., Path]) -> None:
    codes = np.random.default_rng(0).integers(0, 4, (9, 30), dtype=np.uint8)
    write_plink(codes, name="x").rename(tmp_path / "x.pgen")
    source = open_pgen(tmp_path / "x")
    calls = np.where(codes == 3, -9, codes.astype(np.int8))
    np.testing.assert_array_equal(rows(source), rows_from_calls(calls, Encoding.CALLS))
    assert source.variants.ref.tolist() == ["G"] * 9
    assert source.files == tuple(tmp_path / f"x.{suffix}" for suffix in ("pgen", "bim", "fam"))


def test_everyone_two_references_takes_no_bytes(tmp_path: Path) -> None:
    """Type 5, which newer programs write: the record is empty."""
    write_calls(tmp_path / "x", np.zeros((1, 5), np.int8))
    table = struct.pack("<QBB", 22, 5, 0)
    (tmp_path / "x.pgen").write_bytes(b"\x6c\x1b\x10" + struct.pack("<IIB", 1, 5, 0x40) + table)
    source = open_pgen(tmp_path / "x")
    assert rows(source, Encoding.DOSAGE8).tolist() == [[0] * 5]


def test_threads_and_processes_read_alike(tmp_path: Path) -> None:
    calls = related_calls(400, 90, np.random.default_rng(4))
    write_calls(tmp_path / "x", calls)
    source = open_pgen(tmp_path / "x")
    decoder = pickle.loads(pickle.dumps(source.decoder))
    starts = range(0, 400, 7)
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda start: decoder.read(start, min(start + 7, 400), Encoding.CALLS).rows, starts)
        np.testing.assert_array_equal(np.concatenate(list(parts)), rows_from_calls(calls, Encoding.CALLS))


def test_names_of_samples_and_variants(tmp_path: Path) -> None:
    with pgen_writer(tmp_path / "a.b", 4, [1, 2]) as writer:
        writer.append_alleles(np.zeros(8, np.int32), allele_ct=2)
        writer.append_alleles(np.array([0, 1, 2, 2, 1, 2, -9, -9], np.int32), allele_ct=3)
    source = open_pgen(tmp_path / "a.b")
    assert source.samples.sample_id.tolist() == ["S0", "S1", "S2", "S3"]
    assert source.samples.sex.tolist() == [0, 1, 2, 0]
    assert source.variants.contig_id == ("1",)
    assert source.variants.position.tolist() == [1, 2, 2]
    assert source.random_access and source.path == tmp_path / "a.b.pgen"
