"""Decode the variant records of a `.pgen`.

Written from the PLINK 2 file format specification (github.com/chrchang/plink-ng, pgen_spec), section "Variant records".
A record is a main track of two bits a sample (0, 1, 2 copies of ALT, 3 = missing: our packed calls), and after it what
its type announces: calls of further ALT alleles (bit 3), phase (bit 4), dosages (bits 5 and 6), phased dosages (bit 7).
Positions and codes are those of `pgen_bits.py`.
"""

from __future__ import annotations

import numba
import numpy as np

from biolmm.files.pgen_bits import (
    DAMAGE,
    ENDS,
    FORMAT,
    LEFT_OVER,
    PADDING,
    copy_bytes,
    is_padded,
    read_difflist,
    set_call,
)
from biolmm.files.pgen_tracks import UNITS, read_dosages, read_multiallelic, skip_phase

__all__ = ["DAMAGE", "UNITS", "decode_main", "decode_rows"]

_HETS = np.array([sum((byte >> 2 * k & 3) == 1 for k in range(4)) for byte in range(256)], np.uint8)
_HOMS = np.array([sum((byte >> 2 * k & 3) == 2 for k in range(4)) for byte in range(256)], np.uint8)


@numba.njit(nogil=True, cache=True)
def decode_main(data, kind, n_samples, geno):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Decode the main track of a record that stands alone; 0 or the code of a failed check."""
    ids, values = np.empty(n_samples + 8, np.uint32), np.empty(n_samples, np.uint8)
    at = _main_track(data, 0, len(data), kind, n_samples, geno, geno, ids, values)
    return -at if at < 0 else 0


@numba.njit(nogil=True, cache=True)
def decode_rows(  # type: ignore[no-untyped-def]  # pragma: no cover
    data, starts, stops, types, n_alts, variants, alleles, n_samples, steps, plink1, base, out, sums
):
    """Decode rows of ALT counts: `alleles[i]` of the record `variants[i]`; `steps` 0 = packed calls, else dosages.

    `base` holds the main track that the first records may differ from; it is overwritten. `sums` (2, b) receives the
    sum and the sum of squares of the dosages in units of 1/16384, where rows are dosages.
    Returns (0, 0), or the code of the failed check and the row.
    """
    geno = np.empty((n_samples + 3) // 4, np.uint8)
    view = np.empty_like(geno)
    ids, values = np.empty(n_samples + 8, np.uint32), np.empty(n_samples, np.uint8)
    codes = np.array([0, steps, 2 * steps, 65535]).astype(out.dtype)
    before, after_main = -1, 0
    for i in range(len(variants)):
        v = variants[i]
        kind, end = int(types[v]), stops[v]
        if v != before:
            differs = kind & 6 == 2
            after_main = _main_track(data, starts[v], end, kind & 7, n_samples, base, geno, ids, values)
            if after_main < 0:
                return -after_main, i
            if plink1:  # such a file does not say how many samples it has: these bits tell when some are not named
                if not is_padded(geno, n_samples, 2):
                    return PADDING, i
                _recode_plink1(geno)
            if n_samples % 4:
                geno[-1] &= (1 << 2 * (n_samples % 4)) - 1
            if not differs:
                copy_bytes(geno, base)
            before = v
        at, n_het = after_main, 0
        _view_allele(geno, alleles[i], view)
        if kind & 8:
            n_het, at = read_multiallelic(data, at, end, n_samples, n_alts[v], alleles[i], geno, view, ids)
        if kind & 16 and at >= 0:
            for byte in geno:
                n_het += _HETS[byte]
            at = skip_phase(data, at, end, n_het)
        if steps:
            _emit_dosages(view, codes, out[i])
            _sum_calls(view, sums[:, i])
        else:
            _emit_calls(view, n_samples, out[i])
        if kind & 0xE0 and at >= 0:
            if n_alts[v] > 1 or kind & 0x60 == 0:
                return FORMAT, i
            at = read_dosages(data, at, end, kind, n_samples, steps, ids, view, out[i], sums[:, i])
        if at != end:
            return -at if at < 0 else LEFT_OVER, i
    return 0, 0


@numba.njit(nogil=True, cache=True)
def _main_track(data, at, end, kind, n_samples, base, geno, ids, values):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read two bits a sample into `geno`, whatever the bits behind the last sample; returns the position."""
    n_bytes = len(geno)
    if kind == 0:
        if at + n_bytes > end:
            return -ENDS
        copy_bytes(data[at : at + n_bytes], geno)
        return at + n_bytes
    if kind == 5:  # everyone has two copies of REF
        geno[:] = 0
        return at
    if kind == 1:
        at = _one_bit(data, at, end, n_samples, geno)
        if at < 0:
            return at
    elif kind == 2 or kind == 3:
        copy_bytes(base, geno)
    else:
        geno[:] = (kind & 3) * 0x55
    count, at = read_difflist(data, at, end, n_samples, True, ids, values)
    if at < 0:
        return at
    for k in range(count):
        set_call(geno, ids[k], values[k])
    if kind == 3:  # 0 and 2 change places: the high bit flips where the low bit is 0
        for j in range(n_bytes):
            geno[j] ^= (~geno[j] & 0x55) << 1
    return at


