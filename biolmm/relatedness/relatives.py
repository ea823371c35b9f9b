"""Who is related to whom: kinship of every pair from counts of genotypes, robust to population structure.

For samples i and j, over the variants that both have,

    kinship = ½ − (4 · opposite homozygotes + het/hom + hom/het) / (4 · min(het_i, het_j)),

the between-family estimator of KING-robust (Manichaikul et al. 2010, doi 10.1093/bioinformatics/btq559). It needs no allele
frequencies, so that ancestry does not look like kinship; pairs of different ancestry come out below 0.
"""

from __future__ import annotations

import io
import logging
import re
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.atomic import atomic_path, remove
from biolmm.chunks import map_tasks, n_threads
from biolmm.errors import MemoryBudgetError, ParameterError
from biolmm.files.encoding import Encoding, Rows, recode_rows
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.source import ChosenGenotypes, Partition, RowReader
from biolmm.genotypes.standardised import standardise
from biolmm.memory import Need, StagePlan, format_bytes
from biolmm.relatedness.kinship_kernels import count_pairs, fill_planes
from biolmm.relatedness.tiles import PROCESS_BYTES, Panel, plan_panels
from biolmm.stages import content_hash
from biolmm.store.matrix import TileGrid

log = logging.getLogger(__name__)

DEGREE_CUTOFFS = (2**-1.5, 2**-2.5, 2**-3.5, 2**-4.5)
"""Kinship above which a pair is the same person or monozygotic twins (0.354), and of first (0.177), second (0.0884) and
third degree (0.0442)."""

COLUMNS = ("sample_id_1", "sample_id_2", "n_variants", "het_het", "ibs0", "kinship", "degree")

SLAB_VARIANTS = 8192
"""Variants whose genotypes are held as bits at a time."""
TILE_SAMPLES = 1024
MAX_COLUMNS = 8
_COUNTS = 5


@dataclass(frozen=True)
class RelativesConfig:
    """Which pairs are listed.

    Attributes
    ----------
    min_kinship
        Pairs of at least this kinship; 0.0442 is the limit of third degree.
    filters
        Which variants are good enough.
    """

    min_kinship: float = 0.0442
    filters: VariantFilters = field(default_factory=VariantFilters)

    def __post_init__(self) -> None:
        if not -100 <= self.min_kinship <= 0.5:
            raise ParameterError(f"--min-kinship is {self.min_kinship:g} but must be at most 0.5.")


