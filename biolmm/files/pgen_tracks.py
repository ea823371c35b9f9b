"""What follows the calls in a record of a `.pgen`: further ALT alleles, phase, dosages.

Written from the PLINK 2 file format specification (github.com/chrchang/plink-ng, pgen_spec), sections "Multiallelic
hard-calls" to "Phased dosages". Positions and codes are those of `pgen_bits.py`.
"""

from __future__ import annotations

import numba
import numpy as np

from biolmm.files.pgen_bits import (
    ALLELE,
    BITS,
    DOSAGE,
    ENDS,
    FORMAT,
    PADDING,
    SAMPLE_LIST,
    copy_bytes,
    count_bits,
    is_padded,
    read_bits,
    read_difflist,
    set_call,
)

UNITS = 16_384
"""Units of a dosage of one copy."""

_PLACES = np.array([[*(k for k in range(8) if byte >> k & 1), *[0] * 8][:8] for byte in range(256)], np.uint32)
"""Which bits of a byte are set."""


@numba.njit(nogil=True, cache=True)
def read_multiallelic(data, at, end, n_samples, n_alt, allele, geno, view, ids):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Apply the calls of ALT alleles after the first to `view`; returns the heterozygous ones among two ALT too."""
    if at >= end:
        return 0, -ENDS
    formats = data[at]
    at += 1
    n_het = 0
    for category in (1, 2):
        layout = formats & 15 if category == 1 else formats >> 4
        count, at = _patched(data, at, end, n_samples, category, layout, geno, ids)
        if at < 0:
            return 0, at
        width = _allele_bits(n_alt, category)
        bits = count * width * (category if n_alt > 2 else 1)
        if at + (bits + 7) // 8 > end:
            return 0, -ENDS
        for k in range(count):
            if category == 1:
                low, high = 0, 2 + read_bits(data, at, k * width, width)
            elif n_alt == 2:
                high = 2
                low = 1 + read_bits(data, at, k, 1)
            else:
                low = 1 + read_bits(data, at, 2 * k * width, width)
                high = 1 + read_bits(data, at, (2 * k + 1) * width, width)
            if high > n_alt or low > high or high == 1:
                return 0, -ALLELE
            n_het += category == 2 and low != high
            set_call(view, ids[k], (low == allele) + (high == allele))
        at += (bits + 7) // 8
    return n_het, at


@numba.njit(nogil=True, cache=True)
def _patched(data, at, end, n_samples, category, layout, geno, ids):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Find the samples of a category of the main track that have another ALT allele; returns how many too."""
    if layout == 15:
        return 0, at
    if layout > 1:
        return 0, -FORMAT
    count = 0
    if layout == 1:
        count, at = read_difflist(data, at, end, n_samples, False, ids, data)
        for k in range(count):
            if geno[ids[k] >> 2] >> 2 * (ids[k] & 3) & 3 != category:
                return 0, -SAMPLE_LIST
        return count, at
    bit = 0
    for sample in range(n_samples):
        if geno[sample >> 2] >> 2 * (sample & 3) & 3 == category:
            if at + (bit >> 3) >= end:
                return 0, -ENDS
            if read_bits(data, at, bit, 1):
                ids[count] = sample
                count += 1
            bit += 1
    at += (bit + 7) // 8
    if bit and not is_padded(data[:at], bit, 1):
        return 0, -PADDING
    return count, at


@numba.njit(nogil=True, cache=True)
def _allele_bits(n_alt, category):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Bits of one allele's index: two values fewer need to be told apart with REF, one fewer without."""
    if n_alt == 2:
        return category - 1
    if category == 1 and n_alt == 3:
        return 1
    n = n_alt - 2 if category == 1 else n_alt - 1
    for width in (2, 4, 8, 16):
        if n < 1 << width:
            return width
    return 24


