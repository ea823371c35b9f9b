"""The common case of BGEN genotypes, fast: two alleles, all samples diploid, not phased, 8 or 16 bits a probability.

With P(0 copies) = a / top and P(1 copy) = b / top, top = 255 or 65,535, the dosage is d = num / top with
num = 2 · top − 2a − b, and E[g²] = 2d − b / top. The loops are written so that a compiler does many samples at a time: over
slices from 0 on, in whole numbers of 32 bits, without a branch or a division; quotients are by

    ⌊y / 255⌋ = ⌊(y + 1 + ⌊y / 2⁸⌋) / 2⁸⌋ for y < 2¹⁶     and     ⌊y / 65,535⌋ = ⌊(y + 1 + ⌊y / 2¹⁶⌋) / 2¹⁶⌋ for y < 2³²

so that every code is the one that is nearest, as `biolmm/files/bgen_decode.py` defines it.
"""

from __future__ import annotations

import numba
import numpy as np

_U = np.uint32
_RUN = 4096
"""Samples at a time: their numerators stay in the nearest cache, and their sums fit 32 bits (8-bit ones squared too)."""
_GONE = 0xFFFFFFFF
"""Numerator of a missing sample."""


@numba.njit(nogil=True, cache=True)
def decode_diploid(ploidy, values, n_bits, steps, missing, out, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Decode the probabilities of a variant; gives the first sample whose two add up to more than 1, or −1.

    `ploidy` is (N,), its highest bit set where a sample is missing; `values` holds two probabilities a sample.
    """
    n_bytes = n_bits // 8
    top = (1 << n_bits) - 1
    num = np.empty(_RUN, np.uint32)
    total_b, total_d, total_dd = np.int64(0), np.int64(0), 0.0
    for begin in range(0, len(out), _RUN):
        part = out[begin : begin + _RUN]
        nums, flags = num[: len(part)], ploidy[begin : begin + _RUN]
        stored = values[2 * n_bytes * begin : 2 * n_bytes * (begin + _RUN)]
        if n_bits == 8:
            worst, part_b, part_d, part_dd = _numerators_8(flags, stored, nums)
            _encode_8(nums, steps, missing, part)
        else:
            worst, part_b, part_d, part_dd = _numerators_16(flags, stored, nums)
            _encode_16(nums, steps, missing, part)
        if worst > top:
            return begin + _first_above(flags, stored, n_bytes, top)
        total_b += part_b
        total_d += part_d
        total_dd += part_dd
    sums[0], sums[1] = (2 * total_d - total_b) / top, np.nan
    sums[2], sums[3] = total_d / top, total_dd / (float(top) * float(top))
    sums[4], sums[5] = 0.0, 0.0  # of haploid samples, of which there are none
    return -1


@numba.njit(nogil=True, cache=True)
def _numerators_8(flags, stored, nums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Compute numerators from bytes; with the largest a + b and the sums of b, num and num²."""
    worst, total_b, total_d, total_dd = _U(0), _U(0), _U(0), _U(0)
    for i in range(len(nums)):
        keep = _U(1) - _U(flags[i] >> np.uint8(7))
        a, b = _U(stored[2 * i]) * keep, _U(stored[2 * i + 1]) * keep
        num = keep * _U(510) - _U(2) * a - b
        worst = max(worst, a + b)
        total_b += b
        total_d += num
        total_dd += num * num
        nums[i] = num | (keep - _U(1))
    return worst, np.int64(total_b), np.int64(total_d), float(total_dd)


@numba.njit(nogil=True, cache=True)
def _numerators_16(flags, stored, nums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Compute numerators from pairs of bytes, as `_numerators_8`."""
    worst, total_b, total_d, total_dd = _U(0), _U(0), _U(0), np.uint64(0)
    for i in range(len(nums)):
        keep = _U(1) - _U(flags[i] >> np.uint8(7))
        a = (_U(stored[4 * i]) | _U(stored[4 * i + 1]) << _U(8)) * keep
        b = (_U(stored[4 * i + 2]) | _U(stored[4 * i + 3]) << _U(8)) * keep
        num = keep * _U(131_070) - _U(2) * a - b
        worst = max(worst, a + b)
        total_b += b
        total_d += num
        total_dd += np.uint64(num) * np.uint64(num)
        nums[i] = num | (keep - _U(1))
    return worst, np.int64(total_b), np.int64(total_d), float(total_dd)


@numba.njit(nogil=True, cache=True)
def _encode_8(nums, steps, missing, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Round numerators over 255 to codes; a 16-bit code is 128 · num, without rounding."""
    gone = _U(missing)
    if steps == 32_640:
        for i in range(len(nums)):
            num = nums[i]
            out[i] = gone if num == _U(_GONE) else num << _U(7)
    elif steps == 127:
        for i in range(len(nums)):
            num = nums[i]
            y = num * _U(127) + _U(127)
            out[i] = gone if num == _U(_GONE) else (y + _U(1) + (y >> _U(8))) >> _U(8)
    else:
        for i in range(len(nums)):
            num = nums[i]
            y = num + _U(127)
            code = (y + _U(1) + (y >> _U(8))) >> _U(8)
            off = max(num, code * _U(255)) - min(num, code * _U(255))
            out[i] = gone if (num == _U(_GONE)) | (_U(10) * off > _U(255)) else code


@numba.njit(nogil=True, cache=True)
def _encode_16(nums, steps, missing, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Round numerators over 65,535 to codes; a 16-bit code is 128 · num / 257, which is never half-way between two.

    The quotient by 257 is guessed as ⌊255 z / 2¹⁶⌋, which is right or one too few for z < 2²⁴.
    """
    gone = _U(missing)
    if steps == 32_640:
        for i in range(len(nums)):
            num = nums[i]
            z = num * _U(128) + _U(128)
            guess = (z * _U(255)) >> _U(16)
            code = guess + (_U(1) if z - guess * _U(257) >= _U(257) else _U(0))
            out[i] = gone if num == _U(_GONE) else code
    elif steps == 127:
        for i in range(len(nums)):
            num = nums[i]
            y = num * _U(127) + _U(32_767)
            out[i] = gone if num == _U(_GONE) else (y + _U(1) + (y >> _U(16))) >> _U(16)
    else:
        for i in range(len(nums)):
            num = nums[i]
            y = num + _U(32_767)
            code = (y + _U(1) + (y >> _U(16))) >> _U(16)
            off = max(num, code * _U(65_535)) - min(num, code * _U(65_535))
            out[i] = gone if (num == _U(_GONE)) | (_U(10) * off > _U(65_535)) else code


@numba.njit(nogil=True, cache=True)
def _first_above(flags, stored, n_bytes, top):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Find the first sample with a genotype whose two probabilities add up to more than `top`."""
    for i in range(len(flags)):
        total = np.int64(0)
        for k in range(2):
            at = n_bytes * (2 * i + k)
            for j in range(n_bytes):
                total += np.int64(stored[at + j]) << 8 * j
        if total > top and not flags[i] >> np.uint8(7):
            return i
    return len(flags)
