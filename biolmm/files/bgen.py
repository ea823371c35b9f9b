"""BGEN genotypes: versions 1.1 (layout 1), 1.2 and 1.3 (layout 2), with their `.sample` and `.bgi` files.

The first allele is REF, the others are ALT. A dosage is the expected number of copies of ALT on the scale 0 to 2, for a
sample of any ploidy; `biolmm/files/bgen_decode.py` says how. A variant of more than two alleles gives a row for each ALT.

What a flipped bit does: in the structure of a file, and in genotypes compressed with zlib, which has a checksum, it is
found and named. In names, positions and genotypes stored as they are, a value that may be is taken as it is; so is what
zstd still unpacks, since BGEN 1.3 writes its frames without a checksum.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import deflate
import numpy as np
import zstandard
from numpy.typing import NDArray

from biolmm.errors import InputFileError, SampleMismatchError, named
from biolmm.files.bgen_decode import MAX_PLOIDY, Fault, decode_layout_1, decode_layout_2
from biolmm.files.bgen_header import BgenHeader, file_stamp, read_header, read_range, read_sample_ids
from biolmm.files.bgen_index import read_index
from biolmm.files.bgen_walk import Field, Window, parse_range, variant_name
from biolmm.files.encoding import Encoding, Rows, rows_from_calls
from biolmm.files.genotypes import Block, SampleTable, Source, as_counts
from biolmm.files.oxford_sample import OxfordSamples, read_oxford_sample

log = logging.getLogger(__name__)

_RANGE_BYTES = 32 << 20
"""Bytes of the file that are held at a time, unless one variant alone takes more."""
_MOST_ZLIB = 1032
_MISSING_CALL = 3
_N_SUMS = 6
Bytes = NDArray[np.uint8]


def open_bgen(path: Path, sample_file: Path | None = None) -> Source:
    """Open a BGEN file.

    Parameters
    ----------
    path
        The file; `path.bgi`, when it is there and belongs to the file, is read instead of walking it.
    sample_file
        Its `.sample` file. By default the one of the same name beside it, when there is one. Ids in the BGEN file come
        before those of a file found beside it, which has to name the same samples; a file that is given comes before
        both: it may rename samples, but not name the file's own in another order.

    Raises
    ------
    InputFileError
        When a file cannot be read or is damaged, when no file names the samples, or one names a sample twice.
    SampleMismatchError
        When the `.sample` file is that of other samples, or of the same in another order.

    Notes
    -----
    **Cost**: that of `read_index`.
    """
    header = read_header(path)
    samples, sample_path = _samples(header, sample_file)
    bgi = path.with_name(path.name + ".bgi")
    index = read_index(header, bgi)
    return Source(
        path=path,
        samples=samples,
        variants=index.variants,
        has_dosages=True,
        decoder=BgenDecoder(header, index.offsets, index.first_row),
        files=(path,) if sample_path is None else (path, sample_path),
        notes={"kind": "bgen", "layout": header.layout, "compression": header.compression},
    )


def _samples(header: BgenHeader, given: Path | None) -> tuple[SampleTable, Path | None]:
    """Read who the samples are; with the `.sample` file that says so."""
    beside = header.path.with_suffix(".sample")
    path = given or (beside if beside.is_file() else None)
    oxford = None if path is None else read_oxford_sample(path)
    if oxford is not None and len(oxford.sample_id) != header.n_samples:
        raise SampleMismatchError(
            f"{oxford.path} names {len(oxford.sample_id):,} samples and {header.path} holds {header.n_samples:,}: give the "
            ".sample file that belongs to it."
        )
    if header.sample_block and given is None:
        table = _with_own_ids(header, read_sample_ids(header), oxford)
    elif oxford is not None:
        if header.sample_block:
            _check_order(header, read_sample_ids(header), oxford)
        table = SampleTable(oxford.sample_id, oxford.family_id, oxford.sex)
    else:
        raise InputFileError(
            f"{header.path} does not name its samples, and {beside.name} is not beside it: give its .sample file."
        )
    ids, counts = np.unique(table.sample_id, return_counts=True)
    repeated = ids[counts > 1]
    if len(repeated):
        source = header.path if oxford is None else oxford.path
        raise InputFileError(
            f"{source} names {len(repeated):,} sample ids more than once: {named(repeated)}. Samples are matched by this "
            "id alone: make it unique, in a .sample file of your own that you give."
        )
    return table, path


def _with_own_ids(header: BgenHeader, ids: NDArray[np.str_], oxford: OxfordSamples | None) -> SampleTable:
    """Take the file's own ids, and family and sex from the `.sample` file beside it.

    Where the file pastes family and sample, as PLINK 2 does, the `.sample` file tells them apart.
    """
    if oxford is None:
        return SampleTable(ids, np.full(len(ids), "0"), np.zeros(len(ids), np.int8))
    first, second = oxford.first_id, oxford.sample_id
    for candidate, sample_id in ((second, second), (_pasted(oxford), second), (first, first)):
        if np.array_equal(ids, candidate):
            return SampleTable(sample_id, oxford.family_id, oxford.sex)
    bad = int(np.flatnonzero(ids != second)[0])
    raise SampleMismatchError(
        f"{oxford.path} names other samples than {header.path}: at sample {bad + 1:,}, {second[bad]} instead of {ids[bad]}. "
        "Move it away, or give it as the .sample file, if its ids are the right ones."
    )


def _pasted(oxford: OxfordSamples) -> NDArray[np.str_]:
    """Write family and sample in one, as PLINK 2 does."""
    return np.strings.add(np.strings.add(oxford.first_id, "_"), oxford.sample_id)


def _check_order(header: BgenHeader, own: NDArray[np.str_], given: OxfordSamples) -> None:
    """Refuse a `.sample` file that was given and has the file's own ids in another order; warn where some moved."""
    spellings = (given.sample_id, _pasted(given), given.first_id)
    if any(np.array_equal(own, ids) for ids in spellings):
        return
    for ids in spellings:
        if np.array_equal(np.sort(own), np.sort(ids)):
            at = int(np.flatnonzero(own != ids)[0])
            raise SampleMismatchError(
                f"{given.path} names the samples of {header.path} in another order: at sample {at + 1:,}, {ids[at]} instead "
                f"of {own[at]}. Genotypes go by place: put its lines in the order of the BGEN file."
            )
    for ids in spellings[:2]:  # families may be named as a sample is
        moved = ids[np.isin(ids, own) & (ids != own)]
        if len(moved):
            log.warning(
                "%s names %s samples of %s in other places than the file itself does: %s. Its names are used, by place; is "
                "it the .sample file of this BGEN file?",
                given.path, f"{len(moved):,}", header.path, named(moved),
            )  # fmt: skip
            return


