"""A set of mutually unrelated samples, as large as can be and spread over ancestries, from a table of related pairs.

The idea is PC-AiR's (Conomos, Miller & Thornton 2015, doi 10.1002/gepi.21896): components are computed on a set in which
nobody is related to anybody, and the others are projected; of two relatives the one stays who is of another ancestry
than most.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.errors import InputFileError, SampleMismatchError, named

THIRD_DEGREE = 2.0**-4.5
"""Kinship above which two people are relatives of the third degree or closer (0.0442; Manichaikul et al. 2010)."""
DIVERGENT = -(2.0**-5.5)
"""KING-robust kinship below which two people are of different ancestries (−0.0221)."""

_FIRST = ("sample_id_1", "iid1", "id1", "sample_1", "sample1", "#iid1")
_SECOND = ("sample_id_2", "iid2", "id2", "sample_2", "sample2")
_KINSHIP = ("kinship", "kin")


@dataclass(frozen=True)
class RelatedPairs:
    """Pairs of samples and their kinship.

    Attributes
    ----------
    first, second
        (p,) rows of the samples.
    kinship
        (p,) coefficients; 0.5 is a twin, 0.25 a parent, child or full sibling.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    kinship: NDArray[np.float64]


def read_relatives(path: Path, sample_id: Sequence[str]) -> RelatedPairs:
    """Read pairs from the table that `biolmm relatives`, PLINK 2 (`--make-king-table`) or KING (`--related`) writes.

    Parameters
    ----------
    path
        Text with a header, separated by tabs or spaces: the ids of the two samples (`sample_id_1 sample_id_2`,
        `IID1 IID2` or `ID1 ID2`) and `kinship`.
    sample_id
        Who is looked at; pairs with somebody else are passed over.

    Raises
    ------
    InputFileError
        When the file cannot be read, or lacks a column, or a kinship is not a number.
    SampleMismatchError
        When it has pairs and none of its ids is among the samples.
    """
    try:
        table = pd.read_csv(path, sep=r"\s+", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputFileError(
            f"'{path}' cannot be read as a table of relatives ({str(error).splitlines()[0]})."
        ) from None
    columns = {str(name).lower().lstrip("#"): name for name in table.columns}
    found = []
    for names, what in ((_FIRST, "the first sample's id"), (_SECOND, "the second sample's id"), (_KINSHIP, "kinship")):
        name = next((columns[name] for name in names if name in columns), None)
        if name is None:
            raise InputFileError(
                f"'{path}' has no column for {what}: expected one named {' or '.join(names[:3])}, found "
                f"{named(table.columns)}."
            )
        found.append(table[name])
    kinship = pd.to_numeric(found[2], errors="coerce").to_numpy(np.float64)
    if np.isnan(kinship).any():
        row = int(np.flatnonzero(np.isnan(kinship))[0])
        raise InputFileError(f"'{path}', line {row + 2:,}: kinship is '{found[2].iloc[row]}', which is not a number.")
    place = {name: i for i, name in enumerate(sample_id)}
    first, second = (np.array([place.get(name, -1) for name in ids], dtype=np.int64) for ids in found[:2])
    if len(table) and (first < 0).all() and (second < 0).all():
        raise SampleMismatchError(
            f"None of the samples of the {len(table):,} pairs in '{path}' is among the {len(place):,} samples in use: "
            f"'{found[0].iloc[0]}' there, '{sample_id[0]}' here. The ids (IID) must be spelled alike in both."
        )
    known = (first >= 0) & (second >= 0) & (first != second)
    return RelatedPairs(first[known], second[known], kinship[known])


def unrelated_set(pairs: RelatedPairs, n_samples: int, max_kinship: float = THIRD_DEGREE) -> NDArray[np.bool_]:
    """Choose samples of whom no two are related and to whom nobody can be added.

    Parameters
    ----------
    pairs
        Related pairs; pairs of negative kinship beside them say who is of other ancestry than whom.
    n_samples
        Samples in all.
    max_kinship
        Pairs above this are related.

    Returns
    -------
    NDArray[np.bool_]
        (n_samples,) who is in the set. Removed one by one is who has most relatives left; of several the one with
        fewest samples of other ancestry; then the one with more kinship; then the later one. At the end whoever has
        lost all relatives comes back.

    Notes
    -----
    **Cost**: O(pairs · log pairs). A largest set is hard to find; this one is never smaller than
    n / (1 + mean number of relatives).

    Examples
    --------
    Two parents and their two children: the parents stay.

    >>> trio = RelatedPairs(np.array([0, 0, 1, 1, 2]), np.array([2, 3, 2, 3, 3]), np.full(5, 0.25))
    >>> unrelated_set(trio, 5).tolist()
    [True, True, False, False, True]
    """
    related = pairs.kinship > max_kinship
    neighbours: dict[int, set[int]] = {}
    closeness = np.zeros(n_samples)
    for a, b, kinship in zip(pairs.first[related], pairs.second[related], pairs.kinship[related], strict=True):
        neighbours.setdefault(int(a), set()).add(int(b))
        neighbours.setdefault(int(b), set()).add(int(a))
        closeness[a] += kinship
        closeness[b] += kinship
    far = pairs.kinship < DIVERGENT
    divergent = np.bincount(np.concatenate([pairs.first[far], pairs.second[far]]), minlength=n_samples)
    kept = np.ones(n_samples, dtype=bool)
    count = {node: len(others) for node, others in neighbours.items()}

    def entry(node: int) -> tuple[int, int, float, int]:
        return -count[node], int(divergent[node]), -float(closeness[node]), -node

    heap = [entry(node) for node in neighbours]
    heapq.heapify(heap)
    gone = []
    while heap:
        top = heapq.heappop(heap)
        node = -top[3]
        if not kept[node] or -top[0] != count[node] or count[node] == 0:
            continue
        kept[node] = False
        gone.append(node)
        for other in neighbours[node]:
            if kept[other]:
                count[other] -= 1
                heapq.heappush(heap, entry(other))
    for node in reversed(gone):
        if not any(kept[other] for other in neighbours[node]):
            kept[node] = True
    return kept
