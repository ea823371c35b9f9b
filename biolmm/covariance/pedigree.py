"""Relationship by pedigree: A, twice the kinship, as an operator of cost N.

`A = T D Tᵀ` with T the flow of genes from parents to children and D the Mendelian sampling variances, so that a product
is one sweep up the pedigree and one down (Henderson 1976; Quaas 1976; Colleau 2002, doi 10.1186/1297-9686-34-4-409). The
inbreeding that D depends on comes from Meuwissen & Luo 1992 (doi 10.1186/1297-9686-24-4-305).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError, SampleMismatchError, named
from biolmm.files.lines import read_lines

UNKNOWN = ("0", "", "NA", "na", ".", "-9")
_ROLES = {
    "iid": "child", "id": "child", "sample_id": "child", "father": "father", "pat": "father", "sire": "father",
    "father_id": "father", "mother": "mother", "mat": "mother", "dam": "mother", "mother_id": "mother",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pedigree:
    """Individuals, parents before children.

    Attributes
    ----------
    ids
        Names.
    father, mother
        (n,) positions of the parents, −1 where unknown.
    """

    ids: tuple[str, ...]
    father: NDArray[np.int64]
    mother: NDArray[np.int64]

    @classmethod
    def from_parents(cls, parents: dict[str, tuple[str, str]], source: str = "the pedigree") -> Pedigree:
        """Order individuals by generation; parents that are not listed themselves become founders.

        Parameters
        ----------
        parents
            Father and mother of each individual, `""` where unknown.
        source
            For messages.

        Raises
        ------
        InputFileError
            When somebody is their own ancestor.

        Examples
        --------
        >>> Pedigree.from_parents({"child": ("dad", "mum")}).ids
        ('dad', 'mum', 'child')
        """
        graph = {child: [each for each in known if each] for child, known in parents.items()}
        try:
            ids = tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise InputFileError(
                f"{source}: '{error.args[1][0]}' is their own ancestor ({' → '.join(error.args[1][:5])}): mend the parents."
            ) from None
        place = {name: i for i, name in enumerate(ids)}
        father, mother = (
            np.array([place.get(parents.get(name, ("", ""))[which], -1) for name in ids], np.int64) for which in (0, 1)
        )
        return cls(ids, father, mother)


@dataclass(frozen=True, eq=False)
class PedigreeKernel:
    """A among some individuals of a pedigree.

    Attributes
    ----------
    pedigree
        Everybody.
    rows
        (N,) the samples' positions in it.
    inbreeding
        (n,) F of everybody.
    """

    pedigree: Pedigree
    rows: NDArray[np.int64]
    inbreeding: NDArray[np.float64]

    @classmethod
    def among(cls, pedigree: Pedigree, sample_id: list[str]) -> PedigreeKernel:
        """Find the samples in the pedigree; those that are not there are unrelated to everybody.

        Raises
        ------
        SampleMismatchError
            When none is there.
        """
        place = {name: i for i, name in enumerate(pedigree.ids)}
        absent = [name for name in sample_id if name not in place]
        if len(absent) == len(sample_id):
            raise SampleMismatchError(
                f"None of the {len(sample_id):,} samples is in the pedigree of {len(pedigree.ids):,}: {named(absent, 2)} "
                f"there, {named(pedigree.ids, 2)} in the pedigree. The ids must be spelled alike in both."
            )
        place |= {name: len(pedigree.ids) + i for i, name in enumerate(absent)}
        founders = np.full(len(absent), -1, np.int64)
        whole = Pedigree(
            (*pedigree.ids, *absent),
            np.concatenate([pedigree.father, founders]),
            np.concatenate([pedigree.mother, founders]),
        )
        rows = np.array([place[name] for name in sample_id], np.int64)
        return cls(whole, rows, _inbreeding(whole.father, whole.mother))

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.rows)

    def product(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `A X`: 6 additions an individual and column."""
        flow = np.zeros((len(self.pedigree.ids), X.shape[1]))
        np.add.at(flow, self.rows, X)
        sampling = _mendelian(self.pedigree.father, self.pedigree.mother, self.inbreeding)
        _up_and_down(self.pedigree.father, self.pedigree.mother, sampling, flow)
        return flow[self.rows].astype(np.float32)

    def diagonal(self) -> NDArray[np.float64]:
        """Return 1 + F."""
        return np.asarray(1 + self.inbreeding[self.rows])

    def dense(self) -> NDArray[np.float64]:
        """Return A, from sweeps over the identity."""
        flow = np.zeros((len(self.pedigree.ids), len(self.rows)))
        np.add.at(flow, (self.rows, np.arange(len(self.rows))), 1.0)
        sampling = _mendelian(self.pedigree.father, self.pedigree.mother, self.inbreeding)
        _up_and_down(self.pedigree.father, self.pedigree.mother, sampling, flow)
        return np.asarray(flow[self.rows])