@dataclass(frozen=True, eq=False)
class BgenDecoder:
    """Reads rows of a BGEN file.

    Attributes
    ----------
    header
        The file's.
    offsets, first_row
        As in `BgenIndex`: where each variant lies, and its first row.
    """

    header: BgenHeader
    offsets: NDArray[np.int64]
    first_row: NDArray[np.int64] | None

    def read(self, start: int, stop: int, encoding: Encoding) -> Block:
        """Read rows `start` to `stop` (half-open) in an encoding.

        Returns
        -------
        Block
            All sums are there but `haplotype_squares`, which is NaN for variants that are not phased, and None where no
            variant of the block is; `haploid_count` is −1 in a file of layout 1, which has no ploidy. They are over all
            samples with a genotype, also where a dosage is no call.

        Raises
        ------
        InputFileError
            When the file cannot be read, is damaged there, or was changed meanwhile; names file and variant.

        Notes
        -----
        **Cost**: one read of the compressed variants, at most 32 MiB at a time; with 8 bits a probability and zlib about
        1 to 3 ns a genotype, most of it to decompress.
        """
        header = self.header
        if file_stamp(header.path) != (header.size, header.modified):
            raise InputFileError(f"{header.path} was changed since it was opened. Run again.")
        rows = np.empty((stop - start, encoding.width(header.n_samples)), encoding.dtype)
        sums = np.empty((stop - start, _N_SUMS))
        variants = _VariantReader(header, encoding)
        first, last = self._variants_of(start, stop)
        while first < last:
            end = min(last, max(first + 1, self._last_within(first)))
            window = self._read_window(first, end)
            for i in range(end - first):
                self._place(variants, window, i, start, rows, sums)
            first = end
        expected, haplotype, total, squares, haploid_sum, haploid = sums.T
        phased = not np.isnan(haplotype).all()
        return Block(rows, expected, haplotype if phased else None, total, squares, as_counts(haploid), haploid_sum)

    def _variants_of(self, start: int, stop: int) -> tuple[int, int]:
        """Give the half-open range of variants that hold a range of rows."""
        if self.first_row is None or stop <= start:
            return start, stop
        first = np.searchsorted(self.first_row, start, side="right") - 1
        return int(first), int(np.searchsorted(self.first_row, stop, side="left"))

    def _last_within(self, first: int) -> int:
        """Give the end of the run of variants from `first` on that is read at a time."""
        return int(np.searchsorted(self.offsets, self.offsets[first] + _RANGE_BYTES, side="right")) - 1

    def _read_window(self, first: int, end: int) -> Window:
        offsets = self.offsets[first : end + 1]
        data = read_range(self.header.path, int(offsets[0]), int(offsets[-1] - offsets[0]))
        return parse_range(self.header, first, offsets, data)

    def _place(
        self, variants: _VariantReader, window: Window, i: int, start: int, rows: Rows, sums: NDArray[np.float64]
    ) -> None:
        """Decode a variant into its rows, of which those outside the block are dropped."""
        number, n_alts = window.first + i, int(window.table[i, Field.N_ALLELES]) - 1
        row, expected = number, 1
        if self.first_row is not None:
            row = int(self.first_row[number])
            expected = int(self.first_row[number + 1]) - row
        if n_alts != expected:
            raise InputFileError(
                f"{self.header.path}, {variant_name(window, i)}: {n_alts + 1} alleles instead of {expected + 1}. Was the "
                "file changed, or is its .bgi that of another file? Make the .bgi again, and run again."
            )
        low, high = row - start, row + n_alts - start
        if low >= 0 and high <= len(rows):
            variants.decode(window, i, rows[low:high], sums[low:high])
            return
        part, part_sums = np.empty((n_alts, rows.shape[1]), rows.dtype), np.empty((n_alts, _N_SUMS))
        variants.decode(window, i, part, part_sums)
        kept = slice(max(0, -low), n_alts - max(0, high - len(rows)))
        rows[max(0, low) : high] = part[kept]
        sums[max(0, low) : high] = part_sums[kept]


