"""What an analysis will cost, stage by stage, before it runs; and how memory is shared out."""

from __future__ import annotations

from dataclasses import dataclass

from biolmm.association.classes import MAF_CLASSES
from biolmm.association.gamma import N_FIRST, N_PAIRED, N_SAMPLED
from biolmm.association.leads import BATCH
from biolmm.chunks import n_threads
from biolmm.exact.plan import ExactShape, plan_exact
from biolmm.memory import Need, Passes, StagePlan, Work
from biolmm.pipeline import expected
from biolmm.pipeline.config import EXACT_METHODS, AnalysisConfig
from biolmm.pipeline.expected import Blocks
from biolmm.pipeline.shape import Shape
from biolmm.reml.density import MIN_PROBES
from biolmm.reml.fit import choose_solver
from biolmm.reml.probing import MAX_STEPS
from biolmm.reml.spectrum import MASKED_PRODUCTS, RANDOM_STARTS

PROCESS_BYTES = 600 * 2**20
"""The interpreter with its libraries and kernels; a first run, which compiles them, takes the most."""

STEPS = 12
"""Lanczos steps that the bound on passes reckons with; the fit takes 6 to 30. `expected.py` says how many are likely."""
SAMPLED_AT_ONCE = max(N_FIRST, N_SAMPLED - N_FIRST)
"""Variants of a class that γ has in hand at a time: the first, or all that are added to them."""
PANELS_HELD = 4
"""Partial results that a pass holds beside one a thread, as `GenotypeOperator` reckons."""


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


