"""Kinship given ancestry: what two samples share beyond what their principal components say.

With μ_iv the allele frequency that the components predict for sample i at variant v (half of its fitted dosage),

    kinship_ij = Σ_v (g_iv − 2 μ_iv)(g_jv − 2 μ_jv) / 4 Σ_v √( μ_iv (1−μ_iv) μ_jv (1−μ_jv) )

over variants that both have and whose μ lie between 0.01 and 0.99 in both (PC-Relate: Conomos et al. 2016,
doi 10.1016/j.ajhg.2015.11.022). Unlike KING-robust it holds for people of mixed ancestry.

Legend: b variants of a slab; k components and the intercept; V (N, k); β (M, k); T samples of a band.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.chunks import map_tasks, n_threads
from biolmm.errors import ParameterError
from biolmm.genotypes.source import ChosenGenotypes, RowReader
from biolmm.genotypes.standardised import PartitionTask, standardise
from biolmm.linalg.blas import add_product
from biolmm.memory import Need, StagePlan
from biolmm.relatedness.relatives import RelativesConfig, degree_of
from biolmm.relatedness.slabs import Band, read_slabs, slab_bytes
from biolmm.relatedness.tiles import EXACT_EVERY, PROCESS_BYTES, Panel, plan_panels
from biolmm.store.matrix import TileGrid

TILE_SAMPLES = 1024
MAX_COLUMNS = 4
LOWEST_FREQUENCY = 0.01
"""Predicted frequencies nearer to 0 or 1 do not count."""

COLUMNS = ("sample_id_1", "sample_id_2", "kinship", "degree")


def plan_pc_relatives(source: ChosenGenotypes, n_components: int = 20) -> StagePlan:
    """Say what kinship given components costs: the sums and slabs of a panel a thread, frequencies, and the rows kept."""
    tile = min(TILE_SAMPLES, max(source.n_samples, 1))
    panel = MAX_COLUMNS * 24 * tile**2 + 2 * slab_bytes([tile] * (MAX_COLUMNS + 1)) + 24 * tile**2
    kept = min(source.reader.cache_bytes, source.n_bytes)
    n_panels = len(plan_panels(TileGrid(max(source.n_samples, 1), tile).tiles(), MAX_COLUMNS))
    n_passes = 1 if kept == source.n_bytes else 2 + n_panels
    needs = (
        Need("interpreter and libraries", PROCESS_BYTES),
        Need("genotypes kept", kept),
        Need("panels", n_threads() * max(panel, slab_bytes([source.n_samples]))),
        Need("frequencies", source.n_variants * (n_components + 1) * 12),
    )
    flop = 2 * float(source.n_samples) ** 2 * source.n_variants
    return StagePlan("relatives", n_panels, n_passes, n_passes * source.n_bytes, flop=flop, needs=needs)


def pc_relatives(
    source: ChosenGenotypes,
    components: NDArray[np.floating],
    config: RelativesConfig | None = None,
    *,
    training: NDArray[np.bool_] | None = None,
    tile_samples: int = TILE_SAMPLES,
) -> pd.DataFrame:
    """List the pairs of samples that are related given their ancestry, the closest first.

    Parameters
    ----------
    source
        Samples and variants: autosomes.
    components
        (N, k) principal components of ancestry, better of unrelated people with the others projected.
    config
        Which pairs are listed.
    training
        (N,) samples that frequencies are fitted on; all by default. Relatives among them pull kinship towards 0.
    tile_samples
        Samples on a side of a tile, a multiple of 4.

    Returns
    -------
    DataFrame of `COLUMNS`; `degree` is empty below third degree.

    Raises
    ------
    ParameterError
        When there are not more training samples than components, or a component is not finite.

    Notes
    -----
    **Cost**: as two relatedness matrices, and one pass for the frequencies. Missing genotypes count as the mean where
    frequencies are fitted.
    """
    config = config or RelativesConfig()
    V = np.column_stack([np.ones(source.n_samples), components])
    fitted_on = np.ones(len(V), dtype=bool) if training is None else training
    if not np.isfinite(V).all():
        raise ParameterError(
            f"{int((~np.isfinite(V)).any(axis=1).sum()):,} samples have components that are not finite."
        )
    if np.linalg.matrix_rank(V[fitted_on]) < V.shape[1]:
        raise ParameterError(
            f"{V.shape[1] - 1} components cannot be fitted on {int(fitted_on.sum()):,} samples: they are not independent there."
        )
    genotypes = standardise(source, filters=config.filters)
    reader = genotypes.source.reader
    solver = np.zeros((V.shape[1], len(V)))
    solver[:, fitted_on] = np.linalg.pinv(V[fitted_on])
    means = np.maximum(genotypes.scaling.mean, 0.0)
    beta = _fit(reader, genotypes.tasks, solver, means)
    grid = TileGrid(source.n_samples, tile_samples)
    counted = tuple(_count_copies(task) for task in genotypes.tasks)
    job = _Job(reader, counted, grid, V.astype(np.float32), beta, config.min_kinship)
    found = map_tasks(_relatives_of_panel, plan_panels(grid.tiles(), MAX_COLUMNS), job)
    i, j, kinship = (np.concatenate([part[k] for part in found]) for k in range(3))
    order = np.lexsort((j, i, -kinship))
    ids = source.store.sample_id[reader.sample_index].astype(object)
    degree = pd.Series(degree_of(kinship[order]), dtype="Int64")
    columns = (ids[i[order]], ids[j[order]], kinship[order], degree.mask(degree < 0))
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


@dataclass(frozen=True)
class _Job:
    """What every task needs."""

    reader: RowReader
    tasks: tuple[PartitionTask, ...]
    grid: TileGrid
    V: NDArray[np.float32]
    beta: NDArray[np.float32]
    min_kinship: float


def _count_copies(task: PartitionTask) -> PartitionTask:
    """Map genotypes to copies of ALT, and missing ones to −1."""
    tables = np.tile(np.array([0, 1, 2, -1], np.float32), (len(task.tables), 1))
    return replace(task, tables=tables, male_tables=None)


def _fit(
    reader: RowReader, tasks: tuple[PartitionTask, ...], solver: NDArray[np.float64], means: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Regress every variant on the components, (M, k): half the coefficients of its dosages."""
    stops = np.cumsum([len(task.partition.variants) for task in tasks])
    centred, start = [], 0
    for task, stop in zip(tasks, stops.tolist(), strict=True):
        tables = np.array([0.0, 1.0, 2.0, 0.0]) - means[start:stop, None]
        tables[:, 3] = 0.0
        centred.append(replace(task, tables=tables.astype(np.float32), male_tables=None))
        start = stop
    # The mean is in the span of the intercept, but not where few samples are fitted on: it is put back by hand.
    parts = map_tasks(_fit_partition, centred, (reader, np.ascontiguousarray(solver.T, np.float32)))
    beta = np.concatenate(parts).astype(np.float64)
    beta += means[:, None] * solver.sum(axis=1)
    return (beta / 2).astype(np.float32)


