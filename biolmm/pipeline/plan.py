"""What an analysis will cost, stage by stage, before it runs; and how memory is shared out."""

from __future__ import annotations

from dataclasses import dataclass

from biolmm.association.gamma import N_PAIRED, N_SAMPLED
from biolmm.association.panel import MAF_CLASSES
from biolmm.chunks import n_threads
from biolmm.cohort import Cohort
from biolmm.exact.plan import ExactShape, plan_exact
from biolmm.genotypes.source import MAX_PARTITIONS
from biolmm.linalg.krylov import OVERSAMPLING
from biolmm.memory import Need, StagePlan
from biolmm.pipeline.config import EXACT_METHODS, AnalysisConfig
from biolmm.pipeline.genotypes import AnalysisGenotypes
from biolmm.pipeline.variants import ChosenVariants
from biolmm.reml.fit import choose_solver
from biolmm.reml.spectrum import MAX_STEPS, MIN_PROBES, RANDOM_STARTS

PROCESS_BYTES = 600 * 2**20
"""The interpreter with its libraries and kernels; a first run, which compiles them, takes the most."""

STEPS = 12
"""Lanczos steps that a plan reckons with; the fit takes 6 to 30."""


@dataclass(frozen=True)
class Shape:
    """Sizes that decide what an analysis costs."""

    n_samples: int
    n_variants: int
    n_scanned: int
    n_traits: int
    n_systems: int
    n_covariates: int
    n_contigs: int
    row_bytes: int
    """Bytes of one of the model's rows."""
    scan_row_bytes: int
    chunk_bytes: int
    """Bytes of the largest chunk of rows that a task holds, over all samples of the genotypes."""

    @classmethod
    def of(cls, cohort: Cohort, data: AnalysisGenotypes, variants: ChosenVariants) -> Shape:
        """Measure a cohort and its choice of variants."""
        masked = sum(not mask.observed.all() for mask in cohort.classes)
        both = (data.model, data.scan)
        return cls(
            n_samples=cohort.n_samples,
            n_variants=len(variants.model),
            n_scanned=len(variants.scan),
            n_traits=cohort.n_traits,
            n_systems=1 + masked,
            n_covariates=1 + len(cohort.covariate_names),
            n_contigs=len(data.model.contig_id),
            row_bytes=data.model.encoding.row_bytes(cohort.n_samples),
            scan_row_bytes=data.scan.encoding.row_bytes(cohort.n_samples),
            chunk_bytes=max(each.chunk_variants * each.encoding.row_bytes(each.n_samples) for each in both),
        )

    @property
    def pass_bytes(self) -> int:
        """Bytes that one pass over the model's variants reads."""
        return self.n_variants * self.row_bytes


@dataclass(frozen=True)
class MemoryShares:
    """How the budget is shared out.

    Attributes
    ----------
    cache_bytes
        Packed rows kept between passes.
    panel_bytes
        Partial results of a pass.
    batch_bytes
        Blocks of columns of the left-out systems.
    """

    cache_bytes: int
    panel_bytes: int
    batch_bytes: int


def plan_analysis(config: AnalysisConfig, shape: Shape, *, scan: bool = True) -> list[StagePlan]:
    """Return the plan of every stage of an analysis, or of its fit alone (`scan` false)."""
    solver = choose_solver(config.fit, shape.n_samples, shape.n_variants, shape.n_systems, shape.n_traits)
    if config.method == "linear-only":
        return [_plan_scan(config, shape, solver)]
    if config.method in EXACT_METHODS:
        return plan_exact(_exact_shape(config, shape), _common(shape))
    stages = _plan_exact(shape) if solver == "exact" else _plan_stochastic(config, shape)
    if scan:
        return [*stages, _plan_scan(config, shape, solver)]
    return [stage for stage in stages if stage.stage != "gamma"]


