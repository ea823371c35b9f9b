"""LD score regression of products of z on LD scores: IRWLS in two steps, with estimates without each block.

    E[z₁ z₂] = √(N₁N₂) ρ ℓ / M + a                z₁ = z₂: ρ is h² and a the intercept, 1 + what inflates χ² but not by LD

(Bulik-Sullivan et al. 2015, doi 10.1038/ng.3211 and ng.3406.) The weights follow the model: start from the mean of y,
fit and weigh again twice, then the estimate. Step one finds the intercept among variants of χ² below a limit; step two the
slope among all with that intercept fixed. Estimates without a block are differences of sums, not refits; weights stay.
A fixed intercept leaves step two alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks
from biolmm.errors import ParameterError
from biolmm.sumstats.ldsc.jackknife import N_BLOCKS
from biolmm.sumstats.ldsc.kernels import add_up, count_and_mean, find_edges

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

TWO_STEP = 30.0
RE_WEIGHTINGS = 2
LEAST_VARIANTS = 50
"""Fewer variants than this make no regression."""


@dataclass(frozen=True)
class RegressionConfig:
    """How to regress.

    Attributes
    ----------
    n_blocks
        Of the jackknife.
    two_step
        Limit of χ² in the first step; None: intercept and slope in one step, from all variants.
    """

    n_blocks: int = N_BLOCKS
    two_step: float | None = TWO_STEP

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.n_blocks < 2:
            raise ParameterError(f"the jackknife needs at least 2 blocks, not {self.n_blocks}.")
        if self.two_step is not None and not self.two_step > 0:
            raise ParameterError(f"the limit of χ² in the first step is {self.two_step:g} but must be above 0.")


@dataclass(frozen=True, eq=False)
class RegressionData:
    """T traits at n variants in genome order.

    Attributes
    ----------
    Z, N
        (T, n) statistics, NaN where a trait has no such variant, and sample sizes.
    ld, w_ld
        (n,) LD scores: with all variants of the reference, and with those of the regression.
    m
        M, how many variants the reference has.
    """

    Z: Matrix
    N: Matrix
    ld: Vector
    w_ld: Vector
    m: float

    @cached_property
    def root_n(self) -> Matrix:
        """√(N / M), (T, n)."""
        return np.sqrt(self.N / self.m)

    @cached_property
    def weighing(self) -> tuple[Vector, Vector]:
        """max(ℓ, 1) and 1 / max(ℓ^w, 1), (n,) each."""
        return np.maximum(self.ld, 1.0), 1 / np.maximum(self.w_ld, 1.0)


@dataclass(frozen=True, eq=False)
class Fits:
    """P regressions to do.

    Attributes
    ----------
    traits
        (P, 3) i, j and k: y = z_i z_j, over variants that k has as well.
    fixed
        (P,) intercept, NaN where it is to be estimated.
    null
        Intercept to start with: 1 for χ², 0 for products.
    models
        (P, 4) h₁, a₁, h₂, a₂ of the weights; NaN where they are those of the fit itself.
    """

    traits: NDArray[np.int64]
    fixed: Vector
    null: float
    models: Matrix

    def model(self, slope: Vector, intercept: Vector) -> Matrix:
        """Give the six numbers that weights depend on, (P, 6)."""
        own = np.isnan(self.models[:, :1])
        h = np.clip(slope, 0.0, 1.0)
        mine = np.column_stack([h, intercept, h, intercept])
        rho = np.where(own[:, 0], h, np.clip(slope, -1.0, 1.0))
        given = np.where(own, mine, self.models)
        given[:, [0, 2]] = np.clip(given[:, [0, 2]], 0.0, 1.0)
        return np.column_stack([given, rho, intercept])


@dataclass(frozen=True, eq=False)
class Fitted:
    """Estimates of P regressions.

    Attributes
    ----------
    slope, intercept
        (P,) NaN where there were too few variants.
    slopes, intercepts
        (P, B) without each block.
    free
        (P,) whether the intercept was estimated.
    n_variants, n_first
        (P,) in the regression, and of these in step one.
    mean
        (P,) of y.
    """

    slope: Vector
    intercept: Vector
    slopes: Matrix
    intercepts: Matrix
    free: NDArray[np.bool_]
    n_variants: NDArray[np.int64]
    n_first: NDArray[np.int64]
    mean: Vector


def regress(data: RegressionData, fits: Fits, config: RegressionConfig | None = None) -> Fitted:
    """Do the regressions, all of them in the same passes over the variants.

    Notes
    -----
    **Cost**: eight passes, about 1 ns a variant and fit each; the variants' data once a pass. Sums are those of blocks, so
    that results do not depend on the number of workers.
    """
    config = config or RegressionConfig()
    P, free = len(fits.traits), np.isnan(fits.fixed)
    data.root_n, data.weighing  # once, before threads share them  # noqa: B018
    no_limit = np.full(P, np.inf)
    step_limit = np.where(free, np.inf if config.two_step is None else config.two_step, np.inf)
    counts, means = np.empty((P, 2), np.int64), np.empty((P, 2))
    for rows, counted, mean in map_tasks(
        _count, np.array_split(np.arange(P), min(P, 64)), (data, fits.traits, step_limit)
    ):
        counts[rows], means[rows] = counted, mean
    enough = counts[:, 1] >= max(LEAST_VARIANTS, 2)
    n_blocks = int(min(config.n_blocks, counts[enough, 1].min(initial=config.n_blocks)))
    targets = np.array([np.floor(np.linspace(0, n, n_blocks + 1)) for n in counts[:, 1]]).astype(np.int64)
    edges = np.empty((P, n_blocks + 1), np.int64)
    for rows, found in map_tasks(
        _edges, np.array_split(np.arange(P), min(P, 64)), (data, fits.traits, step_limit, targets)
    ):
        edges[rows] = found

    def sums(limit: Vector, slope: Vector, intercept: Vector) -> Matrix:
        return _sums(data, fits.traits, limit, edges, fits.model(slope, intercept))

    with np.errstate(divide="ignore", invalid="ignore"):
        start = np.where(free, fits.null, fits.fixed)
        slope, intercept = (means[:, 0] - start) / means[:, 1], start.copy()
        intercepts = np.repeat(start[:, None], n_blocks, axis=1)
        if free.any():
            part = sums(step_limit, slope, start)
            for _ in range(RE_WEIGHTINGS):
                part = sums(step_limit, *_line(part.sum(axis=1)))
            line = _line(part.sum(axis=1))
            lines = _line(part.sum(axis=1)[:, None] - part)
            intercept, intercepts = np.where(free, line[1], start), np.where(free[:, None], lines[1], intercepts)
        if free.any() and config.two_step is None:
            one = line[0], lines[0]
        part = first = sums(no_limit, slope, start)
        for _ in range(RE_WEIGHTINGS):
            part = sums(no_limit, _through(part.sum(axis=1), intercept), intercept)
        total = part.sum(axis=1)
        slope = _through(total, intercept)
        slopes = _through(total[:, None] - part, intercept[:, None])
        tilt = first[..., 1].sum(axis=1) / first[..., 2].sum(axis=1)
        slopes = slopes - np.where(free, tilt, 0.0)[:, None] * (intercepts - intercept[:, None])
        if free.any() and config.two_step is None:
            slope, slopes = np.where(free, one[0], slope), np.where(free[:, None], one[1], slopes)
    bad = ~enough
    slope[bad], intercept[bad], slopes[bad], intercepts[bad] = np.nan, np.nan, np.nan, np.nan
    return Fitted(slope, intercept, slopes, intercepts, free, counts[:, 0], counts[:, 1], means[:, 0])


def _line(sums: Matrix) -> tuple[Matrix, Matrix]:
    """Solve for slope and intercept from Σ w (1, x, x², y, xy)."""
    s0, sx, sxx, sy, sxy = np.moveaxis(sums, -1, 0)
    determinant = s0 * sxx - sx * sx
    slope = (s0 * sxy - sx * sy) / determinant
    return slope, (sy - slope * sx) / s0


def _through(sums: Matrix, intercept: Matrix) -> Matrix:
    """Solve for the slope with the intercept given."""
    _, sx, sxx, _, sxy = np.moveaxis(sums, -1, 0)
    return np.asarray((sxy - intercept * sx) / sxx)


def _count(rows: NDArray[np.int64], shared: tuple[RegressionData, NDArray[np.int64], Vector]):  # type: ignore[no-untyped-def]
    data, traits, limit = shared
    counts, means = np.empty((len(rows), 2), np.int64), np.empty((len(rows), 2))
    count_and_mean(data.Z, data.root_n, data.ld, traits[rows], limit[rows], counts, means)
    return rows, counts, means


def _edges(rows: NDArray[np.int64], shared: tuple[RegressionData, NDArray[np.int64], Vector, NDArray[np.int64]]):  # type: ignore[no-untyped-def]
    data, traits, limit, targets = shared
    edges = np.empty((len(rows), targets.shape[1]), np.int64)
    find_edges(data.Z, traits[rows], limit[rows], targets[rows], edges)
    return rows, edges


@dataclass(frozen=True, eq=False)
class _Pass:
    data: RegressionData
    traits: NDArray[np.int64]
    limit: Vector
    edges: NDArray[np.int64]
    model: Matrix


def _sums(
    data: RegressionData, traits: NDArray[np.int64], limit: Vector, edges: NDArray[np.int64], model: Matrix
) -> Matrix:
    n_blocks = edges.shape[1] - 1
    out = np.empty((len(traits), n_blocks, 5))
    shared = _Pass(data, traits, limit, edges, model)
    items = [(int(part[0]), int(part[-1]) + 1) for part in np.array_split(np.arange(n_blocks), min(n_blocks, 32))]
    for (first, last), part in zip(items, map_tasks(_add_up, items, shared), strict=True):
        out[:, first:last] = part
    return out


def _add_up(blocks: tuple[int, int], shared: _Pass) -> Matrix:
    data = shared.data
    out = np.empty((len(shared.traits), blocks[1] - blocks[0], 5))
    add_up(
        data.Z, data.root_n, data.ld, *data.weighing, shared.traits, shared.limit, shared.edges, shared.model, *blocks, out
    )  # fmt: skip
    return out