def degree_of(kinship: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the degree of pairs: 0 the same person or monozygotic twins, 1 to 3; −1 further or unrelated.

    Examples
    --------
    >>> degree_of(np.array([0.5, 0.25, 0.125, 0.0625, 0.03])).tolist()
    [0, 1, 2, 3, -1]
    """
    degree = np.sum([np.asarray(kinship) <= cutoff for cutoff in DEGREE_CUTOFFS], axis=0)
    return np.where(degree > 3, -1, degree)


def plan_relatives(source: ChosenGenotypes) -> StagePlan:
    """Say what finding relatives costs: memory for the counts and bits of a panel a thread, and the rows that are kept."""
    tile = min(TILE_SAMPLES, max(source.n_samples, 1))
    panel = MAX_COLUMNS * (_COUNTS * 4 * tile**2) + (MAX_COLUMNS + 1) * 3 * tile * SLAB_VARIANTS // 8
    kept = min(source.reader.cache_bytes, source.n_bytes)
    n_panels = len(plan_panels(TileGrid(max(source.n_samples, 1), tile).tiles(), MAX_COLUMNS))
    n_passes = 1 if kept == source.n_bytes else 1 + n_panels
    needs = (
        Need("interpreter and libraries", PROCESS_BYTES),
        Need("genotypes kept", kept),
        Need("counts of pairs", n_threads() * (panel + 9 * 8 * tile**2)),
    )
    return StagePlan("relatives", n_panels, n_passes, n_passes * source.n_bytes, needs=needs)


def find_relatives(
    source: ChosenGenotypes,
    config: RelativesConfig | None = None,
    *,
    memory_bytes: int | None = None,
    parts: Path | None = None,
    tile_samples: int = TILE_SAMPLES,
) -> pd.DataFrame:
    """List the pairs of samples that are related, the closest first.

    Parameters
    ----------
    source
        Samples and variants: autosomes. Dosages are rounded to calls; those further than 0.1 from a whole number are
        missing.
    config
        Which pairs are listed.
    memory_bytes
        Refuse when more is needed.
    parts
        A folder for what is finished, so that the same call goes on after it was killed.
    tile_samples
        Samples on a side of a tile, a multiple of 4.

    Returns
    -------
    DataFrame of `COLUMNS`: `het_het` and `ibs0` are the shares, of the variants that both have, at which both are
    heterozygous, and opposite homozygotes (near 0 for parent and child). `degree` is empty below third degree.

    Raises
    ------
    MemoryBudgetError
        When it does not fit.

    Notes
    -----
    **Cost**: about 4·10⁻¹² seconds a pair and variant on one core; rows are read once a panel of 8 tiles, or once where
    they stay in memory.
    """
    config = config or RelativesConfig()
    if memory_bytes is not None and (needed := plan_relatives(source).peak_bytes) > memory_bytes:
        raise MemoryBudgetError(
            f"relatives would use {format_bytes(needed)} but --memory is {format_bytes(memory_bytes)}: lower --threads "
            f"or raise --memory to {format_bytes(needed * 1.1)}."
        )
    kept = standardise(source, filters=config.filters).source
    grid = TileGrid(kept.n_samples, tile_samples)
    job = _Job(kept.reader, kept.partitions, grid, config.min_kinship, _parts_folder(parts, kept, config, grid))
    found = map_tasks(_relatives_of_panel, plan_panels(grid.tiles(), MAX_COLUMNS), job)
    pairs = {name: np.concatenate([part[name] for part in found]) for name in _Pairs}
    table = _table(pairs, kept.store.sample_id[kept.reader.sample_index])
    log.info("relatives: %s pairs over %s variants", f"{len(table):,}", f"{kept.n_variants:,}")
    return table


def write_relatives(table: pd.DataFrame, path: Path) -> Path:
    """Write the table as TSV, atomically.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    with atomic_path(path) as aside:
        table.to_csv(aside, sep="\t", index=False, float_format="%.6g")
    return path


_Pairs = ("i", "j", "n_variants", "het_het", "ibs0", "kinship")
Pairs = dict[str, NDArray[np.floating] | NDArray[np.integer]]


@dataclass(frozen=True)
class _Job:
    """What every task needs."""

    reader: RowReader
    partitions: tuple[Partition, ...]
    grid: TileGrid
    min_kinship: float
    parts: Path | None


def _relatives_of_panel(panel: Panel, job: _Job) -> Pairs:
    """Find the related pairs of a panel, or read what an earlier run has found."""
    file = job.parts and job.parts / f"{panel.row}-{panel.columns[0]}-{panel.columns[-1]}.npz"
    if file:
        try:
            with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as saved:
                return {name: saved[name] for name in _Pairs}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass
    counts = _count_panel(panel, job)
    found = [_related(panel.row, column, counts[column], job) for column in panel.columns]
    pairs: Pairs = {name: np.concatenate([part[name] for part in found]) for name in _Pairs}
    if file:
        with atomic_path(file) as aside, aside.open("wb") as handle:
            np.savez(handle, **pairs)  # type: ignore[arg-type]
    return pairs


def _count_panel(panel: Panel, job: _Job) -> dict[int, NDArray[np.int32]]:
    """Count the genotypes of all pairs of a panel, by column: (5, rows, columns)."""
    grid = job.grid
    counts = {column: np.zeros((_COUNTS, *grid.shape(panel.row, column)), np.int32) for column in panel.columns}
    bands = {band: grid.band(band) for band in panel.bands}
    n_words = SLAB_VARIANTS // 64
    planes = {band: np.zeros((3, where.stop - where.start, n_words), np.uint64) for band, where in bands.items()}

    def add(n_variants: int) -> None:
        words = -(-n_variants // 64)
        for column in panel.columns:
            count_pairs(planes[panel.row], planes[column], words, column == panel.row, counts[column])
        for each in planes.values():
            each[:] = 0

    filled = 0
    for partition in job.partitions:
        for _, rows in job.reader.blocks(partition):
            calls = _calls(rows, job.reader)
            start = 0
            while start < len(calls):
                stop = min(len(calls), start + SLAB_VARIANTS - filled)
                for band, where in bands.items():
                    part = calls[start:stop, where.start // 4 : -(-where.stop // 4)]
                    fill_planes(part, filled, planes[band])
                filled, start = filled + stop - start, stop
                if filled == SLAB_VARIANTS:
                    add(filled)
                    filled = 0
    if filled:
        add(filled)
    return counts


def _calls(rows: Rows, reader: RowReader) -> Rows:
    return recode_rows(rows, reader.n_samples, reader.encoding, Encoding.CALLS)


def _related(row: int, column: int, counts: NDArray[np.int32], job: _Job) -> Pairs:
    """Turn the counts of a tile into kinships and keep those above the cutoff."""
    het_het, opposite, het_hom, hom_het, both = counts
    fewer = het_het + np.minimum(het_hom, hom_het)
    kinship = np.full(fewer.shape, -np.inf)  # unknown where one has no heterozygous genotype
    np.divide(4.0 * opposite + het_hom + hom_het, 4.0 * fewer, out=kinship, where=fewer > 0)
    kinship = np.where(fewer > 0, 0.5 - kinship, -np.inf)
    kept = np.isfinite(kinship) & (kinship >= job.min_kinship)
    if row == column:
        kept = np.triu(kept, 1)
    i, j = np.nonzero(kept)
    n = both[kept]
    return {
        "i": i + job.grid.band(row).start,
        "j": j + job.grid.band(column).start,
        "n_variants": n,
        "het_het": het_het[kept] / n,
        "ibs0": opposite[kept] / n,
        "kinship": kinship[kept],
    }


def _table(pairs: Pairs, sample_id: NDArray[np.str_]) -> pd.DataFrame:
    order = np.lexsort((pairs["j"], pairs["i"], -pairs["kinship"]))
    taken = {name: values[order] for name, values in pairs.items()}
    degree = pd.Series(degree_of(taken["kinship"].astype(np.float64)), dtype="Int64")
    columns = {
        "sample_id_1": sample_id[taken["i"].astype(np.int64)].astype(object),
        "sample_id_2": sample_id[taken["j"].astype(np.int64)].astype(object),
        **{name: taken[name] for name in _Pairs[2:]},
        "degree": degree.mask(degree < 0),
    }
    return pd.DataFrame(columns, columns=list(COLUMNS))


def _parts_folder(parts: Path | None, source: ChosenGenotypes, config: RelativesConfig, grid: TileGrid) -> Path | None:
    """Name a folder of its own for these samples, variants and settings; forget those of others."""
    if parts is None:
        return None
    key = content_hash(source.reader.key, asdict(config), grid.tile_samples, MAX_COLUMNS)
    forget_parts(parts, but=key)
    return parts / key


def forget_parts(parts: Path, but: str = "") -> None:
    """Remove what `find_relatives` has left in a folder, for samples, variants and settings other than `but`."""
    if not parts.is_dir():
        return
    for entry in parts.iterdir():
        if entry.name != but and re.fullmatch(r"[0-9a-f]{32}", entry.name):
            remove(entry)
    with suppress(OSError):
        parts.rmdir()  # where nothing is left
