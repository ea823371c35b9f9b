"""What is measured between studies: one pass over chunks, all studies side by side; results of chunks add up.

Frequencies are held against a reference, or else against the median of the studies that have the variant (of two: the
other one). Flipped effects show where a study has a strong signal, |z| > 4, at most one in 500 kb of a chunk,
palindromic variants aside: there sign(z_i)·z_j is positive in another study with power, negative in a flipped one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.store.tasks import MapTasks, call_one_by_one
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.meta.tails import z_from_neg_log10_p
from biolmm.sumstats.quality.config import WINDOW_BP
from biolmm.sumstats.quality.histogram import Vector
from biolmm.sumstats.status import Status

Matrix = NDArray[np.float64]

GRID = 100
"""Cells a side of the picture of frequencies."""

_ROWS = 1 << 14
_SAMPLED = 2000
_LEAD_Z = 4.0
_LEAD_BP = 500_000
_CLIP_Z = 3.0


@dataclass(eq=False)
class AcrossMeasures:
    """Sums over variants; K studies.

    Attributes
    ----------
    frequency
        (K, 6): n, and sums of x, y, x², xy, y² of the study's and the reference's frequency.
    outliers
        (K,) frequencies further than allowed from the reference.
    flipped
        (K, 2, 2, 2): [palindromic, the file's effect allele is the major one, flipped], counts of variants whose
        reference frequency is outside 0.4 to 0.6.
    grid
        (K, 100, 100) reference (first) against study.
    pair_z, pair_eaf
        (6, K, K) n and sums for correlations of z, clipped to ±3, and of frequencies.
    lead
        (3, K, K): leads of study i that j has too, those of the same sign, and the sum of sign(z_i)·z_j.
    identical
        (2, K, K): variants looked at, and those with the same effect and standard error.
    windows
        Counts of variants in windows: number of the window → (K + 1,), the last that of the catalogue.
    """

    frequency: Matrix
    outliers: NDArray[np.int64]
    flipped: NDArray[np.int64]
    grid: NDArray[np.int64]
    pair_z: Matrix
    pair_eaf: Matrix
    lead: Matrix
    identical: Matrix
    windows: dict[tuple[int, int], NDArray[np.int64]]

    @classmethod
    def nothing(cls, k: int) -> AcrossMeasures:
        """Begin with zeros."""
        return cls(
            np.zeros((k, 6)), np.zeros(k, np.int64), np.zeros((k, 2, 2, 2), np.int64), np.zeros((k, GRID, GRID), np.int64),
            np.zeros((6, k, k)), np.zeros((6, k, k)), np.zeros((3, k, k)), np.zeros((2, k, k)), {},
        )  # fmt: skip

    def __add__(self, other: AcrossMeasures) -> AcrossMeasures:
        """Add another chunk's sums."""
        names = ("frequency", "outliers", "flipped", "grid", "pair_z", "pair_eaf", "lead", "identical")
        windows = dict(self.windows)
        for window, counts in other.windows.items():
            windows[window] = windows[window] + counts if window in windows else counts
        return replace(self, windows=windows, **{name: getattr(self, name) + getattr(other, name) for name in names})

    def frequency_correlation(self) -> Vector:
        """Give each study's correlation with the reference frequencies; NaN where there are too few."""
        n, x, y, xx, xy, yy = self.frequency.T
        return _correlation(n, x, y, xx, xy, yy)

    def z_correlation(self) -> Matrix:
        """Give correlations of z between studies."""
        return _correlation(*self.pair_z)

    def eaf_correlation(self) -> Matrix:
        """Give correlations of frequencies between studies."""
        return _correlation(*self.pair_eaf)


def _correlation(n: Matrix, x: Matrix, y: Matrix, xx: Matrix, xy: Matrix, yy: Matrix) -> Matrix:
    with np.errstate(invalid="ignore", divide="ignore"):
        top = xy - x * y / n
        r = top / np.sqrt((xx - x * x / n) * (yy - y * y / n))
    return np.where(n >= 30, r, np.nan)


def measure_across(
    store: SumstatsStore,
    max_difference: float,
    reference: Callable[[int], Vector] | None = None,
    *,
    map_tasks: MapTasks = call_one_by_one,
) -> AcrossMeasures:
    """Measure all studies of a store against each other.

    Parameters
    ----------
    store
        The store.
    max_difference
        Frequencies further apart are outliers.
    reference
        Gives a chunk's reference frequencies, NaN where there is none.
    map_tasks
        Runs chunks side by side.

    Notes
    -----
    **Cost**: one pass over β, SE, frequency, p and status of all studies, and K² multiplications a variant. Memory: 22
    bytes × chunk × K a worker, and 16,384 × K × 60.
    """

    def one(chunk: int) -> AcrossMeasures:
        return _measure_chunk(store, chunk, max_difference, None if reference is None else reference(chunk))

    total = AcrossMeasures.nothing(store.n_studies)
    for start in range(0, store.n_chunks, 16):  # sums of few chunks are held at a time
        parts = map_tasks(one, list(range(start, min(start + 16, store.n_chunks))))
        total = reduce(AcrossMeasures.__add__, parts, total)
    return total


def _measure_chunk(store: SumstatsStore, chunk: int, max_difference: float, reference: Vector | None) -> AcrossMeasures:
    block = store.read_block(chunk, range(store.n_studies), ("beta", "se", "eaf", "neg_log10_p", "status"))
    out = AcrossMeasures.nothing(store.n_studies)
    for start in range(0, len(block), _ROWS):
        rows = slice(start, start + _ROWS)
        status = block.cells["status"][rows]
        present = (status & Status.PRESENT.value) > 0
        eaf = np.where(present, block.cells["eaf"][rows].astype(np.float64), np.nan)
        _frequencies(out, eaf, status, None if reference is None else reference[rows], max_difference)
        z = block_z(block.cells, rows, present)
        contig, position = block.contig[rows], block.position[rows]
        _windows(out, contig, position, present)
        if store.n_studies > 1:
            out.pair_z += pair_sums(np.clip(z, -_CLIP_Z, _CLIP_Z))
            # Which strand palindromic variants are on was decided by frequency: they would hide what is exchanged.
            clear = ~((status & Status.PALINDROMIC.value) > 0).any(axis=1)
            out.pair_eaf += pair_sums(eaf[clear])
            _leads(out, z[clear], (contig[clear].astype(np.int64) << 32) + position[clear] // _LEAD_BP)
    if store.n_studies > 1:
        _identical(out, block.cells["beta"], block.cells["se"])
    return out


def block_z(cells: Mapping[str, NDArray[Any]], rows: slice, present: NDArray[np.bool_]) -> Matrix:
    """Give β/SE of a slice of a block; where there is no SE, z of p with β's sign."""
    beta, se, tail = (cells[name][rows].astype(np.float64) for name in ("beta", "se", "neg_log10_p"))
    z = beta / se
    only_p = np.isnan(se) & ~np.isnan(tail) & ~np.isnan(beta)
    if only_p.any():
        z[only_p] = np.copysign(z_from_neg_log10_p(tail[only_p]), beta[only_p])
    return np.where(present, z, np.nan)


def pair_sums(values: Matrix) -> Matrix:
    """Sum over rows, for every pair of columns, what a correlation over the rows that both have needs: (6, K, K).

    Examples
    --------
    >>> n, x, y, xx, xy, yy = pair_sums(np.array([[1.0, 2.0], [3.0, np.nan]]))
    >>> [float(each[0, 1]) for each in (n, x, y, xy)]
    [1.0, 1.0, 2.0, 2.0]
    """
    there = (~np.isnan(values)).astype(np.float64)
    filled = np.nan_to_num(values)
    squares = filled * filled
    x, xx = filled.T @ there, squares.T @ there
    return np.stack([there.T @ there, x, x.T, xx, filled.T @ filled, xx.T])


def _frequencies(out: AcrossMeasures, eaf: Matrix, status: NDArray[np.uint16], reference: Vector | None,
                 max_difference: float) -> None:  # fmt: skip
    k = eaf.shape[1]
    expected = consensus(eaf) if reference is None else np.broadcast_to(reference[:, None], eaf.shape)
    palindromic = (status & Status.PALINDROMIC.value) > 0
    swapped = (status & Status.SWAPPED.value) > 0
    for study in range(k):
        there = np.flatnonzero(~np.isnan(eaf[:, study]) & ~np.isnan(expected[:, study]))
        mine, theirs = eaf[there, study], expected[there, study]
        out.frequency[study] += [len(there), theirs.sum(), mine.sum(), theirs @ theirs, theirs @ mine, mine @ mine]
        away = np.abs(mine - theirs)
        out.outliers[study] += int((away > max_difference).sum())
        cells = np.minimum(theirs * GRID, GRID - 1).astype(np.int64) * GRID + np.minimum(mine * GRID, GRID - 1).astype(
            np.int64
        )
        out.grid[study] += np.bincount(cells, minlength=GRID * GRID).reshape(GRID, GRID)
        clear = np.abs(theirs - 0.5) > 0.1
        flipped = np.abs(1 - mine - theirs) < away - 0.1
        of_effect = np.where(swapped[there, study], 1 - theirs, theirs) > 0.5
        index = palindromic[there, study] * 4 + of_effect * 2 + flipped
        out.flipped[study] += np.bincount(index[clear], minlength=8).reshape(2, 2, 2)


def consensus(eaf: Matrix) -> Matrix:
    """Give what each study's frequency is held against: the median of all that have the variant, of two the other one.

    Examples
    --------
    >>> consensus(np.array([[0.1, 0.2, 0.9], [0.1, 0.3, np.nan], [0.1, np.nan, np.nan]])).round(6).tolist()
    [[0.2, 0.2, 0.2], [0.3, 0.1, nan], [nan, nan, nan]]
    """
    n = (~np.isnan(eaf)).sum(axis=1)
    out = np.full(eaf.shape, np.nan)
    many = np.flatnonzero(n >= 3)
    if many.size:
        out[many] = np.nanmedian(eaf[many], axis=1)[:, None]
    two = np.flatnonzero(n == 2)
    out[two] = np.nansum(eaf[two], axis=1)[:, None] - eaf[two]
    return np.where(np.isnan(eaf), np.nan, out)


def _windows(
    out: AcrossMeasures, contig: NDArray[np.int32], position: NDArray[np.int64], present: NDArray[np.bool_]
) -> None:
    window = (contig.astype(np.int64) << 32) + position // WINDOW_BP
    names, which = np.unique(window, return_inverse=True)
    for at, name in enumerate(names.tolist()):
        here = which == at
        counts = np.append(present[here].sum(axis=0), int(here.sum()))
        key = (name >> 32, name & 0xFFFFFFFF)
        out.windows[key] = out.windows[key] + counts if key in out.windows else counts


def _leads(out: AcrossMeasures, z: Matrix, window: NDArray[np.int64]) -> None:
    for study in range(z.shape[1]):
        with np.errstate(invalid="ignore"):
            strong = np.flatnonzero(np.abs(z[:, study]) > _LEAD_Z)
        if not strong.size:
            continue
        order = strong[np.lexsort((-np.abs(z[strong, study]), window[strong]))]
        _, first = np.unique(window[order], return_index=True)
        lead = order[first]
        signed = np.sign(z[lead, study])[:, None] * z[lead]
        there = ~np.isnan(signed)
        out.lead[0, study] += there.sum(axis=0)
        out.lead[1, study] += (np.nan_to_num(signed) > 0).sum(axis=0)
        out.lead[2, study] += np.nansum(signed, axis=0)


def _identical(out: AcrossMeasures, beta: NDArray[np.float32], se: NDArray[np.float32]) -> None:
    step = max(1, len(beta) // _SAMPLED)
    beta, se = beta[::step], se[::step]
    for study in range(beta.shape[1]):
        mine_beta, mine_se = beta[:, study][:, None], se[:, study][:, None]
        both = ~np.isnan(mine_beta) & ~np.isnan(beta) & ~np.isnan(se) & ~np.isnan(mine_se)
        same = both & (np.abs(np.abs(beta) - np.abs(mine_beta)) <= 1e-5 * np.abs(mine_beta)) & (
            np.abs(se - mine_se) <= 1e-5 * mine_se
        )  # fmt: skip
        out.identical[0, study] += both.sum(axis=0)
        out.identical[1, study] += same.sum(axis=0)
