"""Simulate a cohort: genotypes to a store, chunk by chunk; then traits, covariates and the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.atomic import saving
from biolmm.files.bed import write_bed
from biolmm.files.genotypes import SampleTable, VariantTable
from biolmm.memory import Need, StagePlan
from biolmm.simulate.config import SimulateConfig
from biolmm.simulate.generate import generate_calls
from biolmm.simulate.people import make_people, sample_table
from biolmm.simulate.tables import SimulatedFiles, write_data, write_truth
from biolmm.simulate.traits import make_covariates, make_traits
from biolmm.simulate.variants import variant_table
from biolmm.store.layout import default_chunk_variants, row_bytes
from biolmm.store.write import StoreWriter

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_MAX_PARTS, _MIN_PARTS = 128, 8
_PARTIAL_BYTES = 2 * 1024**3


class MapTasks(Protocol):
    """Applies a function to items, in any order and place; gives the results in the items' order."""

    def __call__(self, function: Callable[[_Item], _Result], items: Sequence[_Item], /) -> list[_Result]:
        """Apply `function` to every item."""


def serial(function: Callable[[_Item], _Result], items: Sequence[_Item], /) -> list[_Result]:
    """Map one after another.

    Examples
    --------
    >>> serial(abs, [-1, 2])
    [1, 2]
    """
    return [function(item) for item in items]


def simulate(config: SimulateConfig, out: Path | str, *, map_tasks: MapTasks = serial) -> SimulatedFiles:
    """Simulate a cohort into the store `out`, with its traits, covariates and truth beside it.

    Killed, it is continued by the same call. The data depend on `config` alone.

    Parameters
    ----------
    out
        The store to make, `NAME.zarr`; the tables become `NAME.traits.tsv`, `NAME.covariates.tsv`,
        `NAME.samples.tsv`, `NAME.truth.tsv` and `NAME.truth.json`.
    map_tasks
        Runs the parts of the genotypes; by default one after another.

    Raises
    ------
    OutputError
        When one of the files is there already, or cannot be written.
    ParameterError
        When a heritable trait's causal variants do not vary.

    Notes
    -----
    **Cost**: as `plan_simulate` says; no memory grows with samples × variants. With `bed` the genotypes are made twice.
    """
    files = SimulatedFiles.beside(Path(out).absolute())
    if files.store.exists() or not _aside(files.store).exists():
        files.refuse_existing(bed=config.bed)
    people = make_people(config)
    samples, variants = sample_table(people), variant_table(config)
    provenance = {"command": "simulate", "config": config.as_dict()}
    writer = StoreWriter.begin(
        files.store, samples, variants, provenance=provenance, chunk_variants=config.chunk_variants
    )
    unscaled = _genotypes(config, writer, map_tasks)
    covariates = make_covariates(config, people)
    traits = make_traits(config, people, covariates, unscaled)
    with saving(files.store):
        write_data(files, samples, pd.DataFrame(traits.values, columns=list(config.trait_names)), covariates)
        write_truth(config, files, people, samples, traits)
    if config.bed:
        _write_bed(config, files, samples, variants)
    writer.publish()
    return files


def plan_simulate(config: SimulateConfig, *, n_workers: int = 1) -> StagePlan:
    """Cost of `simulate`, computed before anything is made."""
    n, m = config.n_samples, config.n_variants
    chunk_variants = min(config.chunk_variants or default_chunk_variants(n), m)
    packed = chunk_variants * row_bytes(n)
    genetic = n * config.n_traits * 8
    n_parts = len(_parts(config, -(-m // chunk_variants), frozenset()))
    return StagePlan(
        stage="simulate",
        n_tasks=n_parts,
        written_bytes=m * row_bytes(n) + n_parts * genetic + m * 50,
        needs=(
            Need("packed chunks, plain and compressed", 3 * packed * n_workers),
            Need("haplotypes in the making", 16 * n * n_workers),
            Need("genetic values, traits and their tables", genetic * max(n_workers + 1, 10)),
            Need("table of variants", 200 * m),
            Need("table of samples", (300 + 8 * config.n_populations) * n),
        ),
    )


@dataclass(frozen=True)
class _Part:
    """A run of chunks whose genetic values are added up and kept aside together."""

    index: int
    start: int
    stop: int
    finished: frozenset[int]
    """Chunks that an earlier run has written."""


@dataclass(frozen=True)
class _MakePart:
    """Makes one part: its chunks, then the file with its genetic values."""

    config: SimulateConfig
    writer: StoreWriter

    def __call__(self, part: _Part) -> int:
        genetic = np.zeros((self.config.n_samples, self.config.n_traits))
        for chunk in range(part.start, part.stop):
            packed = generate_calls(self.config, *self.writer.chunk_range(chunk), genetic)
            if chunk not in part.finished:
                self.writer.write_chunk(chunk, packed)
        target = _partial(self.writer, part)
        temporary = target.with_suffix(".new.npy")
        with saving(self.writer.path):
            np.save(temporary, genetic)
            temporary.replace(target)
        return part.stop - part.start


def _genotypes(config: SimulateConfig, writer: StoreWriter, map_tasks: MapTasks) -> NDArray[np.float64]:
    """Write all chunks; return the unscaled genetic values, samples × traits."""
    with saving(writer.path):
        (writer.aside / "genetic").mkdir(exist_ok=True)
    parts = _parts(config, writer.n_chunks, frozenset(writer.finished_chunks()))
    unfinished = [part for part in parts if not _is_finished(writer, part)]
    map_tasks(_MakePart(config, writer), unfinished)
    total = np.zeros((config.n_samples, config.n_traits))
    for part in parts:
        total += np.load(_partial(writer, part))
    return total


def _parts(config: SimulateConfig, n_chunks: int, finished: frozenset[int]) -> list[_Part]:
    """Cut the chunks into parts: as many as the disk may hold genetic values of, whatever the number of workers."""
    genetic = config.n_samples * config.n_traits * 8
    n_parts = min(n_chunks, _MAX_PARTS, max(_MIN_PARTS, _PARTIAL_BYTES // genetic))
    edges = [n_chunks * i // n_parts for i in range(n_parts + 1)]
    return [
        _Part(i, start, stop, finished.intersection(range(start, stop)))
        for i, (start, stop) in enumerate(pairwise(edges))
    ]


def _is_finished(writer: StoreWriter, part: _Part) -> bool:
    return len(part.finished) == part.stop - part.start and _partial(writer, part).exists()


def _partial(writer: StoreWriter, part: _Part) -> Path:
    return writer.aside / "genetic" / f"{part.index}.npy"


def _aside(store: Path) -> Path:
    return store.with_name(store.name + ".partial")


def _write_bed(config: SimulateConfig, files: SimulatedFiles, samples: SampleTable, variants: VariantTable) -> None:
    def rows() -> Iterator[NDArray[np.uint8]]:
        step = default_chunk_variants(config.n_samples)
        for start in range(0, config.n_variants, step):
            yield generate_calls(config, start, min(start + step, config.n_variants))

    write_bed(files.bed.with_suffix(""), samples, variants, rows())