def plan_analysis(
    config: AnalysisConfig, shape: Shape, *, scan: bool = True, leads: float = expected.LEADS
) -> list[StagePlan]:
    """Return the plan of every stage of an analysis, or of its fit alone (`scan` false), with so many leads a trait."""
    if config.method in EXACT_METHODS:
        return plan_exact(_exact_shape(config, shape), _common(shape))
    solver = choose_solver(config.fit, shape.n_samples, shape.n_variants, shape.n_systems, shape.n_traits)
    mixed = config.method != "linear-only"
    blocks = Blocks(_width(config, shape, solver) if mixed else 1, config.arithmetic().name)
    fitted = [] if not mixed else _plan_exact(shape) if solver == "exact" else _plan_stochastic(config, shape, blocks)
    if not scan:
        return [stage for stage in fitted if stage.stage != "gamma"]
    exact = config.scan.exact_leads and mixed and solver != "exact"
    lead_work = expected.lead_work(config.fit, shape, blocks, leads, exact=exact)
    found = _plan_leads(shape, lead_work, -(-round(leads * shape.n_traits) // BATCH) if exact else 0)
    return [*fitted, _plan_scan(config, shape, solver), found, _plan_report(shape)]


def share_memory(config: AnalysisConfig, plans: list[StagePlan], shape: Shape) -> MemoryShares:
    """Check every stage against the budget and give what is left to the cache.

    Raises
    ------
    MemoryBudgetError
        When a stage does not fit even without any cache.
    """
    for plan in plans:
        plan.check(config.resources.memory_bytes)
    return _shares(config, plans, shape)


def _shares(config: AnalysisConfig, plans: list[StagePlan], shape: Shape) -> MemoryShares:
    peak = max((plan.peak_bytes for plan in plans), default=PROCESS_BYTES)
    spare = config.resources.memory_bytes - peak
    panel = max(min(spare // 4, 2**30), 16 * 4 * shape.n_samples * (n_threads() + PANELS_HELD))
    return MemoryShares(max(0, spare - panel), panel, max(spare // 2, 2**27))


def _width(config: AnalysisConfig, shape: Shape, solver: str) -> int:
    """Return how many columns a pass has at most."""
    stages = [] if solver == "exact" else _plan_stochastic(config, shape, Blocks(shape.n_samples))
    shares = _shares(config, [*stages, _plan_scan(config, shape, solver)], shape)
    return panel_width(shares.panel_bytes, shape.n_samples)


def panel_width(panel_bytes: int, n_samples: int) -> int:
    """Return how many columns fit in one pass, as `GenotypeOperator` cuts them."""
    return max(16, int(panel_bytes // ((n_threads() + PANELS_HELD) * n_samples * 4)))


def _block(shape: Shape, n_columns: float, itemsize: int = 4) -> int:
    return int(shape.n_samples * n_columns * itemsize)


def _common(shape: Shape) -> tuple[Need, ...]:
    bases = Need("covariate bases", _block(shape, shape.n_systems * (shape.n_covariates + 1), 8))
    chunks = Need("chunks of genotypes in hand", 3 * n_threads() * shape.chunk_bytes)
    return (Need("interpreter and libraries", PROCESS_BYTES), bases, chunks)


def _stage(
    shape: Shape, stage: str, n_passes: int, column_passes: float, needs: tuple[Need, ...], work: Work
) -> StagePlan:
    """Plan a stage that makes at most so many passes with so many columns in all, and is expected to do `work`."""
    columns = column_passes / max(n_passes, 1)
    widest = max((each.columns for each in work.passes), default=columns)
    n_passes = max(n_passes, round(n_passes * columns / widest)) if work.passes else n_passes
    tasks = len(shape.tasks) or max(shape.n_contigs, 1)
    return StagePlan(
        stage=stage,
        n_tasks=n_passes * tasks,
        n_passes=n_passes,
        read_bytes=n_passes * shape.pass_bytes,
        flop=4.0 * shape.n_samples * shape.n_variants * column_passes,
        panel_bytes=_block(shape, widest),
        needs=(*_common(shape), *needs),
        work=work,
    )


def _plan_stochastic(config: AnalysisConfig, shape: Shape, blocks: Blocks) -> list[StagePlan]:
    k = config.fit.spectrum.n_pairs
    products = config.fit.spectrum.max_products
    masked = shape.n_systems - 1
    krylov = expected.start_columns(config.fit)
    refined = masked * (k + RANDOM_STARTS)
    eigen = _stage(
        shape, "eigenpairs", products + (MASKED_PRODUCTS if masked else 0) + 1,
        products * krylov + MASKED_PRODUCTS * refined,
        (Need("Krylov bases and their products", _block(shape, 2 * products * krylov + 6 * refined, 4)),),
        expected.eigen_work(config.fit, shape, blocks),
    )  # fmt: skip
    vectors = Need("eigenvectors", _block(shape, shape.n_systems * k))
    # The numbers of probes are doubled once: those of before go on, and as many start again.
    again = 2 * MIN_PROBES * shape.n_systems + shape.n_traits
    moments = sum(expected.first_probes(shape))
    columns = moments + again
    held = (
        vectors,
        Need("probes", _block(shape, 6 * columns)),
        Need("Lanczos vectors of the traits", _block(shape, (MAX_STEPS + 6) * shape.n_traits)),
    )
    recursions = _stage(
        shape,
        "probes and traits",
        STEPS,
        STEPS * again + 2 * moments,
        held,
        expected.recursion_work(config.fit, shape, blocks),
    )
    groups = (shape.n_contigs if config.fit.loco else 0) + 1
    predictors = Need("predictors", _block(shape, groups * shape.n_traits))
    loco = _stage(
        shape, "loco", 4, shape.n_traits + 3 * groups * shape.n_traits,
        (vectors, predictors, Need("blocks of one trait's left-out systems", _block(shape, 9 * groups))),
        expected.loco_work(config.fit, shape, blocks),
    )  # fmt: skip
    gamma = _stage(
        shape, "gamma", STEPS, STEPS * _sampled(config, shape, N_SAMPLED),
        (vectors, predictors, Need("sampled variants", _block(shape, 9 * _sampled(config, shape, SAMPLED_AT_ONCE)))),
        expected.gamma_work(config.fit, shape, blocks),
    )  # fmt: skip
    return [eigen, recursions, loco, gamma]


def _sampled(config: AnalysisConfig, shape: Shape, n_variants: int) -> int:
    """Return the columns of γ with so many variants of a class: each for the cohort, and again for small sets of samples.

    Without a contig left out, variants inside the matrix and near it are sampled apart.
    """
    alone = expected.measured_alone(shape)
    classes = len(MAF_CLASSES) * (1 if config.fit.loco else 2)
    return classes * (n_variants * (1 + alone) + N_PAIRED * (shape.n_systems - 1 - alone))


def _plan_leads(shape: Shape, work: Work, batches: int) -> StagePlan:
    """Plan the leads: found in the results, and recomputed in batches."""
    columns = min(BATCH, max((each.columns for each in work.passes), default=0))
    needs = (Need("leads and their recursions", _block(shape, 11 * columns)),)
    bound = 2 * STEPS * batches
    return _stage(shape, "leads", bound, bound * columns, needs, work)


def _plan_report(shape: Shape) -> StagePlan:
    work = Work(
        shape.n_samples, shape.row_bytes, reported=float(shape.n_scanned) * shape.n_traits, drawn=shape.n_traits
    )
    return StagePlan(stage="report", needs=(Need("interpreter and libraries", PROCESS_BYTES),), work=work)


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
    parts = shape.scan_parts or (shape.n_scanned,)
    tested = Work(
        n_samples=shape.n_samples,
        row_bytes=shape.scan_row_bytes,
        passes=(Passes(1, columns, (parts,), products=1),),
        from_store=float(shape.n_scanned != shape.n_variants or not mixed),
        counted=float(shape.n_samples) * shape.n_scanned * (1 + shape.n_used),
        statistics=float(shape.n_scanned) * shape.n_traits,
    )
    return StagePlan(
        stage="scan",
        n_tasks=len(parts),
        n_passes=1,
        read_bytes=shape.n_scanned * shape.scan_row_bytes,
        written_bytes=int(60 * shape.n_scanned * shape.n_traits),
        flop=2.0 * shape.n_samples * shape.n_scanned * columns,
        panel_bytes=_block(shape, columns),
        needs=(*_common(shape), *needs),
        work=tested,
    )
