"""The one pass over the genotypes: a row of numbers a variant, and counters a sample that add up over variants.

Every sum over variants is one of integers, so neither chunks nor workers nor their order change a bit of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import sum_tasks
from biolmm.contigs import Ploidy
from biolmm.files.encoding import Rows
from biolmm.hwe import hwe_exact_p
from biolmm.qc.fisher import missing_p
from biolmm.qc.groups import DIPLOID, FEMALES, FIRST, HAPLOID, MALES, SECOND, TESTED, Groups
from biolmm.qc.kernels import count_sample_hets, count_sample_missing, count_singletons, split_dosages
from biolmm.store.data import GenotypeData

MAX_TASKS = 96
"""The pass is cut into about so many tasks, each with its own counters of the samples."""

COUNTERS = 4 + 4 + 2 + 1
"""Counters of a sample, 4 bytes each: missing and heterozygous by ploidy, uncalled on autosomes and X, singletons."""

STEPS = 2.0**38
"""Expected heterozygosities are added up as whole multiples of 1/STEPS: exact for 3·10⁷ variants."""

Columns = dict[str, NDArray[Any]]


@dataclass(eq=False)
class Tally:
    """What was counted over some variants; adding another one's puts that one's variants behind.

    Attributes
    ----------
    variants
        Columns of each run of variants, in order.
    missing, het
        (4, N) genotypes of each sample that are missing and heterozygous, by `Ploidy`.
    uncalled
        (2, N) places of autosomes and X without a hard call.
    singletons
        (1, N) alleles of autosomes that this sample alone has, once.
    expected_missing
        (2, N) Expected heterozygosity, in 1/STEPS, of the places without a hard call.
    expected
        (2, 2) Σ e and Σ e(1−e) over the variants of autosomes and X, in 1/STEPS.
    """

    variants: list[Columns]
    missing: NDArray[np.int32]
    het: NDArray[np.int32]
    uncalled: NDArray[np.int32]
    singletons: NDArray[np.int32]
    expected_missing: NDArray[np.int64]
    expected: NDArray[np.int64]

    @classmethod
    def empty(cls, n_padded: int) -> Tally:
        """Begin with nothing counted."""
        missing, het, uncalled, singletons = (np.zeros((rows, n_padded), np.int32) for rows in (4, 4, 2, 1))
        sums = np.zeros((2, n_padded), np.int64)
        return cls([], missing, het, uncalled, singletons, sums, np.zeros((2, 2), np.int64))

    def __iadd__(self, other: Tally) -> Tally:
        self.variants += other.variants
        for name in ("missing", "het", "uncalled", "singletons", "expected_missing", "expected"):
            mine = getattr(self, name)
            mine += getattr(other, name)
        return self

    def column(self, name: str) -> NDArray[Any]:
        """Put a column of all variants together."""
        return np.concatenate([columns[name] for columns in self.variants])


@dataclass(frozen=True, eq=False)
class Part:
    """Consecutive chunks, the work of one task, and the ploidy of their variants."""

    chunks: range
    ploidy: NDArray[np.uint8]


def tally_genotypes(data: GenotypeData, groups: Groups, ploidy: NDArray[np.uint8]) -> Tally:
    """Count everything in one pass.

    Parameters
    ----------
    data
        The genotypes.
    groups
        Roles of the samples.
    ploidy
        (M,) `Ploidy` of each variant.

    Notes
    -----
    **Cost**: reads every chunk once; about 10⁹ hard calls or dosages per second and core.
    """
    return sum_tasks(_tally_part, cut_parts(data, ploidy), (data, groups))


def cut_parts(data: GenotypeData, ploidy: NDArray[np.uint8]) -> list[Part]:
    """Cut the chunks into tasks; where depends on the data alone."""
    n_chunks = -(-data.n_variants // data.chunk_variants)
    step = -(-n_chunks // MAX_TASKS)
    parts = []
    for first in range(0, n_chunks, step):
        chunks = range(first, min(first + step, n_chunks))
        variants = slice(data.chunk_range(chunks[0])[0], data.chunk_range(chunks[-1])[1])
        parts.append(Part(chunks, ploidy[variants]))
    return parts


def _tally_part(part: Part, shared: tuple[GenotypeData, Groups]) -> Tally:
    data, groups = shared
    tally = Tally.empty(32 * groups.roles[0][0].mask.shape[-1])
    first = data.chunk_range(part.chunks[0])[0]
    for chunk in part.chunks:
        start, stop = data.chunk_range(chunk)
        rows, ploidy = data.read_rows(chunk), part.ploidy[start - first : stop - first]
        columns: Columns = {}
        for kind in np.unique(ploidy).tolist():
            chosen = np.flatnonzero(ploidy == kind)
            found = _tally_rows(rows if len(chosen) == len(rows) else rows[chosen], kind, data, groups, tally)
            for name, values in found.items():
                columns.setdefault(name, np.empty(len(rows), values.dtype))[chosen] = values
        tally.variants.append(columns | _quality(data, start, stop))
    return tally


def _quality(data: GenotypeData, start: int, stop: int) -> Columns:
    quality = data.read_quality(np.arange(start, stop))
    nothing = np.full(stop - start, np.nan, np.float32)
    return {"info": nothing if quality is None else quality.info, "r2": nothing if quality is None else quality.r2}


def _tally_rows(rows: Rows, kind: int, data: GenotypeData, groups: Groups, tally: Tally) -> Columns:
    """Count variants of one ploidy, and add to the counters of the samples."""
    if data.encoding.is_dosage:
        calls, presence, sums = split_dosages(rows, data.encoding, groups.sum_of(kind))
        counts, absent = groups.count(calls, kind), groups.count(presence, kind)[:, :, 3]
    else:
        calls = presence = np.ascontiguousarray(rows)
        counts = groups.count(calls, kind)
        absent = counts[:, :, 3]
        sums = (counts[:, [DIPLOID, HAPLOID], 1] + 2 * counts[:, [DIPLOID, HAPLOID], 2]).astype(np.float64)
    _tally_samples(calls, presence, counts, kind, groups, tally)
    return _variant_columns(counts, absent, sums, groups.sizes(kind))


def _variant_columns(
    counts: NDArray[np.int64], absent: NDArray[np.int64], sums: NDArray[np.float64], sizes: Sequence[int]
) -> Columns:
    """Work out the numbers of variants: a haploid's 0 and 2 copies are 0 and 1 alleles, its 1 is half of one."""
    diploid, haploid = counts[:, DIPLOID], counts[:, HAPLOID]
    n_missing = absent[:, DIPLOID] + absent[:, HAPLOID]
    alleles = 2 * (sizes[DIPLOID] - absent[:, DIPLOID]) + sizes[HAPLOID] - absent[:, HAPLOID]
    alt = sums[:, 0] + sums[:, 1] / 2
    tested = counts[:, TESTED]
    n = sizes[DIPLOID] + sizes[HAPLOID]
    return {
        "n": np.full(len(counts), n, np.int32),
        "n_missing": n_missing.astype(np.int32),
        "n_hom_ref": diploid[:, 0].astype(np.int32),
        "n_het": diploid[:, 1].astype(np.int32),
        "n_hom_alt": diploid[:, 2].astype(np.int32),
        "n_hap_ref": haploid[:, 0].astype(np.int32),
        "n_hap_het": haploid[:, 1].astype(np.int32),
        "n_hap_alt": haploid[:, 2].astype(np.int32),
        "frequency": np.divide(alt, alleles, out=np.full(len(alt), np.nan), where=alleles > 0),
        "mac": np.where(alleles > 0, np.minimum(alt, alleles - alt), np.nan),
        "hwe_p": hwe_exact_p(tested[:, 0], tested[:, 1], tested[:, 2]),
        "missing_p_cases": missing_p(absent[:, [FIRST, SECOND]], (sizes[FIRST], sizes[SECOND])),
        "missing_p_sexes": missing_p(absent[:, [MALES, FEMALES]], (sizes[MALES], sizes[FEMALES])),
    }


