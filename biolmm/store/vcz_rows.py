"""Rows from the arrays of VCF Zarr: calls and dosages of blocks of variants by samples.

`call_genotype` holds allele numbers, −1 = missing, −2 = no allele (haploid), `call_DS` (sgkit: `call_dosage`) dosages of
the ALT alleles, `call_GP` (`call_genotype_probability`) probabilities of the genotypes, `call_HDS` dosages of the two
haplotypes; NaN where they have none. They mean what the fields of a VCF do, see `biolmm.files.vcf_values`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.encoding import Encoding, Rows, rows_from_calls, rows_from_dosages
from biolmm.files.genotypes import Block, Strings, as_counts, as_strings
from biolmm.files.vcf_values import NO_ALLELE, RecordValues, Trouble, settle_dosages

ReadBlock = Callable[[str, slice, slice], NDArray[Any]]
"""Reads an array of calls by its name: some variants, some samples, and all of its other dimensions."""

_NAMES = {
    "genotype": ("call_genotype",),
    "ds": ("call_DS", "call_dosage"),
    "hds": ("call_HDS",),
    "gp": ("call_GP", "call_genotype_probability"),
}

_WRONG = {
    Trouble.DS: "dosages of some but not all ALT alleles",
    Trouble.GP: "probabilities of some but not all genotypes",
    Trouble.DS_RANGE: "a dosage that is not from 0 to 2 (to 1 for a haploid sample)",
    Trouble.HDS_RANGE: "a haplotype's dosage that is not from 0 to 1",
    Trouble.GP_SUM: "probabilities of genotypes whose sum is not 1",
    Trouble.GENOTYPE: "an allele number that is none of its alleles",
    Trouble.PLOIDY: "more than two alleles; biolmm reads haploid and diploid samples",
}


@dataclass(frozen=True)
class CallFields:
    """Which array holds what; empty where none does."""

    genotype: str
    ds: str
    hds: str
    gp: str

    @classmethod
    def among(cls, names: Mapping[str, Any] | set[str]) -> CallFields:
        """Pick the arrays that are there.

        Examples
        --------
        >>> CallFields.among({"call_genotype", "call_dosage"}).ds
        'call_dosage'
        """
        return cls(*(next((each for each in known if each in names), "") for known in _NAMES.values()))

    @property
    def used(self) -> tuple[str, ...]:
        """The arrays that are there."""
        return tuple(name for name in (self.genotype, self.ds, self.hds, self.gp) if name)

    @property
    def has_dosages(self) -> bool:
        """Whether there is more than hard calls."""
        return bool(self.ds or self.hds or self.gp)

    def read_as_calls(self, encoding: Encoding) -> bool:
        """Whether `call_genotype` alone is read: where there is nothing else, or it is there and calls are asked for."""
        return not self.has_dosages or (encoding is Encoding.CALLS and bool(self.genotype))


@dataclass(frozen=True, eq=False)
class AlleleTable:
    """ALT alleles of variants, each of which makes a row."""

    ref: Strings
    alt: Strings
    n_alts: NDArray[np.int64]
    """(variants,) How many each has."""

    @classmethod
    def of(cls, table: Strings, path: Path) -> AlleleTable:
        """Split `variant_allele` (variants, alleles), which is filled up with empty strings; `.` is no ALT allele."""
        there = (table[:, 1:] != "") & (table[:, 1:] != ".")
        empty = np.flatnonzero((table[:, 0] == "") | (there[:, 1:] & ~there[:, :-1]).any(axis=1))
        if len(empty):
            raise InputFileError(
                f"{path} is damaged: variant {empty[0] + 1:,} of variant_allele has an empty allele. Copy it again."
            )
        n_alts = there.sum(axis=1)
        return cls(as_strings(np.repeat(table[:, 0], n_alts)), as_strings(table[:, 1:][there]), n_alts.astype(np.int64))


def read_rows(
    path: Path, fields: CallFields, read: ReadBlock, first: int, n_alts: NDArray[np.int64],
    samples: tuple[slice, ...], encoding: Encoding,
) -> Block:  # fmt: skip
    """Read all rows of variants from `first` on, a piece of the samples at a time.

    Parameters
    ----------
    path
        For messages.
    fields, read
        Which arrays there are, and what reads them.
    first, n_alts
        First variant, and the number of ALT alleles of each one that is read.
    samples
        Pieces of all samples, in order.
    encoding
        How rows are encoded.

    Raises
    ------
    InputFileError
        When values make no sense, and as `read` does.
    """
    n_samples, n_rows = samples[-1].stop, int(n_alts.sum())
    rows = encoding.missing_rows(n_rows, n_samples)
    sums = np.zeros((6, n_rows))
    variants = slice(first, first + len(n_alts))
    as_calls = fields.read_as_calls(encoding)
    for part in samples:
        names = (fields.genotype,) if as_calls else fields.used
        values = {name: read(name, variants, part) for name in names}
        if as_calls:
            calls = np.empty((n_rows, part.stop - part.start), np.int8)
            record, sample, trouble = _count_alleles(_three_dimensions(values[fields.genotype]), n_alts, calls)
            _check(path, first + record, part.start + sample, trouble)
            _put(rows, rows_from_calls(calls, encoding), encoding, part)
        else:
            _read_dosages(path, fields, values, first, n_alts, part, encoding, rows, sums)
    if as_calls:
        return Block(rows)
    expected, haplotype, total, squares, haploid_sum, haploid = sums
    return Block(
        rows, expected if fields.gp else None, haplotype if fields.hds else None, total, squares, as_counts(haploid),
        haploid_sum,
    )  # fmt: skip


def _read_dosages(
    path: Path, fields: CallFields, values: Mapping[str, NDArray[Any]], first: int, n_alts: NDArray[np.int64],
    part: slice, encoding: Encoding, rows: Rows, sums: NDArray[np.float64],
) -> None:  # fmt: skip
    """Settle the dosages of all variants for some samples, and add up their sums."""
    n = part.stop - part.start
    stacked = {name: _three_dimensions(array) for name, array in values.items()}
    has = np.array([bool(fields.genotype), bool(fields.ds), bool(fields.hds), bool(fields.gp)])
    row = 0
    for i, n_alt in enumerate(n_alts.tolist()):
        if not n_alt:
            continue
        record = RecordValues.empty(n, n_alt, has)
        if fields.genotype:
            _check(path, first + i, part.start, _fill_alleles(stacked[fields.genotype][i], record.alleles, n_alt))
        column = 0
        for name, width in zip((fields.ds, fields.hds, fields.gp), record.widths.tolist(), strict=True):
            if width:
                given = stacked[name][i][:, :width]
                with np.errstate(invalid="ignore"):  # what stands for missing is a NaN that signals when it is widened
                    record.numbers[:, column : column + given.shape[1]] = given
            column += width
        dosages, total = np.empty((n_alt, n)), np.empty((6, n_alt))
        sample, trouble = settle_dosages(record.alleles, record.numbers, record.widths, dosages, total)
        _check(path, first + i, part.start + sample, trouble)
        _put(rows[row : row + n_alt], rows_from_dosages(dosages, encoding), encoding, part)
        sums[:, row : row + n_alt] += total
        row += n_alt


def _three_dimensions(array: NDArray[Any]) -> NDArray[Any]:
    """Add the dimension that an array of one value a sample lacks."""
    return np.ascontiguousarray(array if array.ndim == 3 else array[:, :, None])


def _fill_alleles(genotype: NDArray[Any], alleles: NDArray[np.int64], n_alt: int) -> int:
    """Copy allele numbers (samples, ploidy); return what is wrong."""
    ploidy = genotype.shape[1]
    alleles[:, 0] = genotype[:, 0]
    alleles[:, 1] = genotype[:, 1] if ploidy > 1 else NO_ALLELE
    if (alleles > n_alt).any() or (alleles < NO_ALLELE).any():
        return Trouble.GENOTYPE.value
    return Trouble.PLOIDY.value if (genotype[:, 2:] != NO_ALLELE).any() else 0


def _check(path: Path, variant: int, sample: int, trouble: int) -> None:
    if trouble:
        raise InputFileError(f"{path}, variant {variant + 1:,}, sample {sample + 1:,}: {_WRONG[Trouble(trouble)]}.")


def _put(rows: Rows, part_rows: Rows, encoding: Encoding, part: slice) -> None:
    """Put the rows of some samples among those of all, which come as missing."""
    if encoding.is_dosage:
        rows[:, part] = part_rows[:, : part.stop - part.start]
    else:
        _put_calls(part_rows, part.start, part.stop - part.start, rows)


@numba.njit(nogil=True, cache=True)
def _put_calls(part_rows, start, n, rows):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Put packed calls at another place of packed rows; `rows` come as missing calls, all bits set."""
    for i in range(rows.shape[0]):
        if start % 4 == 0 and n % 4 == 0:
            for b in range(n // 4):
                rows[i, start // 4 + b] = part_rows[i, b]
        else:
            for j in range(n):
                call = (part_rows[i, j >> 2] >> np.uint8(2 * (j & 3))) & 3
                k = start + j
                rows[i, k >> 2] &= np.uint8(~((3 ^ call) << (2 * (k & 3))) & 0xFF)


@numba.njit(nogil=True, cache=True)
def _count_alleles(genotype, n_alts, calls):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Count copies of each ALT allele, a haploid sample's twice; return variant, sample and what is wrong, or zeros."""
    row, ploidy = 0, genotype.shape[2]
    for i in range(len(n_alts)):
        n_alt = n_alts[i]
        for s in range(genotype.shape[1]):
            a = np.int64(genotype[i, s, 0])
            b = np.int64(genotype[i, s, 1]) if ploidy > 1 else np.int64(NO_ALLELE)
            if a > n_alt or b > n_alt or a < NO_ALLELE or b < NO_ALLELE:
                return i, s, 5
            for p in range(2, ploidy):
                if genotype[i, s, p] != NO_ALLELE:
                    return i, s, 6
            if b == NO_ALLELE:
                b = a
            if n_alt == 1:
                calls[row, s] = a + b if a >= 0 and b >= 0 else -1
            else:
                for k in range(n_alt):
                    calls[row + k, s] = (a == k + 1) + (b == k + 1) if a >= 0 and b >= 0 else -1
        row += n_alt
    return 0, 0, 0
