"""What a core of this machine does, measured in about a second: the figures by which `--plan` tells the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import threads
from biolmm.cluster.cost import DEFAULT, Machine
from biolmm.files.encoding import Encoding, Rows
from biolmm.genotypes.arithmetic import arithmetic_of
from biolmm.genotypes.moments import SampleMasks
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import standardise
from biolmm.linalg.lanczos import Lanczos
from biolmm.linalg.operators import RestrictedOperator, Restriction
from biolmm.store.data import GenotypeData, Quality

COLUMNS = (1, 8, 10, 16, 30, 32, 108, 128)
ENOUGH_SECONDS = 1.2
"""After so long nothing is measured a second time: the machine is busy, or compiles its kernels for the first time."""
MAX_SAMPLES = 32_768
"""More samples than this take as long for each genotype."""
MIN_SAMPLES = 2_000
CODES = (0.49, 0.42, 0.085, 0.005)
"""How often each code is made up: genotypes of an allele of frequency 0.3, and missing calls."""
GENOTYPES = 2e7
"""Genotypes of a measured pass; another with `FEW_VARIANTS` shows what a pass costs whatever its variants are."""
FEW_VARIANTS = 512
FEW_COLUMNS = (1, 32)
"""Enough of an arithmetic that is not that of the passes: the scan's, and of passes of one product."""


def measure_machine(
    n_samples: int, data: GenotypeData | None = None, arithmetics: Iterable[str] = ("float32",)
) -> Machine:
    """Measure one core on made-up genotypes of so many samples.

    Parameters
    ----------
    n_samples
        People of the analysis.
    data
        Genotypes that it reads: how fast their chunks come is measured on two of them.
    arithmetics
        Names of those of the passes.

    Returns
    -------
    Machine
        With stored figures (`cost.DEFAULT`) for what takes longer to measure: writing statistics, the scheduler, the
        network, starting up.

    Notes
    -----
    Cost: about a second.
    """
    begun = time.perf_counter()
    clock = _Clock(begun + ENOUGH_SECONDS)
    n = (
        int(np.clip(n_samples, MIN_SAMPLES, MAX_SAMPLES)) // 128 * 128
    )  # whole words: rows have no end to be marked missing
    sizes = max(2, round(GENOTYPES / n / FEW_VARIANTS)) * FEW_VARIANTS, FEW_VARIANTS
    with threads(1):
        sources = [ChosenGenotypes.choose(_MadeUp(n, size), np.arange(n)) for size in sizes]
        source, both = sources[0], [standardise(each) for each in sources]
        passes, fixed = {}, 0.0
        wanted = list(dict.fromkeys([*arithmetics, "float32"]))
        for name in wanted:
            pair = [GenotypeOperator(each, panel_bytes=2**40, arithmetic=arithmetic_of(name)) for each in both]
            columns = COLUMNS if name == wanted[0] else FEW_COLUMNS
            passes[name], each_fixed = _pass_points(pair[0], pair[1], columns, clock)
            fixed = fixed or each_fixed
        figures = {
            "prepare_seconds": fixed,
            "add_seconds": _add_seconds(n, clock),
            "driver_seconds": _driver_seconds(n, clock),
            "flop_seconds": _flop_seconds(n, clock),
            "count_seconds": _count_seconds(source, clock),
        }
        if data is not None:
            figures["read_seconds"] = _read_seconds(data)
    took = time.perf_counter() - begun
    return replace(DEFAULT, pass_seconds=passes, **figures, source=f"measured on one core here in {took:.1f} s")


@dataclass(frozen=True)
class _Clock:
    """Times calls by the CPU, which other programs disturb less than the wall clock."""

    deadline: float

    def best(self, call: Callable[[], object], repetitions: int = 3) -> float:
        """Return the least CPU time of a few calls, after one to warm up."""
        call()
        times: list[float] = []
        while len(times) < repetitions and not (times and time.perf_counter() > self.deadline):
            begun = time.process_time()
            call()
            times.append(time.process_time() - begun)
        return min(times)


