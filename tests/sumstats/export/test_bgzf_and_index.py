"""BGZF and its index, read by other programs: gzip, htslib through cyvcf2, and a reader of the format written out here."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biolmm.errors import OutputError
from biolmm.sumstats.export.bgzf import BLOCK_TEXT, BgzfWriter
from biolmm.sumstats.export.tabix import TABLE, VCF, TabixIndex, smallest_bins
from biolmm.sumstats.export.text import as_text, indexed_text


@pytest.mark.parametrize("n", [0, 1, BLOCK_TEXT - 1, BLOCK_TEXT, BLOCK_TEXT + 1, 3 * BLOCK_TEXT + 17])
@pytest.mark.parametrize("kind", ["same", "random"])
def test_gzip_reads_what_was_written(n: int, kind: str) -> None:
    text = bytes(n) if kind == "same" else np.random.default_rng(n).bytes(n)
    file = io.BytesIO()
    with BgzfWriter(file) as out:
        for start in range(0, n, 1000):
            out.write(text[start : start + 1000])
    assert gzip.decompress(file.getvalue()) == text
    assert out.n_text == n
    assert file.getvalue().endswith(bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000"))


def test_addresses_are_where_the_text_is() -> None:
    text = np.random.default_rng(1).integers(65, 91, 200_000, dtype=np.uint8).tobytes()
    file = io.BytesIO()
    with BgzfWriter(file) as out:
        out.write(text)
    for place in (0, 1, BLOCK_TEXT - 1, BLOCK_TEXT, 150_000, 199_999):
        address = int(out.addresses(np.array([place], np.uint64))[0])
        assert read_at(file.getvalue(), address, 5) == text[place : place + 5]


def read_at(packed: bytes, address: int, n: int) -> bytes:
    return gzip.decompress(packed[address >> 16 :])[address & 0xFFFF :][:n]


def bin_by_definition(begin: int, end: int) -> int:
    offset = 4681
    for level in range(5, 0, -1):
        shift = 29 - 3 * level
        if begin >> shift == (end - 1) >> shift:
            return offset + (begin >> shift)
        offset = (offset - 1) // 8
    return 0


@given(st.integers(0, (1 << 29) - 2), st.integers(1, 10_000_000))
def test_bins_are_the_smallest_that_hold_a_range(begin: int, length: int) -> None:
    end = min(begin + length, 1 << 29)
    found = int(smallest_bins(np.array([begin]), np.array([end]))[0])
    assert found == bin_by_definition(begin, end)


def make(path: Path, records: dict[str, list[tuple[int, int]]], *, filler: int = 0) -> None:
    """Write a VCF of records (position, length of REF), with an index."""
    with indexed_text(path, VCF, index=True) as text:
        contigs = "".join(f"##contig=<ID={name}>\n" for name in records)
        text.header(f"##fileformat=VCFv4.2\n{contigs}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for contig, rows in records.items():
            for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):  # two parts of a contig
                position, length = (np.array([row[at] for row in part], np.int64) for at in (0, 1))
                name = np.array(["x" * filler + str(at) for at in position], dtype=object)
                ref = np.array(["A" * int(n) for n in length], dtype=object)
                word = [
                    as_text(np.array([value] * len(part), dtype=object), ".") for value in (contig, "C", ".", ".", ".")
                ]
                if part:
                    text.rows(contig, position, length, [word[0], as_text(position, "."), as_text(name, "."), as_text(ref, "."),
                                                         *word[1:]])  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_regions_hold_what_they_should(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    cyvcf2 = pytest.importorskip("cyvcf2")
    position = st.one_of(st.integers(1, 100_000), st.integers(1, 250_000_000))
    rows = st.lists(st.tuples(position, st.sampled_from([1, 1, 1, 2, 40, 20_000])), min_size=1, max_size=60).map(sorted)
    records = {name: data.draw(rows) for name in ("1", "2", "X")}
    path = tmp_path_factory.mktemp("vcf") / "a.vcf.gz"
    make(path, records, filler=data.draw(st.sampled_from([0, 3000])))
    vcf = cyvcf2.VCF(str(path))
    for contig, start, length in data.draw(st.lists(st.tuples(st.sampled_from(["1", "2", "X"]), position, st.integers(0, 200_000)),
                                                    min_size=3, max_size=8)):  # fmt: skip
        stop = start + length
        wanted = [p for p, n in records[contig] if p <= stop and p + n - 1 >= start]
        assert [record.POS for record in vcf(f"{contig}:{start}-{stop}")] == wanted


def test_a_table_can_be_read_by_region(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv.gz"
    position = np.sort(np.random.default_rng(3).integers(1, 2_000_000, 20_000))
    with indexed_text(path, TABLE, index=True) as text:
        text.header("#contig\tposition\n")
        for contig in ("7", "8"):
            columns = [as_text(np.array([contig] * len(position), dtype=object), "."), as_text(position, ".")]
            text.rows(contig, position, np.ones(len(position), np.int64), columns)
    packed = path.read_bytes()
    for contig, start, stop in (("7", 1, 50_000), ("8", 1_000_000, 1_000_400), ("8", 1_999_000, 2_000_000)):
        found = fetch(packed, gzip.decompress(path.with_name("t.tsv.gz.tbi").read_bytes()), contig, start, stop)
        assert found == [int(p) for p in position if start <= p <= stop]


def fetch(packed: bytes, index: bytes, contig: str, start: int, stop: int) -> list[int]:
    """Read positions of a region as the format says: all bins that overlap, from the linear index's address on."""
    magic, n_ref, _, seq, begin_column, _, _, _, length = struct.unpack_from("<4s8i", index)
    assert (magic, seq, begin_column) == (b"TBI\1", 1, 2)
    names = index[36 : 36 + length].split(b"\0")[:-1]
    at, stretches = 36 + length, []
    for ref in range(n_ref):
        (n_bins,), at = struct.unpack_from("<i", index, at), at + 4
        for _ in range(n_bins):
            number, n = struct.unpack_from("<Ii", index, at)
            pieces = np.frombuffer(index, "<u8", 2 * n, at + 8).reshape(-1, 2)
            at += 8 + 16 * n
            if names[ref].decode() == contig and overlaps(number, start - 1, stop):
                stretches += pieces.tolist()
        (n_line,) = struct.unpack_from("<i", index, at)
        at += 4 + 8 * n_line
    assert at == len(index)
    found = []
    for first, last in stretches:
        text = gzip.decompress(packed[first >> 16 :])
        end = len(text) - len(gzip.decompress(packed[last >> 16 :])) + (last & 0xFFFF)
        for line in text[first & 0xFFFF : end].decode().splitlines():
            name, position = line.split("\t")
            assert name == contig
            found += [int(position)] if start <= int(position) <= stop else []
    return sorted(found)


def overlaps(number: int, begin: int, end: int) -> bool:
    for level in range(6):
        first = ((1 << 3 * level) - 1) // 7
        if first <= number < first + (1 << 3 * level):
            width = 1 << (29 - 3 * level)
            return (number - first) * width < end and begin < (number - first + 1) * width
    return False


@pytest.mark.parametrize(
    ("contig", "position", "says"),
    [
        (["1", "1"], [[5, 3], [9]], "not sorted by position"),
        (["1", "1"], [[5, 9], [3]], "not sorted by position"),
        (["1", "2", "1"], [[1], [1], [2]], "in two places"),
        (["1"], [[(1 << 29) + 1]], "beyond 536,870,912"),
    ],
)
def test_what_cannot_be_indexed_is_refused(contig: list[str], position: list[list[int]], says: str) -> None:
    index = TabixIndex(TABLE)
    with pytest.raises(OutputError, match=says):
        for name, rows in zip(contig, position, strict=True):
            n = len(rows)
            index.add(name, np.array(rows), np.ones(n, np.int64), np.arange(n).astype(np.uint64), n)
