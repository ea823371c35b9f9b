"""LD scores: of each variant the sum of r² with its neighbours, whole or by annotations, in one pass over genotypes.

    L[i, c] = Σ_{j : |x_i − x_j| ≤ window} r²_adj(i, j) A[j, c]        r²_adj = r² − (1 − r²) / (n − 2), r²_adj(i, i) = 1

x is a place in base pairs, centimorgans or variants of a contig. r is Pearson's with missing genotypes at the mean
(Bulik-Sullivan et al. 2015, doi 10.1038/ng.3211; annotations: Finucane et al. 2015, doi 10.1038/ng.3404). The window is
exact; LDSC's own program widens it to whole blocks of 50 variants.

The genotypes of a block of 512 variants and of all that lie in their windows behind them are multiplied, slab of samples
by slab, Z_b Zᵀ; every r² counts for both of its variants. Blocks are counted from the first variant of a contig, so that
results do not depend on the chunks of the data or the number of workers, to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks
from biolmm.errors import ParameterError, VariantMismatchError
from biolmm.files.genetic_map import GeneticMap
from biolmm.genotypes.moments import Moments, SampleMasks, row_moments
from biolmm.genotypes.scaling import Scaling
from biolmm.genotypes.source import ChosenGenotypes, Partition, RowReader
from biolmm.genotypes.standardised import CodedRows, PartitionTask
from biolmm.memory import Need, StagePlan
from biolmm.store.data import GenotypeData

BLOCK = 512
"""Variants whose r² with what follows is computed at a time."""

SLAB = 1024
"""Samples unpacked at a time; a multiple of four."""

COMMON_MAF = 0.05
"""`M_5_50` counts variants of greater minor allele frequency."""

BASE = "base"
"""The annotation of every variant, where none are given."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Reach:
    """How far apart two variants may be, at most, to count for each other.

    Attributes
    ----------
    size
        Distance, to both sides.
    unit
        Variants, base pairs or centimorgans.
    """

    size: float
    unit: Literal["variants", "bp", "cM"] = "variants"

    @classmethod
    def parse(cls, text: str) -> Reach:
        """Read `1cM`, `1000kb`, `1mb`, `5000bp` or `500` (variants).

        Raises
        ------
        ParameterError
            When it is none of them, or not above 0.

        Examples
        --------
        >>> Reach.parse("1cM"), Reach.parse("0.5mb"), Reach.parse("200")
        (Reach(size=1.0, unit='cM'), Reach(size=500000.0, unit='bp'), Reach(size=200.0, unit='variants'))
        """
        match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(cm|bp|kb|mb|)", text.strip().lower())
        factor = {"cm": 1.0, "bp": 1.0, "kb": 1e3, "mb": 1e6, "": 1.0}
        size = float(match[1]) * factor[match[2]] if match else 0.0
        if match is None or size <= 0 or (match[2] != "cm" and size != round(size)):
            raise ParameterError(
                f"'{text}' is not a window. Give a distance such as 1cM or 1000kb, or a number of variants."
            )
        return cls(size, "cM" if match[2] == "cm" else "bp" if match[2] else "variants")


@dataclass(frozen=True)
class LdScoreConfig:
    """What to compute.

    Attributes
    ----------
    window
        How far neighbours may be.
    min_maf
        Variants of smaller minor allele frequency do not count at all; those that do not vary never do.
    """

    window: Reach = Reach(1_000_000, "bp")
    min_maf: float = 0.0

    def __post_init__(self) -> None:
        """Check the frequency."""
        if not 0 <= self.min_maf < 0.5:
            raise ParameterError(f"min_maf is {self.min_maf:g} but must be at least 0 and below 0.5.")


