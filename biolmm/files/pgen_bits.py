"""Bits, numbers and lists of samples in the records of a `.pgen`, every number in them checked before it is used.

Written from the PLINK 2 file format specification (github.com/chrchang/plink-ng, pgen_spec), section "Variant records".

A function that reads takes the position `at` and the end of the record, and returns the position behind what it read or
minus one of the codes below; no byte outside the record is touched, and no sample outside the file.
"""

from __future__ import annotations

import numba
import numpy as np

ENDS, LEFT_OVER, SAMPLE_LIST, FORMAT, ALLELE, DOSAGE, PADDING = range(1, 8)

DAMAGE = {
    ENDS: "its record ends before its content",
    LEFT_OVER: "its record goes on behind its content",
    SAMPLE_LIST: "a list of samples in it is out of order or goes beyond the last sample",
    FORMAT: "it is stored in a way that the format does not define",
    ALLELE: "it has calls of an ALT allele that the variant file does not name",
    DOSAGE: "it has a dosage above two copies",
    PADDING: "bits behind its last sample are set",
}
"""What a failed check means for the variant."""

BITS = np.array([byte.bit_count() for byte in range(256)], np.uint8)
"""Bits that are set in a byte."""


@numba.njit(nogil=True, cache=True)
def _varint(data, at, end):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read a number of 7 bits a byte, at most 5 bytes; returns it and the position."""
    value = 0
    for k in range(5):
        if at >= end:
            return 0, -ENDS
        byte = int(data[at])
        at += 1
        value |= (byte & 127) << 7 * k
        if byte < 128:
            return value, at
    return 0, -SAMPLE_LIST


@numba.njit(nogil=True, cache=True)
def read_difflist(data, at, end, n_samples, has_values, ids, values):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read a list of increasing sample indices, with two bits for each where it has values; returns its length too."""
    count, at = _varint(data, at, end)
    if at < 0 or count == 0:
        return 0, at
    if count > n_samples:
        return 0, -SAMPLE_LIST
    n_groups = (count + 63) // 64
    id_bytes = 1 if n_samples <= 1 << 8 else 2 if n_samples <= 1 << 16 else 3 if n_samples <= 1 << 24 else 4
    heads, sizes = at, at + n_groups * id_bytes
    packed = sizes + n_groups - 1
    at = packed + ((count + 3) // 4 if has_values else 0)
    if at > end:
        return 0, -ENDS
    last = -1
    for group in range(n_groups):
        group_starts, sample = at, 0
        for k in range(id_bytes):
            sample |= int(data[heads + group * id_bytes + k]) << 8 * k
        if sample <= last or sample >= n_samples:
            return 0, -SAMPLE_LIST
        ids[64 * group] = sample
        for k in range(64 * group + 1, min(count, 64 * group + 64)):
            delta, at = _varint(data, at, end)
            if at < 0:
                return 0, at
            sample += delta
            if delta == 0 or sample >= n_samples:
                return 0, -SAMPLE_LIST
            ids[k] = sample
        if group + 1 < n_groups and at - group_starts != 63 + int(data[sizes + group]):
            return 0, -SAMPLE_LIST
        last = sample
    if has_values:
        for k in range(count):
            values[k] = data[packed + (k >> 2)] >> 2 * (k & 3) & 3
    return count, at


@numba.njit(nogil=True, cache=True)
def is_padded(packed, n, width):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether the bits behind the last of n values of `width` bits are zero, as the format defines."""
    used = n * width % 8
    return used == 0 or packed[-1] >> used == 0


@numba.njit(nogil=True, cache=True)
def read_bits(data, at, bit, width):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read `width` bits from bit `bit` behind `at`."""
    value = 0
    for k in range(width):
        value |= int(data[at + (bit + k >> 3)] >> (bit + k & 7) & 1) << k
    return value


@numba.njit(nogil=True, cache=True)
def count_bits(packed):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Count the bits that are set."""
    count = 0
    for byte in packed:
        count += BITS[byte]
    return count


@numba.njit(nogil=True, cache=True)
def set_call(geno, sample, call):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Set the two bits of a sample."""
    shift = 2 * (sample & 3)
    geno[sample >> 2] = (geno[sample >> 2] & ~(3 << shift)) | (int(call) << shift)


@numba.njit(nogil=True, cache=True)
def copy_bytes(source, target):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Copy to the start of `target`; numba's assignment of slices is five times slower."""
    for j in range(len(source)):
        target[j] = source[j]
