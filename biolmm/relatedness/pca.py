"""Principal components of a cohort's genotypes with the weights of the variants, from streaming passes.

Legend: N samples, M variants, k components; Z (M, N); K = ZᵀZ / m; `Z / √m = V S Uᵀ`: U (N, k) are the components, V (M, k)
the loadings, S² the eigenvalues of K.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import n_threads
from biolmm.errors import ParameterError, VariantMismatchError
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.products import sample_products, variant_products, with_scaling
from biolmm.genotypes.scaling import Scale
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import StandardisedGenotypes, standardise
from biolmm.genotypes.weights import VariantWeights, table_of
from biolmm.linalg.krylov import OVERSAMPLING, Eigenpairs, leading_components
from biolmm.linalg.operators import Restriction
from biolmm.linalg.probes import row_keys
from biolmm.memory import Need, StagePlan
from biolmm.store.data import GenotypeData

log = logging.getLogger(__name__)

SETTLED = 0.02
"""Relative residual below which a component is one of the cohort's and not of the random start."""
PROCESS_BYTES = 600 * 2**20


@dataclass(frozen=True)
class PcaConfig:
    """How components are computed.

    Attributes
    ----------
    n_components
        Components wanted.
    alpha, scale
        Standardisation of genotypes, see `scaling_from_moments`.
    filters
        Variants that fail are left out.
    tolerance
        Relative residual at which the iteration stops.
    max_products
        It stops after this many passes in any case.
    seed
        Of the random start.
    """

    n_components: int = 10
    alpha: float = -1.0
    scale: Scale = "hwe"
    filters: VariantFilters = field(default_factory=VariantFilters)
    tolerance: float = 1e-3
    max_products: int = 10
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.n_components <= 1000:
            raise ParameterError(f"{self.n_components} components were asked for but must be between 1 and 1,000.")
        if not 1e-7 <= self.tolerance < 1:
            raise ParameterError(f"the tolerance is {self.tolerance} but must be between 1e-7 and 1.")
        if not 1 <= self.max_products <= 100:
            raise ParameterError(f"{self.max_products} passes were allowed but must be between 1 and 100.")
        if not -2 <= self.alpha <= 1:
            raise ParameterError(f"alpha is {self.alpha} but must be between -2 and 1 (-1 is usual).")


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """Components of a cohort, largest first; the largest loading of each is positive.

    Attributes
    ----------
    sample_id
        (N,) everybody, in the order of the genotypes.
    vectors
        (N, k) components: of the samples in `used` orthonormal columns, of the others their projection.
    used
        (N,) on whom the components were computed.
    eigenvalues
        (k,) of the relatedness matrix of those.
    residuals
        (k,) `‖K u − λ u‖ / λ`.
    trace
        Sum of all eigenvalues, exact.
    m
        The m of K.
    loadings
        V, unit columns.
    filtered
        Variants that each filter took out.
    n_passes
        Readings of all genotypes.
    """

    sample_id: NDArray[np.str_]
    vectors: NDArray[np.float64]
    used: NDArray[np.bool_]
    eigenvalues: NDArray[np.float64]
    residuals: NDArray[np.float64]
    trace: float
    m: float
    loadings: VariantWeights
    filtered: dict[str, int]
    n_passes: int

    @property
    def share(self) -> NDArray[np.float64]:
        """(k,) share of all variance that each component explains."""
        return self.eigenvalues / self.trace

    @property
    def settled(self) -> NDArray[np.bool_]:
        """(k,) whether each component is accurate enough to be used."""
        return self.residuals < SETTLED


def component_names(n_components: int) -> tuple[str, ...]:
    """Name components: PC1, PC2, …"""
    return tuple(f"PC{i + 1}" for i in range(n_components))


def plan_pca(data: GenotypeData, n_samples: int, n_variants: int, config: PcaConfig) -> StagePlan:
    """Plan what `find_components` will read and hold at least; rows are kept between passes where memory is left."""
    width = config.n_components + OVERSAMPLING
    chunk = data.chunk_variants * data.encoding.row_bytes(data.n_samples)
    n_passes = config.max_products + 3
    columns = width * config.max_products + 2 * config.n_components
    return StagePlan(
        stage="principal components", n_passes=n_passes, n_tasks=n_passes * max(1, len(data.contig_id)),
        read_bytes=n_passes * n_variants * data.encoding.row_bytes(n_samples),
        written_bytes=8 * n_variants * (config.n_components + 4) + 20 * n_samples * config.n_components,
        flop=4.0 * n_samples * n_variants * columns,
        needs=(
            Need("interpreter and libraries", PROCESS_BYTES),
            Need("chunks of genotypes in hand", 3 * n_threads() * chunk),
            Need("Krylov bases and their products", 4 * n_samples * width * 2 * config.max_products + 40 * n_samples * width),
            Need("partial sums", 4 * n_samples * width * (n_threads() + 4)),
            Need("loadings", n_variants * (16 * config.n_components + 200)),
        ),
    )  # fmt: skip