@dataclass(frozen=True, eq=False)
class LdScores:
    """LD scores of m variants in c annotations.

    Attributes
    ----------
    variants
        (m,) indices into the data, ascending: what varies.
    maf
        (m,) minor allele frequency in the samples.
    names
        Of the annotations.
    annotations
        (m, c) A.
    scores
        (m, c) L.
    n_samples
        n.
    n_left_out
        Variants that were to choose from and do not vary or are too rare.
    """

    variants: NDArray[np.int64]
    maf: Matrix
    names: tuple[str, ...]
    annotations: Matrix
    scores: Matrix
    n_samples: int
    n_left_out: int

    @property
    def common(self) -> NDArray[np.bool_]:
        """Which variants have a minor allele frequency above 5 %."""
        return self.maf > COMMON_MAF

    def sizes(self, *, common: bool) -> Matrix:
        """(c,) sums of the annotations: `M_5_50`, of common variants, or `M`, of all."""
        return np.asarray(self.annotations[self.common if common else slice(None)].sum(axis=0))

    def overlap(self, *, common: bool) -> Matrix:
        """(c, c) AᵀA of common variants, or of all: how many variants two annotations share."""
        chosen = self.annotations[self.common if common else slice(None)]
        return np.asarray(chosen.T @ chosen)


@dataclass(frozen=True, eq=False)
class _Run:
    """A task: some blocks of a contig, and what lies in their windows behind them."""

    contig: int
    start: int
    stop: int
    end: int


@dataclass(frozen=True, eq=False)
class _Problem:
    """What tasks share; everything is by kept variants, of which a contig's are consecutive."""

    reader: RowReader
    variants: NDArray[np.int64]
    ends: NDArray[np.int64]
    scaling: Scaling
    annotations: NDArray[np.float32]


def ld_scores(
    data: GenotypeData,
    config: LdScoreConfig | None = None,
    *,
    samples: NDArray[np.int64] | None = None,
    variants: NDArray[np.int64] | None = None,
    annotations: Matrix | None = None,
    names: tuple[str, ...] = (BASE,),
    genetic_map: GeneticMap | None = None,
) -> LdScores:
    """Compute the LD scores of variants in every annotation.

    Parameters
    ----------
    data
        Hard calls or dosages, sorted by position within contigs.
    config
        Window and frequency.
    samples, variants
        Indices to use; None: all. Choose autosomes: everybody counts with two copies.
    annotations
        (chosen variants, c) A, in the order of `variants` sorted; None: one annotation, of ones.
    names
        Of the annotations.
    genetic_map
        Where the window is in centimorgans.

    Raises
    ------
    ParameterError
        When fewer than three samples are chosen, annotations do not fit, or a map is missing.
    VariantMismatchError
        When a contig is not sorted, or no variant varies.

    Notes
    -----
    **Cost**: two passes, the second reading each row 1 to 2 times; N · Σ_i |window behind i| multiplications and additions.
    A worker holds the packed rows of a window and a block, and a slab of them unpacked: see `plan_ld_scores`.
    """
    config = config or LdScoreConfig()
    index = np.arange(data.n_samples) if samples is None else np.asarray(samples, np.int64)
    if len(index) < 3:
        raise ParameterError(f"LD scores need at least 3 samples, but {len(index)} are chosen.")
    chosen = np.arange(data.n_variants) if variants is None else np.unique(np.asarray(variants, np.int64))
    matrix = np.ones((len(chosen), 1)) if annotations is None else np.asarray(annotations, np.float64)
    if matrix.shape != (len(chosen), len(names)):
        raise ParameterError(
            f"annotations are {matrix.shape}, but {len(chosen)} variants and {len(names)} names are given."
        )
    source = ChosenGenotypes.choose(data, index, chosen, sex=np.zeros(len(index), np.int8))
    moments = _joined(map_tasks(_measure, source.partitions, source.reader))
    maf = np.minimum(moments.mean, 2 - moments.mean) / 2
    kept = moments.vary & (maf >= config.min_maf)
    if not kept.any():
        raise VariantMismatchError(f"None of {len(chosen):,} variants of {data.path} varies in {len(index):,} samples.")
    mine, matrix = source.variants[kept], matrix[kept]
    ends = _ends(data, mine, config.window, genetic_map)
    norm = np.sqrt(moments.called[kept] * moments.variance[kept])
    scaling = Scaling(moments.mean[kept], 1 / norm, np.ones(len(mine)))
    # Runs are no partitions of the choice: another name, so that nobody else's rows are found in the cache.
    reader = replace(source.reader, key=f"{source.reader.key}-runs", cache_bytes=0)
    problem = _Problem(reader, mine, ends, scaling, matrix.astype(np.float32))
    scores = np.zeros((len(mine), len(names)))
    runs = _runs(data, mine, ends)
    for run, part in zip(runs, map_tasks(_of_run, runs, problem), strict=True):
        scores[run.start : run.end] += part
    scores = _adjusted(scores, matrix, ends, len(index))
    return LdScores(mine, maf[kept], names, matrix, scores, len(index), len(chosen) - len(mine))


