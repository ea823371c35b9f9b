"""How many passes with how many columns each stage is expected to make: the one place that says so.

A fit stops when its error is small enough, so these are expectations, met within some 15 % on simulated cohorts
without many close relatives (`docs/scaling.md`); the bounds that memory is planned with are in `plan.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from biolmm.association.classes import MAF_CLASSES
from biolmm.association.gamma import CANDIDATES, N_FIRST, N_PAIRED, PAIRED_SHARE
from biolmm.association.leads import BATCH
from biolmm.memory import Passes, Work
from biolmm.pipeline.shape import Shape
from biolmm.reml.density import MIN_PROBES, N_MOMENTS, probe_counts, share_of_whole
from biolmm.reml.fit import FitConfig
from biolmm.reml.spectrum import RANDOM_STARTS, START_COLUMNS

PAIRS = 3
"""Eigenpairs that converge: with little structure fewer than are asked for."""
MASKED_PRODUCTS = 2
"""Products for those of a set of samples, which start from the cohort's."""
EIGEN_PRODUCTS = 3
"""Products until no more eigenpairs can converge."""
STEPS = 4
"""Lanczos steps of probes and traits."""
LOCO_ITERATIONS = (1.0,)
"""Share of the left-out systems that take a first, second, … product."""
FORM_STEPS = 2
"""Lanczos steps of γ."""
AGAIN = (0.5, 0.2)
"""Chance of a second round of γ, and its variants, of those in the first."""
LEAD_STEPS = (1.0, 1.0, 0.15)
"""Share of the leads that take a first, second, … product."""
LEADS = 3
"""Leads a trait that a plan reckons with where nobody says how many: only the scan can tell."""


@dataclass(frozen=True)
class Blocks:
    """How blocks of columns are multiplied: how many columns at most in a pass, and in which numbers."""

    width: int
    arithmetic: str = "float32"