def _pass_points(
    many: GenotypeOperator, few: GenotypeOperator, columns: Sequence[int], clock: _Clock
) -> tuple[tuple[tuple[float, float], ...], float]:
    """Return seconds a genotype of a pass at each number of columns, and seconds an element of its columns beside."""
    draws = np.random.default_rng(0)
    points: list[tuple[float, float]] = []
    fixed = []
    n = many.n_samples
    more, less = (float(n) * operator.source.n_variants for operator in (many, few))
    for r in columns:
        X = draws.standard_normal((n, r), dtype=np.float32)
        long, short = (clock.best(partial(operator.matmat, X), 2) for operator in (many, few))
        slope = (long - short) / (more - less)
        if not 0.5 * long / more < slope <= long / more:  # disturbed
            slope = long / more
        points.append((float(r), slope))
        fixed.append(max(0.0, long - slope * more) / (n * r))
    return tuple(points), float(np.median(fixed))


def _add_seconds(n: int, clock: _Clock) -> float:
    total = np.zeros((n, max(4, int(4e6 / n))), np.float32)  # more than caches hold

    def make_and_add() -> None:
        part = np.zeros_like(total)
        part += 1.0
        np.add(total, part, out=total)

    return clock.best(make_and_add) / total.size


def _driver_seconds(n: int, clock: _Clock, columns: int = 16) -> float:
    """Time a Lanczos step whose product costs nothing."""
    draws = np.random.default_rng(0)
    basis = np.linalg.qr(draws.standard_normal((n, 4)))[0]
    restriction = Restriction(np.ones(n, dtype=bool), basis)
    start = restriction.project(draws.standard_normal((n, columns))).astype(np.float32)
    operator = RestrictedOperator(np.copy, [restriction], [columns])
    recursion = Lanczos(start)
    return clock.best(lambda: recursion.advance(operator)) / start.size


def _flop_seconds(n: int, clock: _Clock, columns: int = 48) -> float:
    A = np.random.default_rng(0).standard_normal((n, columns))
    return clock.best(lambda: A @ (A.T @ A)) / (4.0 * n * columns**2)


def _count_seconds(source: ChosenGenotypes, clock: _Clock) -> float:
    """Time counting under one set of samples."""
    reader, partition = source.reader, source.partitions[0]
    masks = SampleMasks(np.ones((1, source.n_samples), dtype=bool))
    rows = reader.rows(partition)
    seconds = clock.best(lambda: reader.coding.count(rows, reader.encoding, masks, partition.ploidy))
    return seconds / (len(rows) * source.n_samples)


def _read_seconds(data: GenotypeData) -> float:
    """Time reading two chunks, in seconds for each packed byte."""
    n_chunks = max(1, -(-data.n_variants // data.chunk_variants))
    chunks = sorted({0, n_chunks // 2})
    begun = time.process_time()
    n_bytes = sum(data.read_rows(chunk).nbytes for chunk in chunks)
    return (time.process_time() - begun) / max(n_bytes, 1)


class _MadeUp:
    """Genotypes in memory that mean nothing, in one chunk: a `GenotypeData`."""

    path = Path("made-up genotypes")
    fingerprint = "made-up genotypes"
    encoding = Encoding.CALLS
    contig_id = ("1",)

    def __init__(self, n_samples: int, n_variants: int) -> None:
        self.n_samples = n_samples
        self.n_variants = self.chunk_variants = n_variants
        four = np.indices((4, 4, 4, 4)).reshape(4, 256)  # the codes of every byte
        chance = np.prod(np.array(CODES)[four], axis=0)
        shape = (n_variants, Encoding.CALLS.row_bytes(n_samples))
        self.rows: Rows = np.random.default_rng(0).choice(256, shape, p=chance / chance.sum()).astype(np.uint8)
        self.sample_id = self.family_id = np.array([str(i) for i in range(n_samples)])
        self.sex = np.zeros(n_samples, np.int8)
        self.variant_contig = np.zeros(n_variants, np.int32)
        self.variant_position = np.arange(1, n_variants + 1)
        self.variant_id = self.ref = self.alt = np.full(n_variants, "")

    def chunk_range(self, chunk: int) -> tuple[int, int]:
        """Give all variants."""
        return 0, self.n_variants

    def read_rows(self, chunk: int) -> Rows:
        """Give the rows, as if they had been kept."""
        return self.rows

    def read_quality(self, variants: NDArray[np.int64]) -> Quality | None:
        """Give nothing: hard calls."""
        return None
