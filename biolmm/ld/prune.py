"""Leave out variants until no two near each other are correlated: windowed pruning by r².

For each window of a contig, pairs of variants with r² above the threshold lose one of the two: the one with the lower minor
allele frequency, or of equals the later. The order is that of PLINK 2's `--indep-pairwise`, and so is the set that is kept,
with three differences. r² is that of genotypes as they are held: dosages are rounded to calls first only if that is asked
for. Variants that do not vary are always left out; PLINK keeps one that has no neighbour at all. Every sample that is given
counts, founder or not.

r² is that of Pearson over the samples with a genotype at both variants (Chang C. C. et al. (2015). Second-generation PLINK.
GigaScience 4:7). Genotypes count copies of ALT, 0 to 2, on every contig: choose autosomes, or what is diploid, with
`variants`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks
from biolmm.errors import ParameterError, VariantMismatchError
from biolmm.files.encoding import Encoding, Rows, recode_rows
from biolmm.genotypes.kernels import dosage_sums, gather_samples
from biolmm.ld.kernels import load_calls, load_codes, moments_of_calls, walk
from biolmm.ld.window import Window
from biolmm.memory import Need, StagePlan
from biolmm.store.data import GenotypeData

_TIE = 1 + 2.0**-44
"""An r² that equals the threshold but for rounding is not above it."""

_ROUNDING_BYTES = 20
"""Held for each dosage while a chunk is rounded to calls: five arrays of single precision."""


@dataclass(frozen=True)
class PruneConfig:
    """How much correlation is left.

    Attributes
    ----------
    window
        Which variants are compared.
    step
        By how many variants the window moves; 1 where the window is a length.
    r2
        Pairs with a greater r² lose a variant.
    hard_calls
        Round dosages to calls, which is many times faster and what PLINK does; those further than 0.1 from a whole number
        are missing.
    """

    window: Window = Window(1_000_000, in_bp=True)  # noqa: RUF009 (frozen)
    step: int = 1
    r2: float = 0.2
    hard_calls: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises
        ------
        ParameterError
            When the threshold is not in [0, 1), or the step does not fit the window.
        """
        if not 0 <= self.r2 < 1:
            raise ParameterError(f"r2 is {self.r2:g} but must be at least 0 and below 1.")
        if self.window.in_bp and self.step != 1:
            raise ParameterError(f"step is {self.step} but must be 1 where the window is a length ({self.window}).")
        if not 1 <= self.step <= (1 if self.window.in_bp else self.window.size):
            raise ParameterError(f"step is {self.step} but must be between 1 and the window's {self.window}.")

    def encoding(self, given: Encoding) -> Encoding:
        """Say how genotypes are held while they are compared."""
        return Encoding.CALLS if self.hard_calls else given


@dataclass(frozen=True, eq=False)
class _Job:
    """One contig: its variants in order, and the end of each window among them."""

    variants: NDArray[np.int64]
    ends: NDArray[np.int64]
    capacity: int
    """Most variants that are held at a time: those of the widest window, and of a chunk."""


def prune(
    data: GenotypeData,
    config: PruneConfig | None = None,
    *,
    samples: NDArray[np.integer] | None = None,
    variants: NDArray[np.integer] | None = None,
) -> NDArray[np.bool_]:
    """Choose variants of which no two in a window have an r² above the threshold.

    Parameters
    ----------
    data
        Hard calls or dosages.
    samples
        Indices of the samples to use; None: all.
    variants
        Indices of the variants to choose from, in any order; None: all. The others count in no window.

    Returns
    -------
    NDArray[np.bool_]
        (M,) Whether each variant of the data is kept; False for those that were not to choose from.

    Raises
    ------
    ParameterError
        When there is no sample to use, or an index is not one of a sample.
    VariantMismatchError
        When the window is a length and the variants of a contig are not sorted by position.

    Notes
    -----
    **Cost**: one pass over the rows, a task a contig; then N/32 words a pair for calls, N elements for dosages, and about
    three times as much where one of the pair has missing genotypes. Pairs are compared only while both are kept. A task
    holds the widest window and a chunk, see `plan_prune`. The result does not depend on chunks or workers.
    """
    config = config or PruneConfig()
    chosen = None if samples is None else np.ascontiguousarray(samples, np.int64)
    _check_samples(data, chosen)
    kept = np.zeros(data.n_variants, dtype=bool)
    jobs = _jobs(data, config, variants)
    for job, found in zip(jobs, map_tasks(_prune_contig, jobs, (data, config, chosen)), strict=True):
        kept[job.variants] = found
    return kept