def _fit_partition(task: PartitionTask, shared: tuple[RowReader, NDArray[np.float32]]) -> NDArray[np.float32]:
    reader, solver = shared
    everyone = [slice(0, reader.n_samples)]
    parts = [slab.bands[0] @ solver for slab in read_slabs(reader, (task,), everyone)]
    return np.concatenate(parts)


Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _relatives_of_panel(panel: Panel, job: _Job) -> Found:
    """Return rows, columns and kinship of the related pairs of a panel."""
    bands = [job.grid.band(index) for index in panel.bands]
    place = {band: i for i, band in enumerate(panel.bands)}
    shapes = {column: job.grid.shape(panel.row, column) for column in panel.columns}
    exact = {column: np.zeros((2, *shape)) for column, shape in shapes.items()}
    recent = {column: np.zeros((2, *shape), np.float32) for column, shape in shapes.items()}
    first, n_recent = 0, 0

    def flush() -> None:
        for column in panel.columns:
            exact[column] += recent[column]
            recent[column][:] = 0.0

    for slab in read_slabs(job.reader, job.tasks, bands):
        beta = job.beta[first : first + len(slab)]
        first, n_recent = first + len(slab), n_recent + len(slab)
        spreads = [_residuals(copies, beta @ job.V[band].T) for copies, band in zip(slab.bands, bands, strict=True)]
        for column in panel.columns:
            k = place[column]
            add_product(recent[column][0], slab.bands[0], slab.bands[k], transposed=True)
            add_product(recent[column][1], spreads[0], spreads[k], transposed=True)
        if n_recent >= EXACT_EVERY:
            flush()
            n_recent = 0
    flush()
    found = [_related(panel.row, column, exact[column], job) for column in panel.columns]
    rows, columns, kinship = (np.concatenate([part[k] for part in found]) for k in range(3))
    return rows, columns, kinship


def _residuals(copies: Band, frequency: Band) -> Band:
    """Turn copies of ALT into what the frequency leaves over, in place, and the frequency into √(μ(1−μ)); 0 without either."""
    _leave_over(copies, frequency, np.float32(LOWEST_FREQUENCY))
    return frequency


@numba.njit(nogil=True, cache=True)
def _leave_over(copies, frequency, lowest):  # type: ignore[no-untyped-def]  # pragma: no cover
    for v in range(copies.shape[0]):
        for i in range(copies.shape[1]):
            p = frequency[v, i]
            counts = copies[v, i] >= 0 and p > lowest and p < np.float32(1) - lowest
            copies[v, i] = copies[v, i] - np.float32(2) * p if counts else np.float32(0)
            frequency[v, i] = np.sqrt(p * (np.float32(1) - p)) if counts else np.float32(0)


def _related(row: int, column: int, sums: NDArray[np.float64], job: _Job) -> Found:
    kinship = np.full(sums.shape[1:], -np.inf)
    np.divide(sums[0], 4 * sums[1], out=kinship, where=sums[1] > 0)
    kept = kinship >= job.min_kinship
    kept &= np.isfinite(kinship)
    if row == column:
        kept = np.triu(kept, 1)
    i, j = np.nonzero(kept)
    return i + job.grid.band(row).start, j + job.grid.band(column).start, kinship[kept]
