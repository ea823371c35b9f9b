"""What meta-analysis computes on: a block of variants × studies, effect alleles already aligned, NaN = not there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.tails import z_from_neg_log10_p

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StudyBlock:
    """Statistics of b variants in k studies, (b, k), NaN where a study lacks the variant or the number.

    Attributes
    ----------
    beta
        Effect of one copy of the effect allele, the same allele in all studies; where only its direction is known, its
        sign.
    se
        Standard error of `beta`, above 0.
    eaf
        Frequency of the effect allele.
    n
        Sample size, or another weight of the sample-size scheme.
    z
        Signed statistic, where known directly.
    neg_log10_p
        −log₁₀ of the two-sided p-value, where that is what is known.

    Raises
    ------
    ParameterError
        When shapes differ or a number is impossible: infinite, se or n not above 0, a frequency outside [0, 1], a
        negative −log₁₀ p.
    """

    beta: Matrix
    se: Matrix | None = None
    eaf: Matrix | None = None
    n: Matrix | None = None
    z: Matrix | None = None
    neg_log10_p: Matrix | None = None

    def __post_init__(self) -> None:
        """Bring all to double precision and check it."""
        beta = np.atleast_2d(np.asarray(self.beta, dtype=np.float64))
        for each in fields(self):
            given = getattr(self, each.name)
            if given is None:
                continue
            values = np.ascontiguousarray(np.atleast_2d(np.asarray(given, dtype=np.float64)))
            if values.shape != beta.shape or values.ndim != 2:
                raise ParameterError(
                    f"The block's {each.name} has shape {values.shape} but its beta {beta.shape}; give (variants, studies)."
                )
            _check_cells(each.name, values)
            object.__setattr__(self, each.name, values)

    @property
    def n_variants(self) -> int:
        """Count the variants."""
        return len(self.beta)

    @property
    def n_studies(self) -> int:
        """Count the studies."""
        return int(self.beta.shape[1])

    def effects(self, lambda_gc: ArrayLike | None = None) -> tuple[Matrix, Matrix]:
        """Give beta and se under genomic control of each study, se·√λ; both NaN where either is missing.

        Raises
        ------
        ParameterError
            When the block has no standard errors or the factors do not fit.
        """
        if self.se is None:
            raise ParameterError("The block has no standard errors, which this analysis needs; give se.")
        missing = np.isnan(self.beta) | np.isnan(self.se)
        se = self.se if lambda_gc is None else self.se * np.sqrt(check_lambdas(lambda_gc, self.n_studies))
        if not missing.any():
            return self.beta, se
        return np.where(missing, np.nan, self.beta), np.where(missing, np.nan, se)

    def z_scores(self) -> Matrix:
        """Give the signed statistic of each cell: `z`, else from `neg_log10_p` with beta's sign, else beta / se.

        A p-value makes |z| = −Φ⁻¹(p/2), at any p; the sign of a beta of zero is that of its zero, as in METAL.
        """
        out = self.beta / self.se if self.se is not None else np.full(self.beta.shape, np.nan)
        if self.neg_log10_p is not None:
            known = np.isfinite(self.neg_log10_p) & ~np.isnan(self.beta)
            out[known] = np.copysign(z_from_neg_log10_p(self.neg_log10_p[known]), self.beta[known])
        if self.z is not None:
            out = np.where(np.isnan(self.z), out, self.z)
        return np.asarray(out)

    def rows(self, chosen: slice | NDArray[np.int64] | NDArray[np.bool_]) -> StudyBlock:
        """Choose variants."""
        return StudyBlock(**{name: values[chosen] for name, values in self._arrays()})

    def studies(self, chosen: ArrayLike) -> StudyBlock:
        """Choose studies by number or mask, in the order given."""
        which = np.asarray(chosen)
        return StudyBlock(**{name: values[:, which] for name, values in self._arrays()})

    def _arrays(self) -> Iterator[tuple[str, Matrix]]:
        """List the arrays there are."""
        for each in fields(self):
            if (values := getattr(self, each.name)) is not None:
                yield each.name, values


def check_lambdas(lambda_gc: ArrayLike | None, n_studies: int) -> Vector:
    """Give one factor of genomic control a study, at least 1; None means no correction.

    Raises
    ------
    ParameterError
        When there are not as many as studies, or one is not a positive number.
    """
    if lambda_gc is None:
        return np.ones(n_studies)
    values = np.asarray(lambda_gc, dtype=np.float64)
    if values.shape not in ((), (n_studies,)):
        raise ParameterError(
            f"{values.size} factors of genomic control were given for {n_studies} studies; give one each."
        )
    if not np.all(values > 0) or not np.all(np.isfinite(values)):
        raise ParameterError(f"A factor of genomic control is {values.min()} but must be a number above 0.")
    return np.ascontiguousarray(np.broadcast_to(np.maximum(values, 1.0), (n_studies,)))


def missingness_patterns(present: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Group variants by the studies that have them: (numbers of the studies, rows of the block); empty ones left out."""
    packed = np.packbits(present, axis=1)
    _, first, inverse = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    sizes = np.bincount(inverse.ravel(), minlength=len(first))
    for end, size, row in zip(np.cumsum(sizes), sizes, first, strict=True):
        studies = np.flatnonzero(present[row])
        if studies.size:
            yield studies, order[end - size : end]


def _check_cells(name: str, values: Matrix) -> None:
    """Refuse numbers that cannot be."""
    low, high, words = {
        "se": (np.nextafter(0, 1), np.finfo(float).max, "a number above 0"),
        "n": (np.nextafter(0, 1), np.finfo(float).max, "a number above 0"),
        "eaf": (0.0, 1.0, "between 0 and 1"),
        "neg_log10_p": (0.0, np.finfo(float).max, "a number of at least 0"),
    }.get(name, (-np.finfo(float).max, np.finfo(float).max, "a number"))
    wrong = (values < low) | (values > high)
    if wrong.any():
        row, study = np.argwhere(wrong)[0]
        raise ParameterError(
            f"{name} is {values[row, study]} at variant {row} of study {study} (counted from 0) but must be {words}; "
            f"{int(wrong.sum()):,} such cells; leave out such records before meta-analysis."
        )