def plan_prune(
    data: GenotypeData,
    config: PruneConfig | None = None,
    *,
    n_workers: int,
    n_samples: int | None = None,
    variants: NDArray[np.integer] | None = None,
) -> StagePlan:
    """Say what pruning reads and holds; raises what `prune` raises of the variants."""
    config = config or PruneConfig()
    jobs = _jobs(data, config, variants)
    n_samples = data.n_samples if n_samples is None else n_samples
    held = sorted((job.capacity for job in jobs), reverse=True)[:n_workers]
    chunk_bytes = data.chunk_variants * data.encoding.row_bytes(data.n_samples)
    rounded = data.chunk_variants * n_samples if config.encoding(data.encoding) is not data.encoding else 0
    return StagePlan(
        stage="prune",
        n_tasks=len(jobs),
        n_passes=1,
        read_bytes=sum(len(job.variants) for job in jobs) * data.encoding.row_bytes(data.n_samples),
        needs=(
            Need("genotypes of windows", sum(held) * config.encoding(data.encoding).row_bytes(n_samples)),
            Need("chunks being read", 3 * len(held) * chunk_bytes),
            Need("dosages being rounded", _ROUNDING_BYTES * len(held) * rounded),
        ),
    )


def _jobs(data: GenotypeData, config: PruneConfig, variants: NDArray[np.integer] | None) -> list[_Job]:
    """Lay out the contigs, the one with most variants first, so that it does not end last."""
    chosen = np.arange(data.n_variants) if variants is None else np.unique(np.asarray(variants, np.int64))
    contig = data.variant_contig[chosen]
    jobs = []
    for i, name in enumerate(data.contig_id):
        mine = chosen[contig == i]
        if len(mine) == 0:
            continue
        position = data.variant_position[mine]
        if config.window.in_bp:
            _check_sorted(data, name, mine, position)
        ends = config.window.ends(position, config.step)
        widest = int(np.max(ends - config.step * np.arange(len(ends))))
        in_chunk = int(np.max(np.unique(mine // data.chunk_variants, return_counts=True)[1]))
        jobs.append(_Job(mine, ends, min(widest + in_chunk, len(mine))))
    return sorted(jobs, key=lambda job: -len(job.variants))


def _check_sorted(data: GenotypeData, contig: str, variants: NDArray[np.int64], position: NDArray[np.int64]) -> None:
    back = np.flatnonzero(np.diff(position) < 0)
    if len(back):
        before, after = variants[back[0]], variants[back[0] + 1]
        raise VariantMismatchError(
            f"{data.path} is not sorted: on contig {contig} variant {data.variant_id[after]} at "
            f"{data.variant_position[after]:,} follows {data.variant_id[before]} at {data.variant_position[before]:,}. "
            "Give the window in variants, or sort the genotypes by position."
        )


def _prune_contig(job: _Job, shared: tuple[GenotypeData, PruneConfig, NDArray[np.int64] | None]) -> NDArray[np.bool_]:
    """Read a contig chunk by chunk, and prune every window as soon as its last variant is there."""
    data, config, samples = shared
    m = len(job.variants)
    encoding = config.encoding(data.encoding)
    n_samples = data.n_samples if samples is None else len(samples)
    pool = _empty_pool(job.capacity, n_samples, encoding)
    slot = np.full(m, -1, np.int64)
    moments = np.zeros((m, 3), np.int64)
    major = np.zeros(m, np.int64)
    first = np.arange(1, m + 1)
    kept = np.zeros(m, dtype=bool)
    window, loaded = 0, 0
    while loaded < m:
        chunk = int(job.variants[loaded]) // data.chunk_variants
        start, stop = data.chunk_range(chunk)
        new = slice(loaded, loaded + int(np.searchsorted(job.variants[loaded:], stop)))
        rows = _take(data.read_rows(chunk), job.variants[new] - start)
        rows = recode_rows(_choose_samples(rows, data.encoding, samples), n_samples, data.encoding, encoding)
        moments[new], major[new] = _moments(rows, encoding)
        kept[new] = _varies(moments[new])
        entering = np.flatnonzero(kept[new])
        slots = _free_slots(slot, kept, config.step * window, new.start, len(pool))[: len(entering)]
        slot[new.start + entering] = slots
        if encoding.is_dosage:
            load_codes(rows, entering, slots, pool)
        else:
            load_calls(_words(rows), entering, slots, pool)
        loaded = new.stop
        window = walk(
            pool, encoding.missing, n_samples, slot, moments, major, job.ends, config.step, config.r2 * _TIE,
            window, loaded, first, kept,
        )  # fmt: skip
    return kept


def _empty_pool(capacity: int, n_samples: int, encoding: Encoding) -> Rows:
    """Make room for variants, see the legend of the kernels."""
    if encoding.is_dosage:
        return np.empty((capacity, n_samples), encoding.dtype)
    return np.empty((capacity, 2, -(-encoding.row_bytes(n_samples) // 16)), np.uint64)


def _free_slots(
    slot: NDArray[np.int64], kept: NDArray[np.bool_], start: int, stop: int, n_slots: int
) -> NDArray[np.int64]:
    """Find the slots that no variant kept among `start` to `stop` still needs."""
    free = np.ones(n_slots, dtype=bool)
    free[slot[start:stop][kept[start:stop]]] = False
    return np.flatnonzero(free)


def _words(rows: Rows) -> NDArray[np.uint64]:
    """See packed calls as whole words."""
    return np.ascontiguousarray(rows).view(np.uint64)


def _take(rows: Rows, index: NDArray[np.int64]) -> Rows:
    """Take some rows, without a copy where they are consecutive."""
    first, last = int(index[0]), int(index[-1])
    return rows[first : last + 1] if last - first + 1 == len(index) else rows[index]


def _choose_samples(rows: Rows, encoding: Encoding, samples: NDArray[np.int64] | None) -> Rows:
    if samples is None:
        return rows
    if encoding.is_dosage:
        return np.asarray(rows[:, samples])
    out = encoding.missing_rows(len(rows), len(samples))
    gather_samples(rows, samples, out)
    return out


def _moments(rows: Rows, encoding: Encoding) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return n, Σx, Σx² (b, 3) and the commoner allele's copies, in codes (b,)."""
    moments = np.empty((len(rows), 3), np.int64)
    if encoding.is_dosage:
        dosage_sums(rows, encoding.missing, moments)
        alt = moments[:, 1]
    else:
        moments_of_calls(_words(rows), moments)
        alt = moments[:, 1] + moments[:, 0]
    return moments, np.maximum(alt, 2 * encoding.steps * moments[:, 0] - alt)


def _varies(moments: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether n·Σx² > (Σx)², in whole numbers of any size."""
    n, total, squares = (moments[:, k] for k in range(3))
    close = n.astype(np.float64) * squares - total.astype(np.float64) ** 2 <= 1e-12 * n.astype(np.float64) * squares
    varies = ~close
    for i in np.flatnonzero(close):
        varies[i] = int(n[i]) * int(squares[i]) > int(total[i]) ** 2
    return varies


def _check_samples(data: GenotypeData, samples: NDArray[np.int64] | None) -> None:
    n_chosen = data.n_samples if samples is None else len(samples)
    if n_chosen == 0:
        raise ParameterError("pruning needs at least one sample, but 0 are chosen.")
    if samples is not None and not 0 <= samples.min() <= samples.max() < data.n_samples:
        raise ParameterError(
            f"samples are 0 to {data.n_samples - 1:,}, but {samples.min():,} to {samples.max():,} are chosen."
        )