def plan_ld_scores(
    data: GenotypeData,
    config: LdScoreConfig | None = None,
    *,
    n_workers: int,
    n_samples: int | None = None,
    variants: NDArray[np.int64] | None = None,
    n_annotations: int = 1,
    genetic_map: GeneticMap | None = None,
) -> StagePlan:
    """Say what `ld_scores` reads and holds, as if every variant varied."""
    config = config or LdScoreConfig()
    chosen = np.arange(data.n_variants) if variants is None else np.unique(variants)
    n = data.n_samples if n_samples is None else n_samples
    ends = _ends(data, chosen, config.window, genetic_map)
    runs = _runs(data, chosen, ends)
    pairs = int((ends - np.arange(len(chosen))).sum())
    widest = max(int(ends[min(i + BLOCK, run.stop) - 1] - i) for run in runs for i in range(run.start, run.stop, BLOCK))
    workers = min(n_workers, len(runs))
    chunk = data.chunk_variants * data.encoding.row_bytes(data.n_samples)
    held = (widest + data.chunk_variants) * data.encoding.row_bytes(n)
    return StagePlan(
        stage="LD scores",
        n_tasks=len(runs),
        n_passes=2,
        read_bytes=(len(chosen) + sum(run.end - run.start for run in runs)) * data.encoding.row_bytes(data.n_samples),
        flop=2.0 * n * (pairs + BLOCK * len(chosen) / 2),
        needs=(
            Need("genotypes of windows", workers * held),
            Need("chunks being read", 2 * workers * chunk),
            Need("slabs of samples and products", workers * 4 * widest * (SLAB + 3 * BLOCK)),
            Need("LD scores and annotations", 4 * 8 * len(chosen) * (n_annotations + 4)),
        ),
    )


def _measure(partition: Partition, reader: RowReader) -> Moments:
    everyone = SampleMasks(np.ones((1, reader.n_samples), dtype=bool))
    return _joined([row_moments(rows, reader.encoding, everyone).of(0) for _, rows in reader.blocks(partition)])


def _joined(parts: list[Moments]) -> Moments:
    return Moments(*(np.concatenate([getattr(part, name) for part in parts] or [np.zeros(0)])
                     for name in ("called", "total", "squares")))  # fmt: skip


def _ends(
    data: GenotypeData, variants: NDArray[np.int64], window: Reach, genetic_map: GeneticMap | None
) -> NDArray[np.int64]:
    """Find the end (exclusive) of each variant's window, among the chosen variants."""
    if window.unit == "cM" and genetic_map is None:
        raise ParameterError(
            f"a window of {window.size:g} cM needs a genetic map: give --map, or a window such as 1000kb."
        )
    contig, position = data.variant_contig[variants], data.variant_position[variants]
    ends = np.empty(len(variants), np.int64)
    edges = np.flatnonzero(np.diff(contig, prepend=-1, append=-1))
    for start, stop in pairwise(edges.tolist()):
        where, name = position[start:stop], data.contig_id[contig[start]]
        back = np.flatnonzero(np.diff(where) < 0)
        if len(back):
            raise VariantMismatchError(
                f"{data.path} is not sorted: on contig {name} {where[back[0] + 1]:,} follows {where[back[0]]:,}. Sort it."
            )
        x: NDArray[np.float64]
        if window.unit == "variants":
            x = np.arange(stop - start, dtype=np.float64)
        elif window.unit == "bp" or genetic_map is None:
            x = where.astype(np.float64)
        else:
            x = genetic_map.at(name, where)
        # Not x + size: rounding must not depend on which of a pair comes first.
        ends[start:stop] = start + _reach(x, window.size)
    return ends


