"""Traits and LD scores side by side: the same variants in the order of the genome, effects of the same alleles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from biolmm.chunks import map_tasks
from biolmm.errors import VariantMismatchError, named
from biolmm.files.ldscore_files import LdScoreTable
from biolmm.sumstats.ldsc.munge import OTHER_ALLELE, TraitStatistics, allele_codes, are_snps, relative_sign
from biolmm.sumstats.ldsc.regression import LEAST_VARIANTS, RegressionData

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

FEW_VARIANTS = 200_000
"""Fewer are flagged: LDSC's own advice."""


@dataclass(frozen=True, eq=False)
class Joined:
    """T traits at the variants of the LD scores.

    Attributes
    ----------
    names
        Of the traits.
    Z, N
        (T, n); NaN and 1 where a trait does not have a variant.
    scores
        (n, c) LD scores in the annotations.
    w_ld
        (n,) LD scores with the variants of the regression.
    m
        (c,) variants of each annotation.
    annotations
        Their names.
    mismatched
        (T,) variants left out of a trait for its alleles.
    flags
        (T) what looks wrong with each trait.
    """

    names: tuple[str, ...]
    Z: Matrix
    N: Matrix
    scores: Matrix
    w_ld: Vector
    m: Vector
    annotations: tuple[str, ...]
    mismatched: tuple[int, ...]
    flags: tuple[tuple[str, ...], ...]

    @property
    def problem(self) -> RegressionData:
        """The regression on the sum of all annotations."""
        return RegressionData(self.Z, self.N, self.scores.sum(axis=1), self.w_ld, float(self.m.sum()))


def join(
    traits: Sequence[TraitStatistics],
    ld: LdScoreTable,
    weights: LdScoreTable | None = None,
    *,
    common: bool = True,
    alleles: bool = False,
) -> Joined:
    """Put traits beside the LD scores, by identifier.

    Parameters
    ----------
    traits
        Munged.
    ld
        Of all variants of the reference.
    weights
        LD scores with the variants of the regression; those of `ld` by default.
    common
        M counts variants of a frequency above 5 %, as the scores of published files expect, or all.
    alleles
        Make effects those of one allele in all traits, and leave out those that have others, palindromic ones too.

    Raises
    ------
    VariantMismatchError
        When a trait shares too few variants with the LD scores.
    InputFileError
        When there is no number of variants.
    """
    m = ld.counts(common=common)
    w_ld = ld.scores.sum(axis=1)
    if weights is not None:
        at = pc.index_in(ld.snp, weights.snp)
        there = at.is_valid().to_numpy(zero_copy_only=False)
        w_ld = weights.scores.sum(axis=1)[pc.fill_null(at, 0).to_numpy(zero_copy_only=False)[there]]
        ld = ld.take(np.flatnonzero(there))
    n = len(ld)
    Z, N = np.full((len(traits), n), np.nan), np.ones((len(traits), n))
    reference = _reference(ld)
    mismatched = []
    places = map_tasks(_places, [trait.snp for trait in traits], ld.snp)
    for t, (trait, (rows, mine)) in enumerate(zip(traits, places, strict=True)):
        z = trait.z[mine].copy()
        if alleles:
            z *= _signs(trait.alleles[mine], reference, rows)
        Z[t, rows], N[t, rows] = z, trait.n[mine]
        mismatched.append(int(np.count_nonzero(np.isnan(z))))
        found = len(rows) - mismatched[-1]
        if found < LEAST_VARIANTS:
            raise VariantMismatchError(
                f"{trait.source} ({trait.name}) and the LD scores '{ld.source}' share {found:,} variants "
                f"({mismatched[-1]:,} more have other alleles), but {LEAST_VARIANTS} are needed: identifiers are "
                f"{named(trait.snp[:2].to_pylist())} there and {named(ld.snp[:2].to_pylist())} in the LD scores."
            )
    used = ~np.isnan(Z).all(axis=0)
    flags = tuple(_flags(trait, int(np.count_nonzero(~np.isnan(z)))) for trait, z in zip(traits, Z, strict=True))
    return Joined(tuple(trait.name for trait in traits), np.ascontiguousarray(Z[:, used]), np.ascontiguousarray(N[:, used]),
                  ld.scores[used], w_ld[used], m, ld.names, tuple(mismatched), flags)  # fmt: skip


def _places(snp: pa.Array, wanted: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which of the wanted identifiers are there, and where."""
    if snp.equals(wanted):
        return np.arange(len(snp)), np.arange(len(snp))
    at = pc.index_in(wanted, snp)
    rows = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
    return rows, pc.fill_null(at, 0).to_numpy(zero_copy_only=False)[rows].astype(np.int64)


def _reference(ld: LdScoreTable) -> NDArray[np.int8]:
    """Give the alleles of the LD scores, unknown ones where there are none."""
    if ld.alleles is None:
        return np.full((len(ld), 2), OTHER_ALLELE, np.int8)
    return np.column_stack([allele_codes(column) for column in ld.alleles])


def _signs(alleles: NDArray[np.int8], reference: NDArray[np.int8], rows: NDArray[np.int64]) -> Vector:
    """Say how effects turn to be of the reference's alleles; NaN for other alleles. The first trait with a variant sets them."""
    unknown = (reference[rows] == OTHER_ALLELE).all(axis=1) & are_snps(alleles)
    reference[rows[unknown]] = alleles[unknown]
    sign = relative_sign(alleles, reference[rows])
    return np.where(sign == 0, np.nan, sign)


def _flags(trait: TraitStatistics, n: int) -> tuple[str, ...]:
    few = (f"{n:,} variants, fewer than {FEW_VARIANTS:,}",) if n < FEW_VARIANTS else ()
    return (*trait.flags, *few)
