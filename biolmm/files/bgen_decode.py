"""Genotypes of one BGEN variant, decompressed, to rows of dosages: the compiled loops.

Stored probabilities are whole numbers out of `top` = 2ᴮ − 1 (layout 2) or of their sum (layout 1), so that a dosage is a
fraction of whole numbers, num / den, and its code is rounded without error: ⌊steps · num / den + ½⌋. Rows of `steps` = 1
hold calls, one a byte: the nearest whole number where it is within 0.1, else `missing`.

A row is on the scale 0 to 2 whatever the ploidy Z of a sample: dosage = (2 / Z) · expected copies, so that a haploid call
counts as 0 or 2, as PLINK counts it, and Σ E[g²] and the haplotypes' squares are on the same scale: Z haplotypes of dosage
h count as (2 / Z) Σ h². A sample of ploidy 0 is missing.

    data      the decompressed genotypes; every length is checked before the first probability is read
    out       (n_alts, N) rows, one for each allele but the first
    sums      (n_alts, 6) over samples with a genotype: Σ E[g²]; Σ h², NaN where the variant is not phased; Σ d; Σ d²,
              d the dosages before they are rounded; Σ d of the haploid ones, and their number, NaN where it is not known
    returns   a `Fault` and the sample (from 0) or value it was found at
"""

from __future__ import annotations

from enum import IntEnum

import numba
import numpy as np

from biolmm.files.bgen_diploid import decode_diploid


class Fault(IntEnum):
    """What is wrong with the genotypes of a variant."""

    NONE = 0
    SAMPLES = 1
    ALLELES = 2
    PLOIDY_RANGE = 3
    PLOIDY = 4
    PHASED = 5
    BITS = 6
    LENGTH = 7
    SUM = 8


# The compiled loops take these as constants.
_NONE, _SAMPLES, _ALLELES, _PLOIDY_RANGE, _PLOIDY, _PHASED, _BITS, _LENGTH, _SUM = (int(fault) for fault in Fault)

MAX_PLOIDY = 63
_LAYOUT_1_TOP = 32_768
_LAYOUT_1_MOST = 33_424
"""1.02 of the top: three probabilities of two decimals each, as text files have them, may add up to 1.015."""
_CALLS = 1
"""Steps of rows of calls."""