class _VariantReader:
    """Decompresses and decodes variants one after another; used by one call of `BgenDecoder.read`."""

    def __init__(self, header: BgenHeader, encoding: Encoding) -> None:
        self.header = header
        self.encoding = encoding
        self.zstd = zstandard.ZstdDecompressor()

    def decode(self, window: Window, i: int, rows: Rows, sums: NDArray[np.float64]) -> None:
        """Decode the i-th variant of a window into its rows."""
        header, encoding = self.header, self.encoding
        data = np.frombuffer(self._unpacked(window, i), np.uint8)
        data.flags.writeable = False  # one type for the compiled loops, whatever the buffer
        calls = not encoding.is_dosage
        out = np.empty((len(rows), header.n_samples), np.uint8) if calls else rows
        missing = _MISSING_CALL if calls else encoding.missing
        if header.layout == 1:
            fault, where = decode_layout_1(data, header.n_samples, encoding.steps, missing, out, sums)
        else:
            n_alleles = len(rows) + 1
            fault, where = decode_layout_2(data, header.n_samples, n_alleles, encoding.steps, missing, out, sums)
        if fault:
            raise self._error(window, i, _explain(Fault(fault), int(where), header.n_samples, data))
        if calls:
            rows_from_calls(out.view(np.int8), encoding, rows)

    def _unpacked(self, window: Window, i: int) -> bytes | bytearray | memoryview:
        """Decompress the genotypes of a variant."""
        row = window.table[i].tolist()
        at, length, expected = row[Field.DATA], row[Field.DATA_LENGTH], row[Field.UNPACKED_LENGTH]
        at -= int(window.table[0, Field.START])
        packed = memoryview(window.data)[at : at + length]
        compression = self.header.compression
        if compression == "none":
            return packed
        n_alleles = int(window.table[i, Field.N_ALLELES])
        if expected > self._most_bytes(length, n_alleles):
            raise self._error(window, i, f"genotypes of {expected:,} bytes, which cannot be: {length:,} are stored")
        try:
            data = self._zstd(packed, expected) if compression == "zstd" else deflate.zlib_decompress(packed, expected)
        except (deflate.DeflateError, zstandard.ZstdError, MemoryError, ValueError):
            raise self._error(window, i, f"genotypes that cannot be decompressed ({compression})") from None
        if len(data) != expected:
            what = f"genotypes of {len(data):,} bytes where {expected:,} are expected"
            raise self._error(window, i, what)
        return data

    def _most_bytes(self, length: int, n_alleles: int) -> int:
        """Bound what a variant may take in memory, before it is believed."""
        values = MAX_PLOIDY if n_alleles == 2 else 1 << 32
        most = 10 + self.header.n_samples * (1 + 4 * values)
        return min(most, _MOST_ZLIB * length) if self.header.compression == "zlib" else most

    def _zstd(self, packed: memoryview, expected: int) -> bytes:
        """Decompress one frame; its own count of bytes, where it has one, is not believed but compared."""
        size = zstandard.frame_content_size(packed)
        if size not in (-1, expected):
            raise ValueError(size)
        return self.zstd.decompress(packed, max_output_size=expected, allow_extra_data=False)

    def _error(self, window: Window, i: int, what: str) -> InputFileError:
        return InputFileError(
            f"{self.header.path}, {variant_name(window, i)}: {what}. The file is damaged: copy or make it again."
        )


def _explain(fault: Fault, where: int, n_samples: int, data: Bytes) -> str:
    """Say what is wrong with the genotypes of a variant."""
    least, most = (data[6], data[7]) if len(data) > 7 else (0, 0)
    return {
        Fault.NONE: "",
        Fault.SAMPLES: f"genotypes of {where:,} samples instead of {n_samples:,}",
        Fault.ALLELES: f"genotypes of {where:,} alleles, of which the variant has another number",
        Fault.PLOIDY_RANGE: f"a ploidy from {least} to {most}, which cannot be (0 to {MAX_PLOIDY})",
        Fault.PLOIDY: f"the ploidy of sample {where + 1:,} is not from {least} to {most}, as the variant says",
        Fault.PHASED: f"a phase of {where}, which is neither 0 nor 1",
        Fault.BITS: f"{where} bits a probability, which are not from 1 to 32",
        Fault.LENGTH: f"genotypes of {where:,} bytes, which are not those of its samples, ploidy and bits",
        Fault.SUM: f"the genotype probabilities of sample {where + 1:,} add up to more than 1",
    }[fault]