def _tally_samples(
    calls: NDArray[np.uint8],
    presence: NDArray[np.uint8],
    counts: NDArray[np.int64],
    kind: int,
    groups: Groups,
    tally: Tally,
) -> None:
    """Add variants of one ploidy to the counters of the samples."""
    words = calls.view(np.uint64)
    count_sample_hets(words, tally.het[kind])
    if kind not in (Ploidy.DIPLOID, Ploidy.X):
        expected = np.zeros(len(calls), np.int64)
        count_sample_missing(presence.view(np.uint64), expected, tally.missing[kind], tally.expected_missing[0])
        return
    share = expected_heterozygosity(counts)
    expected = np.rint(share * STEPS).astype(np.int64)
    tally.expected[kind] += expected.sum(), np.rint(share * (1 - share) * STEPS).astype(np.int64).sum()
    count_sample_missing(words, expected, tally.uncalled[kind], tally.expected_missing[kind])
    if presence is not calls:
        nothing = np.zeros(len(calls), np.int64)
        count_sample_missing(presence.view(np.uint64), nothing, tally.missing[kind], tally.expected_missing[kind])
    else:
        tally.missing[kind] = tally.uncalled[kind]
    if kind == Ploidy.DIPLOID:
        of = counts[:, DIPLOID]
        single = (of[:, 1] == 1) & (np.minimum(of[:, 0], of[:, 2]) == 0)
        count_singletons(words, groups.roles[kind][DIPLOID].mask, single, tally.singletons[0])


def expected_heterozygosity(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the probability that two different alleles of those called differ: 2p(1−p) · n/(n − 1).

    Nei's unbiased estimate, as PLINK's `--het small-sample`; 0 where fewer than two alleles are called.

    Parameters
    ----------
    counts
        (b, roles, 4) from `Groups.count`.

    Examples
    --------
    >>> counts = np.zeros((1, 7, 4), np.int64)
    >>> counts[0, DIPLOID] = 0, 2, 0, 0
    >>> expected_heterozygosity(counts).round(12).tolist()
    [0.666666666667]
    """
    diploid, haploid = counts[:, DIPLOID], counts[:, HAPLOID]
    alleles = 2.0 * diploid[:, :3].sum(axis=1) + haploid[:, :3].sum(axis=1)
    alt = diploid[:, 1] + 2.0 * diploid[:, 2] + haploid[:, 1] / 2 + haploid[:, 2]
    p = alt / np.maximum(alleles, 1.0)
    return np.where(alleles > 1, 2 * p * (1 - p) * alleles / np.maximum(alleles - 1, 1.0), 0.0)
