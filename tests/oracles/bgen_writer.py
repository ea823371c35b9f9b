"""A BGEN writer for tests, from the specification, one bit and one sample at a time; and what its rows should be.

Probabilities are given as the whole numbers that are stored, so that nothing is rounded on the way.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations_with_replacement
from math import comb
from pathlib import Path

import zstandard

Values = tuple[int, ...]


@dataclass(frozen=True)
class Variant:
    """One variant; `samples` holds what is stored of each sample, and `missing` and `ploidy` go with it.

    Layout 2, unphased: numbers of all genotypes in colexicographic order, which add up to 2ᴮ − 1. Phased: of all alleles of
    the first haplotype, then of the second and so on. Layout 1: the three 16-bit numbers.
    """

    samples: tuple[Values, ...]
    ploidy: tuple[int, ...]
    missing: tuple[bool, ...]
    bits: int = 8
    phased: bool = False
    alleles: tuple[str, ...] = ("A", "G")
    rsid: str = "rs1"
    other_id: str = "1:1_A_G"
    contig: str = "01"
    position: int = 1


@dataclass(frozen=True)
class Options:
    """How a file is written."""

    layout: int = 2
    compression: str = "zlib"
    sample_ids: tuple[str, ...] | None = None
    free_data: bytes = b""
    zstd_size: bool = True


def genotypes(ploidy: int, n_alleles: int) -> list[Values]:
    """List all genotypes as sorted alleles, in colexicographic order of their counts."""
    every = combinations_with_replacement(range(n_alleles), ploidy)
    return sorted(every, key=lambda alleles: [alleles.count(k) for k in reversed(range(n_alleles))])


def text(value: str, width: str) -> bytes:
    """Encode text after its length."""
    raw = value.encode()
    return struct.pack(width, len(raw)) + raw


def packed_bits(values: Sequence[int], bits: int) -> bytes:
    """Put numbers after one another, the lowest bit first."""
    digits = "".join(f"{value:0{bits}b}" for value in reversed(values))
    return int(digits or "0", 2).to_bytes(-(-len(digits) // 8), "little")


def stored(variant: Variant, i: int) -> list[int]:
    """Drop the last of every set of numbers that add up to 1; a missing sample stores zeros."""
    n_alleles = len(variant.alleles)
    each = n_alleles if variant.phased else comb(variant.ploidy[i] + n_alleles - 1, n_alleles - 1)
    sets = variant.ploidy[i] if variant.phased else 1
    if variant.missing[i]:
        return [0] * (sets * (each - 1))
    values = variant.samples[i]
    assert len(values) == sets * each
    return [value for k in range(sets) for value in values[k * each : (k + 1) * each - 1]]


def genotype_bytes(variant: Variant, layout: int) -> bytes:
    """Encode the genotypes of a variant, before compression."""
    if layout == 1:
        zero = (0, 0, 0)
        samples = zip(variant.samples, variant.missing, strict=True)
        return b"".join(struct.pack("<3H", *(zero if gone else values)) for values, gone in samples)
    n = len(variant.ploidy)
    head = struct.pack("<IHBB", n, len(variant.alleles), min(variant.ploidy), max(variant.ploidy))
    ploidy = bytes(z | 128 * gone for z, gone in zip(variant.ploidy, variant.missing, strict=True))
    values = [value for i in range(n) for value in stored(variant, i)]
    return head + ploidy + bytes([variant.phased, variant.bits]) + packed_bits(values, variant.bits)


def packed(data: bytes, options: Options) -> bytes:
    """Compress genotypes."""
    if options.compression == "zlib":
        return zlib.compress(data)
    if options.compression == "zstd":
        return zstandard.ZstdCompressor(write_content_size=options.zstd_size).compress(data)
    return data


def variant_bytes(variant: Variant, options: Options, data: bytes | None = None) -> bytes:
    """Encode a variant; `data` stands for its genotypes before compression."""
    head = struct.pack("<I", len(variant.ploidy)) if options.layout == 1 else b""
    head += text(variant.other_id, "<H") + text(variant.rsid, "<H") + text(variant.contig, "<H")
    head += struct.pack("<I", variant.position)
    if options.layout == 2:
        head += struct.pack("<H", len(variant.alleles))
    head += b"".join(text(allele, "<I") for allele in variant.alleles)
    data = genotype_bytes(variant, options.layout) if data is None else data
    body = packed(data, options)
    if options.compression == "none":
        return head + (struct.pack("<I", len(body)) if options.layout == 2 else b"") + body
    if options.layout == 1:
        return head + struct.pack("<I", len(body)) + body
    return head + struct.pack("<II", len(body) + 4, len(data)) + body


def write_bgen(
    path: Path, variants: Sequence[Variant], options: Options, replaced: Mapping[int, bytes] | None = None
) -> list[int]:
    """Write a file; gives where each variant begins, and where the last one ends.

    `replaced` are genotypes, before compression, that are written for those of some variants, right or wrong.
    """
    ids = b""
    flags = ("none", "zlib", "zstd").index(options.compression) | options.layout << 2
    n_samples = len(variants[0].ploidy)
    if options.sample_ids is not None:
        names = b"".join(text(name, "<H") for name in options.sample_ids)
        ids = struct.pack("<II", 8 + len(names), len(options.sample_ids)) + names
        flags |= 1 << 31
    header = struct.pack("<III4s", 20 + len(options.free_data), len(variants), n_samples, b"bgen")
    header += options.free_data + struct.pack("<I", flags)
    file = struct.pack("<I", len(header) + len(ids)) + header + ids
    offsets = [len(file)]
    for i, variant in enumerate(variants):
        file += variant_bytes(variant, options, (replaced or {}).get(i))
        offsets.append(len(file))
    path.write_bytes(file)
    return offsets


def write_bgi(bgen: Path, variants: Sequence[Variant], offsets: Sequence[int], metadata: bool = True) -> Path:
    """Write the index of a file as bgenix does."""
    path = bgen.with_name(bgen.name + ".bgi")
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE Variant (chromosome TEXT NOT NULL, position INT NOT NULL, rsid TEXT NOT NULL, number_of_alleles INT "
        "NOT NULL, allele1 TEXT NOT NULL, allele2 TEXT NULL, file_start_position INT NOT NULL, size_in_bytes INT NOT NULL, "
        "PRIMARY KEY (chromosome, position, rsid, allele1, allele2, file_start_position)) WITHOUT ROWID"
    )
    for v, start, end in zip(variants, offsets, offsets[1:], strict=False):
        values = (v.contig, v.position, v.rsid, len(v.alleles), v.alleles[0], v.alleles[1], start, end - start)
        connection.execute("INSERT INTO Variant VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    if metadata:
        connection.execute(
            "CREATE TABLE Metadata (filename TEXT NOT NULL, file_size INT NOT NULL, last_write_time INT NOT NULL, "
            "first_1000_bytes BLOB NOT NULL, index_creation_time INT NOT NULL)"
        )
        start = bgen.read_bytes()[:1000]
        connection.execute("INSERT INTO Metadata VALUES (?, ?, 0, ?, 0)", ("other/name.bgen", offsets[-1], start))
    connection.commit()
    connection.close()
    return path


@dataclass(frozen=True)
class Expected:
    """What one row should be, as exact fractions; None = missing."""

    dosages: tuple[Fraction | None, ...]
    expected_squares: Fraction
    haplotype_squares: Fraction | None
    haploid_count: int
    """−1 where the layout cannot say it."""
    haploid_dosage_sum: Fraction


def expected_row(variant: Variant, alt: int, layout: int = 2) -> Expected:
    """Work out the row of an allele by listing every genotype with its probability."""
    dosages: list[Fraction | None] = []
    squares = haplotypes = Fraction(0)
    for values, ploidy, gone in zip(variant.samples, variant.ploidy, variant.missing, strict=True):
        if gone or not ploidy:
            dosages.append(None)
            continue
        n_alleles, scale = len(variant.alleles), Fraction(2, ploidy)
        top = sum(values) if layout == 1 else 2**variant.bits - 1
        parts = [Fraction(value, top) for value in values]
        if variant.phased:
            h = [parts[k * n_alleles + alt] for k in range(ploidy)]
            haplotypes += scale * sum(x * x for x in h)
            chances: dict[int, Fraction] = {0: Fraction(1)}
            for x in h:  # copies of the allele on one haplotype after another
                chances = {
                    n: chances.get(n, Fraction(0)) * (1 - x) + chances.get(n - 1, Fraction(0)) * x
                    for n in range(len(chances) + 1)
                }
        else:
            chances = {}
            for genotype, p in zip(genotypes(ploidy, n_alleles), parts, strict=True):
                copies = genotype.count(alt)
                chances[copies] = chances.get(copies, Fraction(0)) + p
        dosages.append(scale * sum((n * p for n, p in chances.items()), Fraction(0)))
        squares += scale**2 * sum(n * n * p for n, p in chances.items())
    haploid = [d for d, z in zip(dosages, variant.ploidy, strict=True) if d is not None and z == 1]
    count = -1 if layout == 1 else len(haploid)
    return Expected(tuple(dosages), squares, haplotypes if variant.phased else None, count, sum(haploid, Fraction(0)))
