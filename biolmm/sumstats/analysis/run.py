"""From a store to a folder of results: pass 1 for what spans variants, pass 2 chunk by chunk, then loci and plots.

    out/meta/part-*.parquet    every variant
    out/loci.tsv               leads of the fixed-effects result, whole rows
    out/plots/                 Manhattan and QQ
    out/meta.json              options, studies, λ, axes, counts; written last

A chunk's receipt is written when its part is there: a killed run, given again, computes the others only.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biolmm.atomic import saving, write_json
from biolmm.chunks import map_tasks, n_threads
from biolmm.memory import Need, StagePlan
from biolmm.results.folder import claim_folder, now
from biolmm.results.record import machine_description, package_version
from biolmm.stages import content_hash
from biolmm.sumstats.analysis.columns import analyse
from biolmm.sumstats.analysis.finish import LOCI, PLOTS, finish
from biolmm.sumstats.analysis.options import MetaOptions
from biolmm.sumstats.analysis.parts import FOLDER, part_path, variant_columns, write_part
from biolmm.sumstats.analysis.reading import STRETCH_CELLS, Reader
from biolmm.sumstats.analysis.scalars import Scalars, find_scalars
from biolmm.sumstats.matrix.read import SumstatsStore

log = logging.getLogger(__name__)

META_JSON = "meta.json"
RECEIPTS = ".receipts"
_RESULT_BYTES = 8
_FIXED_COLUMNS = 24


@dataclass(frozen=True)
class MetaResult:
    """What a run did: variants written, those in too few studies, loci, parts in all and those that were there."""

    out: Path
    n_variants: int
    n_left_out: int
    n_loci: int
    lambda_result: float
    n_parts: int
    n_resumed: int


def plan_meta(store: SumstatsStore, options: MetaOptions, n_workers: int | None = None) -> list[StagePlan]:
    """Say what a run reads, holds and writes.

    Raises
    ------
    ParameterError
        When the options do not fit the studies.
    """
    reader, workers = Reader.of(store, options), n_workers or n_threads()
    k, rows = len(reader.columns), min(store.chunk_variants, store.n_variants)
    size = 8 if store.exact else 4
    read = size * k * len(reader.wanted(everything=True)) * store.n_variants
    passes = 3 * options.genomic_control + options.overlap + bool(options.axes or options.partition)
    passes += 3 * options.result_control
    width = _FIXED_COLUMNS + _more_columns(options, k)
    workers = min(workers, max(store.n_chunks, 1))
    cells = Need("cells of chunks", workers * rows * k * size * len(reader.wanted(everything=True)))
    doubles = Need("cells in double precision", workers * STRETCH_CELLS * 8 * 16)
    first = StagePlan("scalars", store.n_chunks * passes, passes, read * passes // 2, needs=(cells, doubles))
    results = Need("columns of results", workers * rows * width * _RESULT_BYTES * 3)
    second = StagePlan(
        "meta", store.n_chunks, 1, read, store.n_variants * (width * 5 + 20), needs=(cells, doubles, results)
    )
    return [first, second] if passes else [second]


def _more_columns(options: MetaOptions, k: int) -> int:
    """Count the columns of the other analyses."""
    return (
        8 * (options.random is not None) + 5 * options.re2 + 3 * options.binary_effects + (k + 1) * options.m_values
        + (2 * options.axes + 12) * bool(options.axes) + 4 * options.partition + 12 * bool(options.male)
        + 3 * k * options.leave_one_out + 4 * len(set(options.groups.values()))
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Shared:
    """What every chunk needs."""

    reader: Reader
    scalars: Scalars
    out: Path
    key: str


def run_meta(store: SumstatsStore, out: Path, options: MetaOptions, *, command: str = "", overwrite: bool = False,
             plots: bool = True) -> MetaResult:  # fmt: skip
    """Analyse a store.

    Parameters
    ----------
    store
        The store.
    out
        Folder of the results.
    options
        What to compute.
    command
        Kept in the record.
    overwrite
        Replace other results.
    plots
        Draw Manhattan and QQ plots.

    Raises
    ------
    ParameterError
        When options do not fit the studies.
    OutputError
        When the folder holds other results or cannot be written to.
    DamagedStoreError
        When the store is damaged.

    Notes
    -----
    **Cost** one read of the store, and three more for genomic control; about 2 µs a variant and 0.1 µs a cell for fixed
    effects. Memory a chunk a worker, whatever the number of variants.
    """
    reader = Reader.of(store, options)
    key = content_hash("meta", 1, store.fingerprint, options.as_json(), reader.studies)
    claim_folder(out, META_JSON, key, (LOCI, PLOTS), overwrite=overwrite)
    _drop_other_parts(out, key, store.n_chunks)
    started = now()
    scalars = find_scalars(reader)
    todo = [chunk for chunk in range(store.n_chunks) if _receipt(out, chunk, key) is None]
    log.info("meta: %d studies, %d of %d parts to do", len(reader.columns), len(todo), store.n_chunks)
    map_tasks(_analyse_chunk, todo, _Shared(reader, scalars, out, key))
    receipts = [_receipt(out, chunk, key) or {} for chunk in range(store.n_chunks)]
    ended = finish(out, store.n_chunks, draw=plots)
    result = MetaResult(
        out, sum(each["n_variants"] for each in receipts), sum(each["n_left_out"] for each in receipts), ended.n_loci,
        ended.lambda_gc, store.n_chunks, store.n_chunks - len(todo),
    )  # fmt: skip
    write_json(out / META_JSON, _record(reader, scalars, result, key, command, started))
    return result


def _drop_other_parts(out: Path, key: str, n_chunks: int) -> None:
    """Remove parts and receipts that are of another run."""
    with saving(out):
        for path in [*(out / FOLDER).glob("part-*.parquet"), *(out / RECEIPTS).glob("*.json")]:
            number = int(path.stem.rpartition("-")[2])
            if number >= n_chunks or _receipt(out, number, key) is None:
                path.unlink(missing_ok=True)


def _receipt(out: Path, chunk: int, key: str) -> dict[str, Any] | None:
    """Read a chunk's receipt; None unless its part is there and of this run."""
    try:
        found: dict[str, Any] = json.loads((out / RECEIPTS / f"{chunk:05d}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.get("key") == key and part_path(out, chunk).is_file() else None


def _analyse_chunk(chunk: int, shared: _Shared) -> None:
    """Analyse a chunk, write its part, then its receipt."""
    reader, rows, gathered = shared.reader, [], []
    n = 0
    for stretch in reader.stretches(chunk, everything=True):
        found = analyse(stretch.block, reader.options, reader.studies, shared.scalars)
        rows.append(found.rows + stretch.start)
        gathered.append(found.columns)
        n += stretch.block.n_variants
    kept = np.concatenate(rows)
    columns = {name: np.concatenate([each[name] for each in gathered]) for name in gathered[0]}
    write_part(part_path(shared.out, chunk), variant_columns(reader.store, chunk, kept), columns)
    receipt = {"key": shared.key, "n_variants": len(kept), "n_left_out": n - len(kept)}
    write_json(shared.out / RECEIPTS / f"{chunk:05d}.json", receipt)


def _record(
    reader: Reader, scalars: Scalars, result: MetaResult, key: str, command: str, started: str
) -> dict[str, Any]:
    """Say what was run, on what, and what was found on the way."""
    medians = scalars.medians
    measured = None if medians is None else medians.lambda_gc(reader.options.lambda_rule)
    studies = [
        {"name": name, "lambda_gc": None if measured is None else float(measured[at]),
         "lambda_applied": float(scalars.lambda_gc[at])}
        for at, name in enumerate(reader.studies)
    ]  # fmt: skip
    return {
        "key": key, "biolmm_version": package_version("biolmm"), "command": command, "started": started, "finished": now(),
        "store": {"path": str(reader.store.path), "fingerprint": reader.store.fingerprint, "build": reader.store.build},
        "options": reader.options.as_json(), "studies": studies,
        "overlap": None if scalars.overlap is None else _lists(scalars.overlap.correlation),
        "distances": _lists(scalars.distances), "coordinates": _lists(scalars.coordinates), "n_distance_markers": scalars.n_markers,
        "result_lambda": _number(scalars.result_lambda),
        "result_lambda_removed": _number(np.fmax(scalars.result_lambda, 1.0) if reader.options.result_control else np.nan),
        "lambda_gc": _number(result.lambda_result),
        "n_variants": result.n_variants, "n_left_out": result.n_left_out, "n_loci": result.n_loci,
        "machine": machine_description(),
    }  # fmt: skip


def _lists(values: Any) -> Sequence[Any] | None:
    return None if values is None else np.asarray(values).tolist()


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
