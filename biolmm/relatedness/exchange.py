"""Matrices of other programs into ours, and ours into theirs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks
from biolmm.files.gcta_grm import ReadRows, write_gcta_grm
from biolmm.files.plink_rel import Shape, write_plink_rel
from biolmm.relatedness.grm import Grm
from biolmm.stages import content_hash
from biolmm.store.matrix import PAIR_WEIGHT, RELATEDNESS, WHOLE
from biolmm.store.matrix_write import MatrixTables, MatrixWriter, remove_matrix


def export_gcta(grm: Grm, prefix: Path) -> Path:
    """Write a matrix as GCTA's `.grm.bin`, `.grm.id` and, where the number of variants is known, `.grm.N.bin`.

    Returns
    -------
    The `.grm.bin`.

    Raises
    ------
    OutputError
        When a file cannot be written.

    Notes
    -----
    N is the number of variants of each pair; with weights other than 1 (α other than −1), the share of the weights that
    the pair has, times the number of variants.
    """
    return write_gcta_grm(prefix, grm.sample_id, grm.family_id, _rows(grm), _counts(grm))


def export_plink(grm: Grm, path: Path, *, shape: Shape = "square", dtype: str = "<f8") -> Path:
    """Write a matrix as PLINK's `.rel.bin` and `.rel.id`.

    Raises
    ------
    OutputError
        When a file cannot be written.
    """
    n = grm.n_samples
    rows = (
        (lambda start, stop: grm.submatrix(np.arange(start, stop), np.arange(n))) if shape == "square" else _rows(grm)
    )
    return write_plink_rel(path, grm.sample_id, grm.family_id, rows, shape=shape, dtype=dtype)


def _rows(grm: Grm) -> ReadRows:
    return lambda start, stop: grm.submatrix(np.arange(start, stop), np.arange(stop))


def _counts(grm: Grm) -> ReadRows | None:
    """Give the number of variants of every pair; None where it is not known."""
    if grm.has_pair_weights:
        share = grm.n_variants / grm.m if grm.n_variants >= 0 else 1.0
        return lambda start, stop: share * grm.weights(np.arange(start, stop), np.arange(stop))
    if grm.n_variants < 0:
        return None
    return lambda start, stop: np.full((stop - start, stop), grm.n_variants, np.float32)


@dataclass(frozen=True)
class _Copy:
    """What a task that copies tiles needs."""

    grm: Grm
    writer: MatrixWriter


def import_grm(grm: Grm, out: Path, *, overwrite: bool = False) -> Grm:
    """Copy a matrix, such as one of GCTA or PLINK, to a Zarr group of tiles at `out`, and open it; goes on where it stopped.

    The precision stays. What was divided by counts keeps them.

    Raises
    ------
    OutputError
        When something is at `out` already, or it cannot be written.
    InputFileError
        When the matrix cannot be read.
    """
    if overwrite:
        remove_matrix(out)
    m = grm.m if np.isfinite(grm.m) else 0.0
    layers = (WHOLE, *grm.contigs)
    tables = MatrixTables(
        grm.sample_id, grm.family_id, layers, np.concatenate([[m], grm.contig_m]),
        np.concatenate([[grm.n_variants], np.full(len(grm.contigs), -1)]).astype(np.int64),
    )  # fmt: skip
    status = grm.path.stat()
    key = content_hash(str(grm.path.absolute()), status.st_size, status.st_mtime_ns)
    writer = MatrixWriter.begin(
        out, tables, tile_samples=grm.grid.tile_samples, key=key, dtype=grm.source.dtype.name,
        arrays=(RELATEDNESS, PAIR_WEIGHT) if grm.has_pair_weights else (RELATEDNESS,),
        attributes={"settings": {}, "provenance": {"imported": str(grm.path.absolute())}},
    )  # fmt: skip
    missing = sorted(set(writer.grid.tiles()) - writer.finished_tiles())
    map_tasks(_copy_tile, missing, _Copy(grm, writer))
    return Grm.open(writer.publish())


def _copy_tile(tile: tuple[int, int], copy: _Copy) -> None:
    parts = []
    for array in copy.writer.arrays:
        for layer in range(copy.writer.n_layers):
            values: NDArray[np.floating] = copy.grm.source.read_tile(array, layer, *tile)
            parts.append(copy.writer.write_part(array, layer, *tile, values))
    copy.writer.mark(*tile, parts)