@numba.njit(nogil=True, cache=True)
def _one_bit(data, at, end, n_samples, geno):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read one bit a sample, which tells the two most common genotypes apart."""
    n_bytes = (n_samples + 7) // 8
    if at + 1 + n_bytes > end:
        return -ENDS
    low = data[at] >> 2 & 3
    high = low + (data[at] & 3)
    if data[at] >= 16 or high == low or high > 3:
        return -FORMAT
    table = np.zeros(16, np.uint8)
    for nibble in range(16):
        for k in range(4):
            table[nibble] |= (high if nibble >> k & 1 else low) << 2 * k
    at += 1
    for j in range(len(geno) // 2):
        byte = data[at + j]
        geno[2 * j] = table[byte & 15]
        geno[2 * j + 1] = table[byte >> 4]
    if len(geno) % 2:
        geno[-1] = table[data[at + n_bytes - 1] & 15]
    return at + n_bytes


@numba.njit(nogil=True, cache=True)
def _recode_plink1(geno):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Turn PLINK 1's codes (0 two copies, 1 missing, 2 one, 3 none) into copies."""
    for j in range(len(geno)):
        geno[j] = (~geno[j] & 0xAA) | ((geno[j] ^ (geno[j] >> 1)) & 0x55)


@numba.njit(nogil=True, cache=True)
def _view_allele(geno, allele, view):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Take the main track as calls of the first ALT allele: those of any other are missing or none."""
    if allele == 1:
        copy_bytes(geno, view)
    else:
        for j in range(len(geno)):
            missing = geno[j] & (geno[j] >> 1) & 0x55
            view[j] = missing * 3


@numba.njit(nogil=True, cache=True)
def _emit_calls(view, n_samples, row):  # type: ignore[no-untyped-def]  # pragma: no cover
    copy_bytes(view, row)
    if n_samples % 4:
        row[len(view) - 1] |= 255 << 2 * (n_samples % 4) & 255
    row[len(view) :] = 255


@numba.njit(nogil=True, cache=True)
def _emit_dosages(view, codes, row):  # type: ignore[no-untyped-def]  # pragma: no cover
    whole = len(row) // 4
    for j in range(whole):
        byte = view[j]
        row[4 * j] = codes[byte & 3]
        row[4 * j + 1] = codes[byte >> 2 & 3]
        row[4 * j + 2] = codes[byte >> 4 & 3]
        row[4 * j + 3] = codes[byte >> 6]
    for sample in range(4 * whole, len(row)):
        row[sample] = codes[view[sample >> 2] >> 2 * (sample & 3) & 3]


@numba.njit(nogil=True, cache=True)
def _sum_calls(view, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sum calls and their squares, in the units of dosages; the bits behind the last sample are zero."""
    n_het, n_hom = 0, 0
    for byte in view:
        n_het += _HETS[byte]
        n_hom += _HOMS[byte]
    sums[0] = (n_het + 2 * n_hom) << 14
    sums[1] = (n_het + 4 * n_hom) << 28