def find_components(
    data: GenotypeData,
    config: PcaConfig | None = None,
    *,
    sample_index: NDArray[np.int64] | None = None,
    variants: NDArray[np.int64] | None = None,
    used: NDArray[np.bool_] | None = None,
    cache_bytes: int = 0,
) -> PrincipalComponents:
    """Find the leading components of some samples and variants, on all of the samples or on some of them.

    Parameters
    ----------
    data
        Genotypes.
    config
        How many, and how.
    sample_index
        Who gets components; everybody by default.
    variants
        Which variants are used: autosomes, and better not in strong LD. All by default.
    used
        (len(sample_index),) on whom components are computed: means, variances and components are theirs, the others
        are projected. Everybody by default; with relatives in the cohort, an unrelated set.
    cache_bytes
        Rows up to this size stay in memory between passes.

    Raises
    ------
    ParameterError
        When more components are wanted than samples or variants can have.
    VariantMismatchError
        When no variant passes the filters, or none varies.

    Notes
    -----
    **Cost**: at most `max_products` passes with k + 10 columns, one for the trace and one for the loadings; another
    one where some samples are projected. **Randomness**: the start, drawn from the seed and the sample ids; it
    moves settled components by less than their residuals.
    """
    config = config or PcaConfig()
    everybody = np.arange(data.n_samples) if sample_index is None else np.asarray(sample_index, np.int64)
    kept = np.ones(len(everybody), dtype=bool) if used is None else used
    source = ChosenGenotypes.choose(data, everybody[kept], variants, cache_bytes)
    genotypes = standardise(source, config.alpha, config.scale, config.filters)
    operator = GenotypeOperator(genotypes)
    _check_sizes(operator, config, data)
    ids = data.sample_id[everybody]
    restriction = Restriction(
        np.ones(source.n_samples, dtype=bool), np.full((source.n_samples, 1), source.n_samples**-0.5)
    )
    pairs = leading_components(
        operator.matmat, row_keys(ids[kept].tolist()), restriction, config.n_components, config.seed,
        tolerance=config.tolerance, max_products=config.max_products,
    )  # fmt: skip
    trace = float(operator.traces([restriction])[0])
    _check_rank(pairs, trace)
    signed, loadings = _loadings(operator, pairs)
    vectors = np.empty((len(everybody), config.n_components))
    vectors[kept] = signed
    n_passes = operator.counter.passes + 2
    if not kept.all():
        vectors[~kept] = _projected(genotypes, loadings, everybody[~kept])
        n_passes += 1
    return PrincipalComponents(
        sample_id=ids, vectors=vectors, used=kept, eigenvalues=pairs.values, residuals=pairs.residuals, trace=trace,
        m=operator.m, loadings=loadings, filtered=genotypes.filtered, n_passes=n_passes,
    )  # fmt: skip


def unsettled_warning(components: PrincipalComponents) -> str | None:
    """Say which components are not accurate enough, and what to do about it; None where all are."""
    wrong = np.flatnonzero(~components.settled)
    if not len(wrong):
        return None
    names = component_names(len(components.residuals))
    return (
        f"{len(wrong)} of {len(names)} components are not settled, the first is {names[wrong[0]]} "
        f"(relative residual {components.residuals[wrong[0]]:.3f}, limit {SETTLED:g}): do not use them. Ask for fewer with "
        f"--components {max(int(wrong[0]), 1)}, or allow more passes with --max-passes."
    )


def _check_sizes(operator: GenotypeOperator, config: PcaConfig, data: GenotypeData) -> None:
    if operator.n_variants == 0:
        raise VariantMismatchError(
            f"No variant of '{data.path}' that varies among the {operator.n_samples:,} samples is left: relax the filters."
        )
    most = min(operator.n_samples - 1, operator.n_variants)
    if config.n_components > most:
        raise ParameterError(
            f"{config.n_components} components were asked for, but {operator.n_samples:,} samples and "
            f"{operator.n_variants:,} variants have at most {most:,}: lower --components."
        )


def _check_rank(pairs: Eigenpairs, trace: float) -> None:
    """Refuse components along which nobody differs, whose direction is rounding."""
    real = int(np.count_nonzero(pairs.values > 1e-6 * trace))
    if real < len(pairs.values):
        raise ParameterError(
            f"{len(pairs.values)} components were asked for, but the genotypes differ along {real} only: lower --components "
            f"to {max(real, 1)}."
        )


def _loadings(operator: GenotypeOperator, pairs: Eigenpairs) -> tuple[NDArray[np.float64], VariantWeights]:
    """Return the components and their loadings `V = Z U / ‖Z u‖`, signs such that the largest loading is positive."""
    genotypes = operator.genotypes
    V = variant_products(genotypes, pairs.vectors).astype(np.float64)
    norms = np.linalg.norm(V, axis=0)
    largest = V[np.abs(V).argmax(axis=0), np.arange(V.shape[1])]
    signs = np.where(largest < 0, -1.0, 1.0)
    V *= signs / norms
    varies = genotypes.scaling.scale != 0
    scaling = genotypes.scaling[varies]
    weights = VariantWeights(
        variants=table_of(genotypes.source.store, genotypes.source.variants[varies]), frequency=scaling.mean / 2,
        scale=scaling.scale, names=component_names(V.shape[1]), W=V[varies], kind="loadings",
        extra={"factors": (1 / norms).tolist(), "eigenvalues": pairs.values.tolist(), "m": operator.m,
               "n_samples": operator.n_samples},
    )  # fmt: skip
    return np.asarray(pairs.vectors * signs, dtype=np.float64), weights


def _projected(
    genotypes: StandardisedGenotypes, loadings: VariantWeights, sample_index: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the components of other samples of the same genotypes: `Zᵀ V / ‖Z u‖`."""
    varies = genotypes.scaling.scale != 0
    source = ChosenGenotypes.choose(genotypes.source.store, sample_index, genotypes.source.variants[varies])
    scores = sample_products(with_scaling(source, genotypes.scaling[varies]), loadings.W)
    return scores * factors_of(loadings)


def factors_of(loadings: VariantWeights) -> NDArray[np.float64]:
    """Return (k,) what turns `Zᵀ V` into components of the reference's scale: 1 / √(m λ)."""
    factors: Sequence[float] = loadings.extra["factors"]
    return np.array(factors, dtype=np.float64)