@numba.njit(nogil=True, cache=True)
def _reach(x, size):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return, for each of ascending places, how many are at most `size` behind it or before."""
    ends = np.empty(len(x), np.int64)
    end = 0
    for i in range(len(x)):
        while end < len(x) and x[end] - x[i] <= size:
            end += 1
        ends[i] = end
    return ends


def _runs(data: GenotypeData, variants: NDArray[np.int64], ends: NDArray[np.int64]) -> list[_Run]:
    """Cut contigs into runs of blocks, long enough that little is read twice; by the variants alone."""
    contig = data.variant_contig[variants]
    edges = np.flatnonzero(np.diff(contig, prepend=-1, append=-1))
    runs = []
    for start, stop in pairwise(edges.tolist()):
        widest = int(np.max(ends[start:stop] - np.arange(start, stop)))
        step = BLOCK * max(4, -(-2 * widest // BLOCK))
        for first in range(start, stop, step):
            last = min(first + step, stop)
            runs.append(_Run(int(contig[start]), int(first), int(last), int(ends[last - 1])))
    return runs


def _of_run(run: _Run, problem: _Problem) -> Matrix:
    """Add up r² A of the pairs whose first variant is in the run, for both, (end − start, c)."""
    held = _Held(run, problem)
    A = problem.annotations[run.start : run.end]
    total = np.zeros(A.shape)
    for first in range(run.start, run.stop, BLOCK):
        last = min(first + BLOCK, run.stop)
        end = int(problem.ends[last - 1])
        R = held.products(first, last, end)
        square_within(R, problem.ends[first:last] - first)
        here, there = slice(first - run.start, last - run.start), slice(first - run.start, end - run.start)
        total[here] += R @ A[there]
        total[there] += R.T @ A[here]
    return total


class _Held:
    """Packed rows of the variants that the next blocks need, read in order and dropped when they are behind."""

    def __init__(self, run: _Run, problem: _Problem) -> None:
        self._n_samples = problem.reader.n_samples
        self._read = self._pieces(run, problem)
        self._held: list[tuple[int, CodedRows]] = []
        self._loaded = run.start

    @staticmethod
    def _pieces(run: _Run, problem: _Problem) -> Iterator[tuple[int, CodedRows]]:
        partition = Partition(0, run.contig, problem.variants[run.start : run.end])
        scaling = problem.scaling[slice(run.start, run.end)]
        nobody = np.zeros(0, np.int64)
        for where, rows in problem.reader.blocks(partition):
            maps = PartitionTask(partition, scaling, scaling.tables().astype(np.float32))[where]
            yield run.start + where.start, CodedRows(rows, problem.reader.encoding, maps, nobody)

    def products(self, first: int, last: int, end: int) -> NDArray[np.float32]:
        """Return r of variants `first` to `last` with those from `first` to `end`."""
        while self._loaded < end:
            start, piece = next(self._read)
            self._held.append((start, piece))
            self._loaded = start + len(piece)
        self._held = [(start, piece) for start, piece in self._held if start + len(piece) > first]
        tile = np.empty((end - first, min(SLAB, -(-self._n_samples // 4) * 4)), np.float32)
        R = np.zeros((last - first, end - first), np.float32)
        part = np.empty_like(R)
        for left in range(0, self._n_samples, SLAB):
            right = min(left + SLAB, self._n_samples)
            for start, piece in self._held:
                here = piece[max(first - start, 0) : end - start]
                if len(here):
                    here.unpacked(tile[max(start - first, 0) :], left, right)
            Z = tile[:, : right - left]
            np.matmul(Z[: last - first], Z.T, out=part)
            R += part
        return R


@numba.njit(nogil=True, cache=True)
def square_within(R, ends):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Square R[i, j] in place where i < j < ends[i], and put zeros elsewhere."""
    for i in range(R.shape[0]):
        row = R[i]
        for j in range(min(i + 1, R.shape[1])):
            row[j] = 0.0
        for j in range(i + 1, ends[i]):
            row[j] = row[j] * row[j]
        for j in range(max(ends[i], i + 1), R.shape[1]):
            row[j] = 0.0


def _adjusted(squares: Matrix, A: Matrix, ends: NDArray[np.int64], n_samples: int) -> Matrix:
    """Turn Σ r² A over a variant's neighbours into its LD scores."""
    m = len(ends)
    starts = np.searchsorted(ends, np.arange(m), side="right")  # the first variant whose window reaches this one
    cumulated = np.vstack([np.zeros(A.shape[1]), np.cumsum(A, axis=0)])
    neighbours = cumulated[ends] - cumulated[starts] - A
    # With n = 2 every r² is 1; three samples are the least that is accepted.
    return np.asarray(A + squares - (neighbours - squares) / (n_samples - 2))
