"""Who counts how: men have one copy of X where women have two, and cases are held against controls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.cohort.config import CohortConfig
from biolmm.cohort.traits import select_traits, trait_matrix
from biolmm.contigs import Ploidy
from biolmm.errors import TraitError
from biolmm.files.tables import index_by_sample, source_name
from biolmm.genotypes.kernels import count_masked, pack_masks

MALE, FEMALE = 1, 2
DIPLOID, HAPLOID, TESTED, FIRST, SECOND, MALES, FEMALES = range(7)
"""Roles of samples in counts of a variant: with two copies of the place, with one, in the test of Hardy–Weinberg
proportions, cases and controls, men and women."""
N_ROLES = 7


@dataclass(frozen=True, eq=False)
class Role:
    """The samples of one role at places of one ploidy."""

    mask: NDArray[np.uint64]
    """(W,) two set bits a sample."""
    n: int


@dataclass(frozen=True, eq=False)
class Groups:
    """Roles of the samples by ploidy, see `biolmm.contigs.Ploidy`.

    Attributes
    ----------
    n_samples
        All samples of the genotypes.
    kept
        (N,) Samples that are looked at.
    roles
        By ploidy and role.
    """

    n_samples: int
    kept: NDArray[np.bool_]
    roles: tuple[tuple[Role, ...], ...]

    def sizes(self, ploidy: int) -> list[int]:
        """Count the samples of each role."""
        return [role.n for role in self.roles[ploidy]]

    def sum_of(self, ploidy: int) -> NDArray[np.uint8]:
        """Say for each sample whether its copies count as diploid (0), haploid (1) or not at all (2); (N,)."""
        which = np.full(self.n_samples, 2, np.uint8)
        for role in (HAPLOID, DIPLOID):
            bits = np.unpackbits(self.roles[ploidy][role].mask.view(np.uint8), bitorder="little")
            which[bits[::2][: self.n_samples] == 1] = 0 if role == DIPLOID else 1
        return which

    def count(self, rows: NDArray[np.uint8], ploidy: int) -> NDArray[np.int64]:
        """Count packed rows of variants of one ploidy: (b, roles, 4) ALT copies 0, 1, 2 and missing."""
        roles = self.roles[ploidy]
        counts = np.zeros((len(rows), N_ROLES, 4), np.int64)
        same = roles[TESTED].n == roles[DIPLOID].n  # a subset of the same size is the same
        counted = [i for i, role in enumerate(roles) if role.n and not (same and i == TESTED)]
        if counted and len(rows):
            counts[:, counted, 1:] = count_masked(rows, np.stack([roles[i].mask for i in counted]))
        if same:
            counts[:, TESTED] = counts[:, DIPLOID]
        counts[:, :, 0] = np.array(self.sizes(ploidy)) - counts[:, :, 1:].sum(axis=2)
        return counts


def make_groups(sex: NDArray[np.int8], kept: NDArray[np.bool_], cases: NDArray[np.int8] | None, by_sex: bool) -> Groups:
    """Give every sample its roles.

    On X and Y a sample of unknown sex counts as a woman, as in PLINK; in the test of Hardy–Weinberg proportions on X only
    those known to be women do.

    Parameters
    ----------
    sex
        (N,) 0 unknown, 1 male, 2 female.
    kept
        (N,) Samples that are looked at.
    cases
        (N,) 1 case, 0 control, -1 neither; None compares nothing.
    by_sex
        Whether missingness of men and women is compared.
    """
    male, female, nobody = kept & (sex == MALE), kept & (sex == FEMALE), np.zeros(len(sex), np.bool_)
    first, second = (nobody, nobody) if cases is None else (kept & (cases == 1), kept & (cases == 0))
    sexes = (male, female) if by_sex else (nobody, nobody)
    masks = {
        Ploidy.DIPLOID: (kept, nobody, kept, first, second, *sexes),
        Ploidy.X: (kept & ~male, male, female, first, second, *sexes),
        Ploidy.Y: (nobody, male, nobody, first & male, second & male, nobody, nobody),
        Ploidy.HAPLOID: (nobody, kept, nobody, first, second, *sexes),
    }
    roles = tuple(
        tuple(Role(bits, int(mask.sum())) for bits, mask in zip(pack_masks(np.stack(of)), of, strict=True))
        for of in (masks[ploidy] for ploidy in Ploidy)
    )
    return Groups(len(sex), kept, roles)


def read_cases(traits: pd.DataFrame, name: str | None, sample_id: NDArray[np.str_]) -> tuple[str, NDArray[np.int8]]:
    """Find cases and controls: of the two values of a trait the larger one is a case (0/1 or 1/2 will do).

    Parameters
    ----------
    traits
        One row a sample, as `read_table` gives it.
    name
        The trait; None where the table has one only.
    sample_id
        Samples of the genotypes, by whose ids the table is matched.

    Returns
    -------
    Name of the trait, and (N,) 1 case, 0 control, -1 neither.

    Raises
    ------
    TraitError
        When the trait is unknown, or has not exactly two values among the samples.
    """
    source = source_name(traits, "the trait table")
    table = index_by_sample(traits, source)
    names = select_traits(table, CohortConfig(trait_names=None if name is None else (name,)), source)
    if len(names) != 1:
        raise TraitError(f"{source} has {len(names)} traits: name the one that tells cases from controls.")
    here = table.reindex(sample_id.tolist())
    values = trait_matrix(here, names, source)[:, 0]
    levels = np.unique(values[~np.isnan(values)])
    if len(levels) != 2:
        raise TraitError(
            f"Trait '{names[0]}' in {source} has {len(levels):,} different values, but cases and controls are two: "
            "name a trait with the values 0 and 1 (or 1 and 2), NA where missing."
        )
    return names[0], np.where(np.isnan(values), -1, values == levels[1]).astype(np.int8)
