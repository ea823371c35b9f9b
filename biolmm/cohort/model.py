"""The cohort: samples, traits and covariate bases, aligned once and for all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.cohort.basis import orthonormal_basis, standardise
from biolmm.cohort.transforms import residuals
from biolmm.errors import CovariateError, SampleMismatchError, TraitError, named

_IN_SPAN = 1e-6


@dataclass(frozen=True, eq=False)
class MaskClass:
    """Traits observed on the same samples, and the covariates there.

    Attributes
    ----------
    observed
        Which samples have the traits of this class, shape (n_samples,).
    basis
        Q: orthonormal columns spanning the intercept and the covariates restricted to the observed samples, zero on
        the others, shape (n_samples, n_covariates).
    dropped
        Covariates of the cohort that add nothing on these samples.
    """

    observed: NDArray[np.bool_]
    basis: NDArray[np.float64]
    dropped: tuple[str, ...] = ()

    @property
    def n_observed(self) -> int:
        """Samples that have the traits of this class."""
        return int(np.count_nonzero(self.observed))

    @property
    def n_covariates(self) -> int:
        """Columns of the basis, the intercept included."""
        return int(self.basis.shape[1])


@dataclass(frozen=True, eq=False, repr=False)
class Cohort:
    """Who is analysed, and with what; made by `align_cohort`.

    Attributes
    ----------
    sample_index
        Ascending positions in the store, shape (n_samples,).
    sample_id
        Their ids.
    trait_names, y
        Transformed traits, NaN where unobserved, shape (n_samples, n_traits).
    classes, class_of_trait
        One `MaskClass` a set of observed samples, and the class of each trait.
    covariate_names, covariates
        What is left of the covariates, categories expanded to `name=level`, mean 0 and variance 1 over the cohort,
        without intercept, shape (n_samples, n_covariates − 1).
    counts
        What was found, dropped and why; plain values that fit in a JSON file.
    """

    sample_index: NDArray[np.int64]
    sample_id: NDArray[np.str_]
    trait_names: tuple[str, ...]
    y: NDArray[np.float64]
    classes: tuple[MaskClass, ...]
    class_of_trait: NDArray[np.int64]
    covariate_names: tuple[str, ...]
    covariates: NDArray[np.float64]
    counts: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"Cohort(n_samples={self.n_samples}, n_traits={self.n_traits}, n_classes={len(self.classes)}, "
            f"covariates={list(self.covariate_names)})"
        )

    @property
    def n_samples(self) -> int:
        """Samples of the cohort, whether or not a trait is observed."""
        return len(self.sample_id)

    @property
    def n_traits(self) -> int:
        """Traits analysed."""
        return len(self.trait_names)

    def fingerprint(self) -> str:
        """Hash ids, traits and bases (BLAKE2b): the same text for the same content, whatever it was read from."""
        digest = hashlib.blake2b(digest_size=32)
        for array in (self.sample_index, self.y, self.class_of_trait, *(part.basis for part in self.classes)):
            digest.update(f"{array.shape}{array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).data)
        for names in (self.sample_id.tolist(), self.trait_names, self.covariate_names):
            digest.update("\0".join([*names, "", ""]).encode())
        for part in self.classes:
            digest.update(np.packbits(part.observed).data)
        return digest.hexdigest()

    def with_covariates(self, names: Sequence[str], matrix: NDArray[np.floating[Any]]) -> Cohort:
        """Append covariates, for example principal components, and rebuild the bases; traits stay as they are.

        Parameters
        ----------
        names
            Of the new columns.
        matrix
            Finite numbers in the order of `sample_id`, shape (n_samples, len(names)); any scale.

        Raises
        ------
        CovariateError
            When a name is taken or a value is not finite.
        SampleMismatchError
            When the matrix has not one row a sample and one column a name.
        TraitError
            When a trait is observed on too few samples for that many covariates, or has no variation left.
        """
        added = np.asarray(matrix, dtype=np.float64)
        if added.shape != (self.n_samples, len(names)):
            raise SampleMismatchError(
                f"Covariates of shape {added.shape} were given for {self.n_samples:,} samples and {len(names):,} "
                f"names: the shape must be ({self.n_samples}, {len(names)})."
            )
        taken = [name for name in names if name in self.covariate_names]
        if taken or len(set(names)) < len(names):
            raise CovariateError(f"Covariates {named(taken or names)} exist already: names must be unique.")
        infinite = [name for name, column in zip(names, added.T, strict=True) if not np.isfinite(column).all()]
        if infinite:
            raise CovariateError(
                f"Covariates {named(infinite)} hold NaN or infinite values: every sample needs a number."
            )
        kept_names, covariates, reasons = independent_covariates(
            (*self.covariate_names, *names), np.column_stack([self.covariates, added])
        )
        classes, class_of_trait = build_classes(self.y, kept_names, covariates)
        check_traits_left(self.trait_names, self.y, classes, class_of_trait)
        dropped = [{"name": name, "why": why} for name, why in reasons.items()]
        counts = {**self.counts, "dropped_covariates": [*self.counts.get("dropped_covariates", []), *dropped]}
        return replace(
            self, classes=classes, class_of_trait=class_of_trait, covariate_names=kept_names, covariates=covariates,
            counts=counts,
        )  # fmt: skip


def independent_covariates(
    names: tuple[str, ...], columns: NDArray[np.float64]
) -> tuple[tuple[str, ...], NDArray[np.float64], dict[str, str]]:
    """Standardise covariates and drop those that add nothing: names and columns kept, and why each other was not."""
    basis = orthonormal_basis(columns, names)
    kept = np.empty((columns.shape[0], len(basis.kept)), dtype=np.float64)
    for position, index in enumerate(basis.kept):
        kept[:, position] = standardise(columns[:, index])[0]
    reasons = {names[index]: why for index, why in basis.dropped.items()}
    return tuple(names[index] for index in basis.kept), kept, reasons


def build_classes(
    y: NDArray[np.float64], names: tuple[str, ...], covariates: NDArray[np.float64]
) -> tuple[tuple[MaskClass, ...], NDArray[np.int64]]:
    """Group traits by their observed samples, in order of first appearance; one basis a group.

    A class depends on its samples and on the covariates only, never on the other traits.
    """
    classes: list[MaskClass] = []
    known: dict[bytes, int] = {}
    class_of_trait = np.empty(y.shape[1], dtype=np.int64)
    for trait in range(y.shape[1]):
        observed = ~np.isnan(y[:, trait])
        key = np.packbits(observed).tobytes()
        if key not in known:
            known[key] = len(classes)
            classes.append(_mask_class(observed, names, covariates))
        class_of_trait[trait] = known[key]
    return tuple(classes), class_of_trait


def _mask_class(observed: NDArray[np.bool_], names: tuple[str, ...], covariates: NDArray[np.float64]) -> MaskClass:
    """Build one class: the basis of the observed rows, zero elsewhere."""
    part = orthonormal_basis(covariates[observed], names)
    basis = np.zeros((len(observed), part.Q.shape[1]), dtype=np.float64)
    basis[observed] = part.Q
    return MaskClass(observed, basis, tuple(names[index] for index in part.dropped))


def check_traits_left(
    trait_names: tuple[str, ...],
    y: NDArray[np.float64],
    classes: tuple[MaskClass, ...],
    class_of_trait: NDArray[np.int64],
) -> None:
    """Refuse traits on too few samples for the covariates, and traits that the covariates explain wholly.

    Raises
    ------
    TraitError
        Naming them.
    """
    few: list[str] = []
    explained: list[str] = []
    for name, values, index in zip(trait_names, y.T, class_of_trait, strict=True):
        part = classes[index]
        if part.n_observed < part.n_covariates + 2:
            few.append(f"'{name}' ({part.n_observed:,} observed, {part.n_covariates:,} covariates with the intercept)")
            continue
        observed = standardise(values[part.observed])[0]
        rest = residuals(observed, part.basis[part.observed])
        if np.linalg.norm(rest) <= _IN_SPAN * np.linalg.norm(observed):
            explained.append(f"'{name}'")
    if few:
        raise TraitError(
            f"Too few samples for the covariates: {named(few)}. At least two more samples than covariates are needed: "
            "use fewer covariates or leave the trait out."
        )
    if explained:
        raise TraitError(
            f"Nothing is left of {named(explained)} after the covariates: is the trait itself among them? "
            "Leave out the covariate or the trait."
        )
