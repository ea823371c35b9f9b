"""From genotypes to a relatedness matrix on disk, tile by tile."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from biolmm.chunks import map_tasks, n_threads
from biolmm.errors import MemoryBudgetError, ParameterError, VariantMismatchError
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.scaling import Scale
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import StandardisedGenotypes, standardise
from biolmm.memory import Need, StagePlan, format_bytes
from biolmm.relatedness.grm import Grm
from biolmm.relatedness.tiles import (
    PROCESS_BYTES,
    GramJob,
    Layer,
    MissingRule,
    Panel,
    compute_panel,
    panel_bytes,
    plan_panels,
)
from biolmm.stages import content_hash
from biolmm.store.matrix import PAIR_WEIGHT, RELATEDNESS, WHOLE, TileGrid
from biolmm.store.matrix_write import MatrixTables, MatrixWriter, remove_matrix

log = logging.getLogger(__name__)

TILE_SAMPLES = 2048
SMALLEST_TILE = 256
MAX_COLUMNS = 32
"""Tiles of a panel, at most."""
PANELS_A_THREAD = 4
"""Panels are narrow enough that every thread gets about so many."""


@dataclass(frozen=True)
class GrmConfig:
    """How relatedness is measured.

    Attributes
    ----------
    alpha, scale
        See `scaling_from_moments`.
    missing
        `mean`: a missing genotype counts as the mean, `K = ZᵀZ / m`; `pairwise`: each pair is divided by the variants that
        both have (GCTA, PLINK).
    per_contig
        Keep the matrix of every contig too, so that any can be left out.
    filters
        Which variants are good enough.
    tile_samples
        Side of a tile, a multiple of 64; by default 2,048, or less where memory is short.
    """

    alpha: float = -1.0
    scale: Scale = "hwe"
    missing: MissingRule = "mean"
    per_contig: bool = False
    filters: VariantFilters = field(default_factory=VariantFilters)
    tile_samples: int | None = None

    def __post_init__(self) -> None:
        if self.missing not in ("mean", "pairwise"):
            raise ParameterError(f"missing is {self.missing!r} but must be 'mean' or 'pairwise'.")
        if self.tile_samples is not None and (self.tile_samples <= 0 or self.tile_samples % 64):
            raise ParameterError(f"tiles of {self.tile_samples:,} samples: give a positive multiple of 64.")


@dataclass(frozen=True)
class GrmPlan:
    """How the work is cut.

    Attributes
    ----------
    tile_samples
        Side of a tile.
    max_columns
        Tiles of a panel.
    stage
        What it costs.
    """

    tile_samples: int
    max_columns: int
    stage: StagePlan


def plan_grm(source: ChosenGenotypes, config: GrmConfig, memory_bytes: int) -> GrmPlan:
    """Choose tiles and panels that fit a memory budget.

    Raises
    ------
    MemoryBudgetError
        When not even the smallest tiles fit.

    Notes
    -----
    Wide panels read fewer times. Where all rows stay in memory, reading costs nothing, and panels are narrow.
    """
    n, threads = source.n_samples, n_threads()
    kept_in_memory = source.reader.cache_bytes >= source.n_bytes
    budget = memory_bytes - PROCESS_BYTES - min(source.reader.cache_bytes, source.n_bytes)
    kinds = {"pairwise": config.missing == "pairwise", "per_contig": config.per_contig}
    tile = config.tile_samples or min(TILE_SAMPLES, -(-n // 64) * 64)
    while config.tile_samples is None and tile > SMALLEST_TILE and threads * panel_bytes(tile, 1, **kinds) > budget:
        tile = max(SMALLEST_TILE, tile // 2 // 64 * 64)
    if threads * panel_bytes(tile, 1, **kinds) > budget:
        raise MemoryBudgetError(
            f"Tiles of {tile:,} samples need {format_bytes(threads * panel_bytes(tile, 1, **kinds))} on {threads} threads, "
            f"but {format_bytes(max(budget, 0))} are left of the {format_bytes(memory_bytes)} of --memory beside the "
            f"interpreter ({format_bytes(PROCESS_BYTES)}) and the genotypes. Raise --memory or lower --threads."
        )
    grid = TileGrid(n, tile)
    n_tiles = len(grid.tiles())
    columns = min(4 if kept_in_memory else MAX_COLUMNS, max(1, n_tiles // (PANELS_A_THREAD * threads)))
    while columns > 1 and threads * panel_bytes(tile, columns, **kinds) > budget:
        columns -= 1
    n_panels = len(plan_panels(grid.tiles(), columns))
    n_layers = 1 + (len(source.store.contig_id) if config.per_contig else 0)
    written = n_tiles * tile**2 * 4 * n_layers * (2 if kinds["pairwise"] else 1)
    stage = StagePlan(
        stage="grm",
        n_tasks=n_panels,
        n_passes=1 if kept_in_memory else 1 + n_panels,
        read_bytes=source.n_bytes * (1 if kept_in_memory else 1 + n_panels),
        written_bytes=written,
        flop=float(n) ** 2 * source.n_variants,
        needs=(
            Need("interpreter and libraries", PROCESS_BYTES),
            Need("genotypes kept", min(source.reader.cache_bytes, source.n_bytes)),
            Need(f"{threads} panels of {columns} tiles", threads * panel_bytes(tile, columns, **kinds)),
        ),
    )
    return GrmPlan(tile, columns, stage)


def build_grm(
    source: ChosenGenotypes,
    out: Path | str,
    config: GrmConfig | None = None,
    *,
    memory_bytes: int,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> Grm:
    """Write `K = ZᵀZ / m` to `out`, a Zarr group of tiles, and open it.

    Killed at any moment, the same call goes on with the tiles that are missing.

    Parameters
    ----------
    source
        Samples and variants.
    out
        Where it goes.
    config
        How relatedness is measured.
    memory_bytes
        Budget, rows kept in memory included.
    overwrite
        Replace a matrix that is there.
    provenance
        Kept with it, as JSON.

    Raises
    ------
    OutputError
        When something is at `out` already, or it cannot be written.
    VariantMismatchError
        When no variant varies.
    MemoryBudgetError
        When not even small tiles fit.

    Notes
    -----
    **Cost**: N²·M flop; one reading of the genotypes a panel (`plan_grm`), or one in all where they fit in memory.
    """
    config = config or GrmConfig()
    plan = plan_grm(source, config, memory_bytes)
    if overwrite:
        remove_matrix(Path(out))
    genotypes = standardise(source, config.alpha, config.scale, config.filters)
    layers, tables = _layers(genotypes, config.per_contig)
    if tables.layer_m[0] <= 0:
        raise VariantMismatchError(
            f"None of {source.n_variants:,} variants of '{source.store.path}' that were chosen varies and passes the "
            "filters: there is nothing to measure relatedness with."
        )
    settings = {**asdict(config), "tile_samples": plan.tile_samples}
    key = content_hash(
        settings, genotypes.source.reader.key, genotypes.scaling.mean.tobytes(), genotypes.scaling.scale.tobytes()
    )
    writer = MatrixWriter.begin(
        Path(out), tables, tile_samples=plan.tile_samples, key=key,
        arrays=(RELATEDNESS, PAIR_WEIGHT) if config.missing == "pairwise" else (RELATEDNESS,),
        attributes={
            "settings": settings,
            "genotypes": source.store.fingerprint,
            "filtered": genotypes.filtered,
            "provenance": dict(provenance or {}),
        },
    )  # fmt: skip
    finished = writer.finished_tiles()
    if finished:
        log.info("grm: %s of %s tiles are there already", f"{len(finished):,}", f"{len(writer.grid.tiles()):,}")
    panels = plan_panels(set(writer.grid.tiles()) - finished, plan.max_columns)
    job = GramJob(genotypes.source.reader, layers, float(tables.layer_m[0]), config.missing, writer)
    map_tasks(compute_panel, _largest_first(panels), job)
    return Grm.open(writer.publish())


def _largest_first(panels: list[Panel]) -> list[Panel]:
    return sorted(panels, key=lambda panel: -len(panel.columns))


def _layers(genotypes: StandardisedGenotypes, per_contig: bool) -> tuple[tuple[Layer, ...], MatrixTables]:
    """Cut variants into what is added up, and describe the layers of the matrix."""
    store = genotypes.source.store
    sample_index = genotypes.source.reader.sample_index
    weight, varies = genotypes.scaling.weight, genotypes.scaling.scale != 0
    contig = store.variant_contig[genotypes.source.variants]
    names, m, n = [WHOLE], [float(weight.sum())], [int(np.count_nonzero(varies))]
    if not per_contig:
        layers = [Layer(genotypes.tasks, m[0])]
    else:
        layers = []
        for index in np.unique(contig).tolist():
            mine = contig == index
            tasks = tuple(task for task in genotypes.tasks if task.partition.contig == index)
            names.append(store.contig_id[index])
            m.append(float(weight[mine].sum()))
            n.append(int(np.count_nonzero(varies[mine])))
            layers.append(Layer(tasks, m[-1], len(names) - 1))
    tables = MatrixTables(
        store.sample_id[sample_index], store.family_id[sample_index], tuple(names), np.array(m), np.array(n)
    )
    return tuple(layers), tables