@dataclass
class _Tally:
    """Passes of a stage, and what the driver does between them."""

    shape: Shape
    blocks: Blocks
    passes: list[Passes] = field(default_factory=list)
    elements: float = 0.0
    flop: float = 0.0

    def add(
        self,
        count: float,
        columns: float,
        *,
        products: int = 2,
        rounds: tuple[tuple[int, ...], ...] | None = None,
        elements: float = 1.0,
    ) -> None:
        """Add passes; those with more columns than fit are several."""
        if count <= 0 or columns <= 0:
            return
        rounds = (self.shape.tasks,) if rounds is None else rounds
        panels = -(-math.ceil(columns) // self.blocks.width) if products == 2 else 1
        arithmetic = self.blocks.arithmetic if products == 2 else "float32"
        self.passes.append(Passes(count * panels, columns / panels, rounds, products, arithmetic))
        self.elements += elements * count * columns * self.shape.n_samples

    def work(
        self, *, from_store: float = 0.0, evaluations: float = 0.0, reported: float = 0.0, picked: Sequence[int] = ()
    ) -> Work:
        """Return the stage's work; `picked` are numbers of variants that are read one by one, each from its chunk."""
        chunk = max(self.shape.chunk_bytes, 1)
        n_chunks = -(-self.shape.pass_bytes // chunk)
        return Work(
            n_samples=self.shape.n_samples,
            row_bytes=self.shape.row_bytes,
            passes=tuple(self.passes),
            from_store=from_store,
            picked_bytes=float(sum(min(count, n_chunks) * min(chunk, self.shape.pass_bytes) for count in picked)),
            driver_elements=self.elements,
            driver_flop=self.flop,
            evaluations=evaluations,
            reported=reported,
        )


def eigen_work(config: FitConfig, shape: Shape, blocks: Blocks) -> Work:
    """Return the work of the leading eigenpairs of the cohort and of its sets of samples, and of the traces."""
    tally = _Tally(shape, blocks)
    n, k = shape.n_samples, config.spectrum.n_pairs
    width, products = start_columns(config), min(EIGEN_PRODUCTS, config.spectrum.max_products)
    tally.add(products, width)
    tally.flop += _krylov_flop(n, width, k, products)
    masked, start = shape.n_systems - 1, min(PAIRS, k) + RANDOM_STARTS
    tally.add(MASKED_PRODUCTS if masked else 0, masked * start)
    tally.flop += masked * _krylov_flop(n, start, min(PAIRS, k), MASKED_PRODUCTS)
    tally.add(1, shape.n_systems * shape.n_covariates, products=1, rounds=(shape.parts,), elements=0)
    return tally.work(from_store=1)


def start_columns(config: FitConfig) -> int:
    """Return how many columns the eigenpairs of the cohort start from."""
    return max(START_COLUMNS, -(-config.spectrum.n_pairs // 2))


def recursion_work(config: FitConfig, shape: Shape, blocks: Blocks) -> Work:
    """Return the work of the recursions of probes and traits, which share their passes."""
    tally = _Tally(shape, blocks)
    first = sum(first_probes(shape)) + shape.n_traits
    later = shape.n_systems * MIN_PROBES + shape.n_traits
    tally.add(1, first)
    tally.add(STEPS - 1, later)
    tally.flop += _deflation_flop(shape, first + (STEPS - 1) * later)
    return tally.work(evaluations=shape.n_traits * STEPS)


def first_probes(shape: Shape) -> list[int]:
    """Return the probes of the first step, which measures moments too: of the cohort, and of each set of samples."""
    return [N_MOMENTS, *(probe_counts(share_of_whole(share), 0).moments for share in shape.shares)]


def measured_alone(shape: Shape) -> int:
    """Return how many sets of samples have so few people that γ is measured on every sampled variant."""
    return sum(share < PAIRED_SHARE for share in shape.shares)


def loco_work(config: FitConfig, shape: Shape, blocks: Blocks) -> Work:
    """Return the work of the left-out predictors."""
    tally = _Tally(shape, blocks)
    systems = ((shape.n_left_out if config.loco else 0) + 1) * shape.n_traits
    tally.add(1, shape.n_used * min(PAIRS, config.spectrum.n_pairs), products=1, rounds=(shape.parts,), elements=0)
    tasks = tuple(task for of_contig in shape.contig_tasks for task in of_contig)
    tally.add(1, shape.n_traits, rounds=(tasks,), elements=float(systems) / shape.n_traits)
    for share in LOCO_ITERATIONS:
        tally.add(1, share * systems)
    tally.flop += _deflation_flop(shape, sum(LOCO_ITERATIONS) * systems)
    return tally.work()


def gamma_work(config: FitConfig, shape: Shape, blocks: Blocks) -> Work:
    """Return the work of γ."""
    tally = _Tally(shape, blocks)
    alone = measured_alone(shape)
    paired = shape.n_systems - 1 - alone
    tally.add(1, shape.n_systems * min(PAIRS, config.spectrum.n_pairs), products=1, rounds=(shape.parts,), elements=0)
    first = len(MAF_CLASSES) * N_FIRST
    tally.add(FORM_STEPS, first * (1 + alone) + len(MAF_CLASSES) * paired * N_PAIRED)
    tally.add(AGAIN[0] * FORM_STEPS, AGAIN[1] * first * (1 + alone))
    picked = [*CANDIDATES, first, round(AGAIN[1] * first)]
    return tally.work(evaluations=FORM_STEPS * shape.n_systems, picked=picked)


def lead_work(config: FitConfig, shape: Shape, blocks: Blocks, leads: float = LEADS, *, exact: bool = True) -> Work:
    """Return the work of finding the leads, and of recomputing so many a trait."""
    tally = _Tally(shape, blocks)
    n = round(leads * shape.n_traits)
    batches = -(-n // BATCH) if exact else 0
    for share in LEAD_STEPS if batches else ():
        tally.add(batches, share * n / batches)
    picked = [-(-n // batches)] * batches if batches else []
    return tally.work(reported=float(shape.n_scanned) * shape.n_traits, picked=picked)


def _krylov_flop(n: int, width: int, n_pairs: int, products: int) -> float:
    """Operations of a block Krylov iteration: Gram matrices, Ritz vectors, orthogonalisation."""
    bases = [width * step for step in range(1, products + 1)]
    return n * sum(2.0 * b * b + 4.0 * b * n_pairs + 8.0 * b * width + 12.0 * width**2 for b in bases)


def _deflation_flop(shape: Shape, columns: float) -> float:
    """Operations of taking eigenvectors and covariates out of so many columns."""
    return 4.0 * shape.n_samples * columns * (PAIRS + shape.n_covariates)