def share_memory(config: AnalysisConfig, plans: list[StagePlan], shape: Shape) -> MemoryShares:
    """Check every stage against the budget and give what is left to the cache.

    Raises
    ------
    MemoryBudgetError
        When a stage does not fit even without any cache.
    """
    budget = config.resources.memory_bytes
    for plan in plans:
        plan.check(budget)
    peak = max((plan.peak_bytes for plan in plans), default=PROCESS_BYTES)
    spare = budget - peak
    panel = max(min(spare // 4, 2**30), 16 * 4 * shape.n_samples * (n_threads() + 4))
    return MemoryShares(max(0, spare - panel), panel, max(spare // 2, 2**27))


def _block(shape: Shape, n_columns: float, itemsize: int = 4) -> int:
    return int(shape.n_samples * n_columns * itemsize)


def _common(shape: Shape) -> tuple[Need, ...]:
    bases = Need("covariate bases", _block(shape, shape.n_systems * (shape.n_covariates + 1), 8))
    chunks = Need("chunks of genotypes in hand", 3 * n_threads() * shape.chunk_bytes)
    return (Need("interpreter and libraries", PROCESS_BYTES), bases, chunks)


def _stage(
    shape: Shape, stage: str, n_passes: int, column_passes: float, needs: tuple[Need, ...], products: int = 2
) -> StagePlan:
    return StagePlan(
        stage=stage,
        n_tasks=n_passes * min(MAX_PARTITIONS, max(shape.n_contigs, 1)),
        n_passes=n_passes,
        read_bytes=n_passes * shape.pass_bytes,
        flop=2.0 * products * shape.n_samples * shape.n_variants * column_passes,
        panel_bytes=_block(shape, column_passes / n_passes),
        needs=(*_common(shape), *needs),
    )


def _plan_stochastic(config: AnalysisConfig, shape: Shape) -> list[StagePlan]:
    k = config.fit.spectrum.n_pairs
    products = config.fit.spectrum.max_products
    masked = shape.n_systems - 1
    width = k + OVERSAMPLING
    refined = masked * (k + RANDOM_STARTS)
    eigen_columns = products * width + 3 * refined
    eigen = _stage(
        shape, "eigenpairs", products + (3 if masked else 0) + 1, eigen_columns,
        (Need("Krylov bases and their products", _block(shape, 2 * products * width + 6 * refined, 4)),),
    )  # fmt: skip
    probes = shape.n_systems * MIN_PROBES
    vectors = Need("eigenvectors", _block(shape, shape.n_systems * k))
    density = _stage(
        shape, "spectral density", STEPS, STEPS * probes, (vectors, Need("probes", _block(shape, 6 * probes)))
    )
    kept = Need("Lanczos vectors of the traits", _block(shape, (MAX_STEPS + 6) * shape.n_traits))
    traits = _stage(shape, "traits", STEPS, STEPS * shape.n_traits, (vectors, kept))
    groups = (shape.n_contigs if config.fit.loco else 0) + 1
    predictors = Need("predictors", _block(shape, groups * shape.n_traits))
    loco = _stage(
        shape, "loco", 4, shape.n_traits + 3 * groups * shape.n_traits,
        (vectors, predictors, Need("blocks of one trait's left-out systems", _block(shape, 9 * groups))),
    )  # fmt: skip
    sampled = len(MAF_CLASSES) * (N_SAMPLED + masked * N_PAIRED)
    gamma = _stage(
        shape,
        "gamma",
        STEPS,
        STEPS * sampled,
        (vectors, predictors, Need("sampled variants", _block(shape, 7 * sampled))),
    )
    return [eigen, density, traits, loco, gamma]


def _plan_exact(shape: Shape) -> list[StagePlan]:
    n = shape.n_samples
    matrices = Need("relatedness matrices", 5 * n * n * 8)
    fit = StagePlan(
        stage="exact fit", n_passes=1, read_bytes=shape.pass_bytes,
        flop=float(n) ** 2 * shape.n_variants * 2 + 12.0 * float(n) ** 3 * shape.n_systems,
        needs=(*_common(shape), matrices, Need("partial sums", (n_threads() + 4) * n * n * 8)),
    )  # fmt: skip
    loco = StagePlan(
        stage="exact loco", n_passes=2, read_bytes=2 * shape.pass_bytes,
        flop=float(n) ** 3 / 3 * shape.n_contigs * shape.n_traits,
        needs=(*_common(shape), matrices, Need("Cholesky factors", shape.n_traits * n * n * 8)),
    )  # fmt: skip
    return [fit, loco]


def _exact_shape(config: AnalysisConfig, shape: Shape) -> ExactShape:
    n = shape.n_samples
    return ExactShape(
        n_samples=n,
        n_variants=0 if config.grm else shape.n_variants,
        n_scanned=shape.n_scanned,
        n_traits=shape.n_traits,
        n_systems=shape.n_systems,
        n_matrices=1 + (shape.n_contigs if config.fit.loco else 0),
        read_bytes=4 * n * n if config.grm else shape.pass_bytes,
        scan_bytes=shape.n_scanned * shape.scan_row_bytes,
        n_covariates=shape.n_covariates + config.n_pcs,
    )


def _plan_scan(config: AnalysisConfig, shape: Shape, solver: str) -> StagePlan:
    mixed = config.method != "linear-only"
    k = config.fit.spectrum.n_pairs if mixed else 0
    columns = shape.n_traits * 2 + shape.n_systems * (k + shape.n_covariates)
    groups = (shape.n_contigs if config.fit.loco else 0) + 1
    needs = [
        Need("columns of the panel", _block(shape, (n_threads() + 2) * columns)),
        Need(
            "statistics of the parts in hand",
            n_threads() * 16 * 8 * shape.n_traits * shape.n_scanned // max(shape.n_contigs, 8),
        ),
    ]
    if mixed:
        needs.append(Need("predictors", _block(shape, groups * shape.n_traits)))
    if mixed and solver == "exact":
        needs.append(Need("Cholesky factors", (shape.n_traits + 3) * shape.n_samples**2 * 8))
    return StagePlan(
        stage="scan",
        n_tasks=min(MAX_PARTITIONS, max(shape.n_contigs, 1)),
        n_passes=1,
        read_bytes=shape.n_scanned * shape.scan_row_bytes,
        written_bytes=int(60 * shape.n_scanned * shape.n_traits),
        flop=2.0 * shape.n_samples * shape.n_scanned * columns,
        panel_bytes=_block(shape, columns),
        needs=(*_common(shape), *needs),
    )