@numba.njit(nogil=True, cache=True)
def skip_phase(data, at, end, n_het):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Step over the phase of heterozygous calls."""
    first = (n_het + 8) // 8  # one bit more than there are such calls
    if at + first > end:
        return -ENDS
    if not is_padded(data[: at + first], n_het + 1, 1):
        return -PADDING
    if data[at] & 1:
        n_phased = count_bits(data[at : at + first]) - 1
        first += (n_phased + 7) // 8
    return at + first if at + first <= end else -ENDS


@numba.njit(nogil=True, cache=True)
def read_dosages(  # type: ignore[no-untyped-def]  # pragma: no cover
    data, at, end, kind, n_samples, steps, ids, view, row, sums
):
    """Lay dosages over the calls of a row, where it holds dosages, and step over them where it does not."""
    layout = kind >> 5 & 3
    count = n_samples
    if layout == 1:
        count, at = read_difflist(data, at, end, n_samples, False, ids, data)
        if at < 0:
            return at
    elif layout == 3:
        n_bytes = (n_samples + 7) // 8
        if at + n_bytes > end:
            return -ENDS
        if not is_padded(data[: at + n_bytes], n_samples, 1):
            return -PADDING
        count = _listed(data[at : at + n_bytes], ids) if steps else count_bits(data[at : at + n_bytes])
        at += n_bytes
    if at + 2 * count > end:
        return -ENDS
    if steps:
        values = np.empty(count, np.uint16)
        copy_bytes(data[at : at + 2 * count], values.view(np.uint8))
        if layout == 2:
            values = values[: _present(values, ids)]
        if not _lay(values, steps, ids, view, row, sums):
            return -DOSAGE
    at += 2 * count
    return _skip_phased_dosages(data, at, end, layout, count) if kind & 128 else at


@numba.njit(nogil=True, cache=True)
def _skip_phased_dosages(data, at, end, layout, count):  # type: ignore[no-untyped-def]  # pragma: no cover
    if layout != 2:
        n_bytes = (count + 7) // 8
        if at + n_bytes > end:
            return -ENDS
        if count and not is_padded(data[: at + n_bytes], count, 1):
            return -PADDING
        count = count_bits(data[at : at + n_bytes])
        at += n_bytes
    return at + 2 * count if at + 2 * count <= end else -ENDS


@numba.njit(nogil=True, cache=True)
def _listed(bits, ids):  # type: ignore[no-untyped-def]  # pragma: no cover
    """List the bits that are set, eight at a time, of which those of the next byte overwrite what is too much."""
    count = 0
    for j in range(len(bits)):
        byte = bits[j]
        eight = ids[count : count + 8]
        for k in range(8):
            eight[k] = 8 * j + _PLACES[byte, k]
        count += BITS[byte]
    return count


@numba.njit(nogil=True, cache=True)
def _present(values, ids):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Move the dosages that are not missing to the front, and list whose they are."""
    count = 0
    for sample in range(len(values)):
        value = values[sample]
        ids[count] = sample
        values[count] = value
        count += value != 65535
    return count


@numba.njit(nogil=True, cache=True)
def _lay(values, steps, ids, view, row, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Lay the dosages of the samples `ids` over a row and its sums; False where one is above two copies."""
    top, total, squares = 0, 0, 0
    for k in range(len(values)):
        value = int(values[k])
        top = max(top, value)
        total += value
        squares += value * value
    if top > 2 * UNITS:
        return False
    if len(values) == len(row):
        for k in range(len(values)):
            row[k] = (values[k] * steps + UNITS // 2) >> 14
        sums[0], sums[1] = total, squares
        return True
    n_het, n_hom = 0, 0
    for k in range(len(values)):
        sample = ids[k]
        call = view[sample >> 2] >> 2 * (sample & 3) & 3
        n_het += call == 1
        n_hom += call == 2
        row[sample] = (values[k] * steps + UNITS // 2) >> 14
    sums[0] += total - UNITS * (n_het + 2 * n_hom)
    sums[1] += squares - UNITS**2 * (n_het + 4 * n_hom)
    return True