@numba.njit(nogil=True, cache=True)
def decode_layout_1(data, n_samples, steps, missing, out, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Decode a variant of layout 1: three 16-bit probabilities a sample; none at all means missing.

    They are divided by their sum, which text files with few decimals leave a little off 1.
    """
    if len(data) != 6 * n_samples:
        return _LENGTH, len(data)
    sums[0] = 0.0
    for i in range(n_samples):
        at = 6 * i
        first = np.int64(data[at]) | np.int64(data[at + 1]) << 8
        het = np.int64(data[at + 2]) | np.int64(data[at + 3]) << 8
        last = np.int64(data[at + 4]) | np.int64(data[at + 5]) << 8
        den = first + het + last
        if den > _LAYOUT_1_MOST:
            return _SUM, i
        if den == 0:
            out[0, i] = missing
        else:
            out[0, i] = _code(het + 2 * last, den, steps, missing)
            dosage = (het + 2 * last) / den
            sums[0, 0] += (het + 4 * last) / den
            sums[0, 2] += dosage
            sums[0, 3] += dosage * dosage
    sums[0, 1] = np.nan
    sums[0, 5] = np.nan  # the format knows no ploidy: everybody is diploid in it
    return _NONE, 0


@numba.njit(nogil=True, cache=True)
def decode_layout_2(data, n_samples, n_alleles, steps, missing, out, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Decode a variant of layout 2."""
    fault, where = _check(data, n_samples, n_alleles)
    if fault != _NONE:
        return fault, where
    phased, bits = data[8 + n_samples], data[9 + n_samples]
    if n_alleles == 2 and not phased and data[6] == 2 and data[7] == 2 and bits in (8, 16):
        ploidy, values = data[8 : 8 + n_samples], data[10 + n_samples :]
        where = decode_diploid(ploidy, values, np.int64(bits), steps, missing, out[0], sums[0])
        return (_NONE if where < 0 else _SUM), where
    if n_alleles == 2:
        return _decode_two_alleles(data, n_samples, steps, missing, out[0], sums[0])
    return _decode_many_alleles(data, n_samples, n_alleles, steps, missing, out, sums)


@numba.njit(nogil=True, cache=True)
def _check(data, n_samples, n_alleles):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Check everything before the probabilities, and that these fill the rest exactly."""
    if len(data) < 10 + n_samples:
        return _LENGTH, len(data)
    found = np.int64(0)
    for k in range(4):
        found |= np.int64(data[k]) << 8 * k
    if found != n_samples:
        return _SAMPLES, found
    found = np.int64(data[4]) | np.int64(data[5]) << 8
    if found != n_alleles:
        return _ALLELES, found
    least, most = np.int64(data[6]), np.int64(data[7])
    if least > most or most > MAX_PLOIDY:
        return _PLOIDY_RANGE, least
    phased, bits = np.int64(data[8 + n_samples]), np.int64(data[9 + n_samples])
    if phased > 1:
        return _PHASED, phased
    if bits < 1 or bits > 32:
        return _BITS, bits
    n_values = np.int64(0)
    if least == most:  # a plain loop, which is done many samples at a time
        wrong = np.uint8(0)
        for i in range(n_samples):
            wrong |= (data[8 + i] & np.uint8(0x7F)) ^ np.uint8(most)
        if not wrong:
            each = _n_values(most, n_alleles, phased)
            if each > 8 * len(data) // n_samples:
                return _LENGTH, len(data)
            n_values = n_samples * each
    if n_values == 0:
        for i in range(n_samples):
            ploidy = np.int64(data[8 + i] & np.uint8(0x7F))
            if ploidy < least or ploidy > most:
                return _PLOIDY, i
            n_values += _n_values(ploidy, n_alleles, phased)
            if n_values > 8 * len(data):
                return _LENGTH, len(data)
    if n_values > 8 * len(data) or 10 + n_samples + (n_values * bits + 7) // 8 != len(data):
        return _LENGTH, len(data)
    return _NONE, 0


@numba.njit(nogil=True, cache=True)
def _n_values(ploidy, n_alleles, phased):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Probabilities stored for one sample; at 2⁴⁰ or more, which no variant can hold, counting stops."""
    if phased:
        return ploidy * (n_alleles - 1)
    n = np.int64(1)  # C(ploidy + n_alleles − 1, ploidy), of which the last one is not stored
    for k in range(1, ploidy + 1):
        n = n * (n_alleles - 1 + k) // k
        if n >= 1 << 40:
            break
    return n - 1


@numba.njit(nogil=True, cache=True)
def _code(num, den, steps, missing):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Round steps · num / den to the nearest code; below 2⁶³ for 32 bits and any ploidy."""
    code = (2 * steps * num + den) // (2 * den)
    if steps == _CALLS and 10 * abs(num - code * den) > den:
        return missing
    return code


@numba.njit(nogil=True, cache=True)
def _bits(data, at, n_bits):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read up to 32 bits from bit `at` on, the lowest first; bits behind the end are zero."""
    byte, word = at >> 3, np.int64(0)
    for k in range(min(5, len(data) - byte)):
        word |= np.int64(data[byte + k]) << 8 * k
    return word >> (at & 7) & ((np.int64(1) << n_bits) - 1)


@numba.njit(nogil=True, cache=True)
def _decode_two_alleles(data, n_samples, steps, missing, out, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Decode two alleles with any ploidy and number of bits, phased or not.

    Unphased, the stored values are P(0 … Z−1 copies of ALT); phased, P(REF) of each haplotype.
    """
    phased, n_bits = data[8 + n_samples] == 1, np.int64(data[9 + n_samples])
    top = (np.int64(1) << n_bits) - 1
    at = 8 * (10 + n_samples)
    sums[:] = 0.0
    for i in range(n_samples):
        ploidy = np.int64(data[8 + i] & np.uint8(0x3F))
        if data[8 + i] >> np.uint8(7) or ploidy == 0:
            out[i] = missing
            at += n_bits * ploidy
            continue
        added, num, mean_square, square_h = np.int64(0), np.int64(0), 0.0, 0.0
        for k in range(ploidy):
            value = _bits(data, at, n_bits)
            at += n_bits
            if phased:
                h = (top - value) / top
                num += top - value
                mean_square += h * (1 - h)
                square_h += h * h
            else:
                added += value
                num += k * value
                mean_square += k * k * (value / top)
        if phased:
            mean_square += (num / top) ** 2
        else:
            if added > top:
                return _SUM, i
            num += ploidy * (top - added)
            mean_square += ploidy * ploidy * ((top - added) / top)
        out[i] = _code(2 * num, ploidy * top, steps, missing)
        dosage = 2 * num / (ploidy * top)
        sums[0] += 4 * mean_square / (ploidy * ploidy)
        sums[1] += 2 * square_h / ploidy
        sums[2] += dosage
        sums[3] += dosage * dosage
        if ploidy == 1:
            sums[4] += dosage
            sums[5] += 1
    if not phased:
        sums[1] = np.nan
    return _NONE, 0


@numba.njit(nogil=True, cache=True)
def _decode_many_alleles(data, n_samples, n_alleles, steps, missing, out, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Decode three alleles or more; `copies`, `spread` and `square_h` collect what the samples have of each."""
    phased, n_bits = data[8 + n_samples] == 1, np.int64(data[9 + n_samples])
    top = (np.int64(1) << n_bits) - 1
    copies, spread, square_h = np.empty(n_alleles, np.int64), np.empty(n_alleles), np.empty(n_alleles)
    sums[:] = 0.0
    at = 8 * (10 + n_samples)
    for i in range(n_samples):
        ploidy = np.int64(data[8 + i] & np.uint8(0x3F))
        if data[8 + i] >> np.uint8(7) or ploidy == 0:
            out[:, i] = missing
            at += n_bits * _n_values(ploidy, n_alleles, phased)
            continue
        copies[:] = 0
        spread[:] = 0.0
        square_h[:] = 0.0
        if phased:
            at = _add_haplotypes(data, at, n_bits, ploidy, copies, spread, square_h)
        else:
            at = _add_genotypes(data, at, n_bits, ploidy, copies, spread)
        if at < 0:
            return _SUM, i
        for k in range(1, n_alleles):
            out[k - 1, i] = _code(2 * copies[k], ploidy * top, steps, missing)
            dosage = 2 * copies[k] / (ploidy * top)
            sums[k - 1, 0] += 4 * spread[k] / (ploidy * ploidy)
            sums[k - 1, 1] += 2 * square_h[k] / ploidy
            sums[k - 1, 2] += dosage
            sums[k - 1, 3] += dosage * dosage
            if ploidy == 1:
                sums[k - 1, 4] += dosage
                sums[k - 1, 5] += 1
    if not phased:
        sums[:, 1] = np.nan
    return _NONE, 0


@numba.njit(nogil=True, cache=True)
def _add_haplotypes(data, at, n_bits, ploidy, copies, spread, square_h):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add the haplotypes of one sample: P(each allele but the last); gives where the next begin, −1 for a wrong sum."""
    top, n_alleles = (np.int64(1) << n_bits) - 1, len(copies)
    for _ in range(ploidy):
        rest = top
        for k in range(n_alleles):
            value = rest
            if k < n_alleles - 1:
                value = _bits(data, at, n_bits)
                at += n_bits
            rest -= value
            if rest < 0:
                return -1
            h = value / top
            copies[k] += value
            spread[k] += h * (1 - h)
            square_h[k] += h * h
    for k in range(n_alleles):
        spread[k] += (copies[k] / top) ** 2
    return at


@numba.njit(nogil=True, cache=True)
def _add_genotypes(data, at, n_bits, ploidy, copies, spread):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add the genotypes of one sample: P(each but the last), in colexicographic order; as `_add_haplotypes`.

    `alleles` is a genotype as a rising list. The next one: raise the first that is below its successor, and set all before
    it to 0.
    """
    rest, n_alleles = (np.int64(1) << n_bits) - 1, len(copies)
    top, alleles = rest, np.zeros(ploidy, np.int64)
    is_last = False
    while not is_last:
        is_last = alleles[0] == n_alleles - 1
        value = rest
        if not is_last:
            value = _bits(data, at, n_bits)
            at += n_bits
        rest -= value
        if rest < 0:
            return -1
        begin = 0
        for j in range(ploidy):
            if j + 1 == ploidy or alleles[j + 1] != alleles[j]:
                n = j + 1 - begin
                copies[alleles[j]] += n * value
                spread[alleles[j]] += n * n * (value / top)
                begin = j + 1
        j = 0
        while j + 1 < ploidy and alleles[j] == alleles[j + 1]:
            j += 1
        alleles[j] += 1
        alleles[:j] = 0
    return at