@numba.njit(nogil=True, cache=True)
def _mendelian(father, mother, inbreeding):  # type: ignore[no-untyped-def]
    """Return D: ½ − ¼ (F_father + F_mother), an unknown parent counting as F = −1."""
    out = np.empty(len(father))
    for i in range(len(father)):
        f = inbreeding[father[i]] if father[i] >= 0 else -1.0
        m = inbreeding[mother[i]] if mother[i] >= 0 else -1.0
        out[i] = 0.5 - 0.25 * (f + m)
    return out


@numba.njit(nogil=True, cache=True)
def _up_and_down(father, mother, sampling, flow):  # type: ignore[no-untyped-def]
    """Turn columns x into `T D Tᵀ x` in place."""
    n, r = flow.shape
    for i in range(n - 1, -1, -1):
        for parent in (father[i], mother[i]):
            if parent >= 0:
                for k in range(r):
                    flow[parent, k] += 0.5 * flow[i, k]
    for i in range(n):
        for k in range(r):
            flow[i, k] *= sampling[i]
        for parent in (father[i], mother[i]):
            if parent >= 0:
                for k in range(r):
                    flow[i, k] += 0.5 * flow[parent, k]


@numba.njit(nogil=True, cache=True)
def _inbreeding(father, mother):  # type: ignore[no-untyped-def]
    """Return F of everybody: Aᵢᵢ = Σ over ancestors j of (share of genes from j)² D_j, ancestors youngest first."""
    n = len(father)
    F = np.zeros(n)
    D = np.empty(n)
    share = np.zeros(n)
    for i in range(n):
        f = F[father[i]] if father[i] >= 0 else -1.0
        m = F[mother[i]] if mother[i] >= 0 else -1.0
        D[i] = 0.5 - 0.25 * (f + m)
        if father[i] < 0 or mother[i] < 0:
            continue  # an unknown parent is unrelated to the other
        share[i] = 1.0
        waiting = [-i]
        total = 0.0
        while len(waiting):
            j = -heapq.heappop(waiting)
            for parent in (father[j], mother[j]):
                if parent >= 0:
                    if share[parent] == 0.0:
                        heapq.heappush(waiting, -parent)
                    share[parent] += 0.5 * share[j]
            total += share[j] ** 2 * D[j]
            share[j] = 0.0
        F[i] = total - 1.0
    return F


def read_pedigree(path: Path) -> Pedigree:
    """Read a pedigree: a `.fam` file (FID IID father mother …), or a table with a header naming id, father and mother.

    Raises
    ------
    InputFileError
        When it cannot be read, lacks a column, or repeats an individual.
    """
    rows = [(number, line.split()) for number, line in read_lines(path) if not line.startswith("##")]
    if not rows:
        raise InputFileError(f"'{path}' is empty: give id, father and mother a line.")
    names = [name.lstrip("#").lower() for name in rows[0][1]]
    roles = {_ROLES[name]: field for field, name in enumerate(names) if name in _ROLES}
    if roles:
        rows = rows[1:]
    elif len(names) >= 4:
        roles = {"child": 1, "father": 2, "mother": 3}
    missing = [role for role in ("child", "father", "mother") if role not in roles]
    if missing:
        raise InputFileError(
            f"'{path}' has no column of {named(missing)}: its header is {named(names)}. Name them IID, father, mother."
        )
    parents: dict[str, tuple[str, str]] = {}
    for number, fields in rows:
        if len(fields) <= max(roles.values()):
            raise InputFileError(f"'{path}', line {number:,}: {len(fields)} fields instead of {len(names)}.")
        child = fields[roles["child"]]
        if child in parents:
            raise InputFileError(f"'{path}', line {number:,}: '{child}' is listed twice; keep one line an individual.")
        known = [fields[roles[role]] for role in ("father", "mother")]
        father, mother = ("" if each in UNKNOWN else each for each in known)
        parents[child] = (father, mother)
    return Pedigree.from_parents(parents, f"'{path}'")
