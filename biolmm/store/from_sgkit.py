"""A store from an sgkit Dataset."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from biolmm.errors import ParameterError, named
from biolmm.files.encoding import Encoding
from biolmm.files.genotypes import BLOCK_SUMS, Block, SampleTable, Source, Strings, VariantTable, as_strings
from biolmm.store.collection import AskedEncoding
from biolmm.store.convert import convert_sources
from biolmm.store.read import GenotypeStore
from biolmm.store.tasks import MapTasks, call_one_by_one
from biolmm.store.vcz_rows import AlleleTable, CallFields, read_rows

MAX_BLOCK_BYTES = 64 << 20
"""Of computed values at a time, beyond which one variant is."""

_NEEDED = ("variant_contig", "variant_position", "variant_allele", "sample_id")


def from_sgkit(
    dataset: xr.Dataset,
    out: Path | str,
    *,
    encoding: AskedEncoding = "auto",
    chunk_variants: int | None = None,
    overwrite: bool = False,
    map_tasks: MapTasks = call_one_by_one,
) -> GenotypeStore:
    """Write a Dataset of sgkit to a store, block by block.

    Parameters
    ----------
    dataset
        With `call_genotype`, `call_dosage` or `call_genotype_probability`, lazy or in memory, and `variant_contig`,
        `variant_position`, `variant_allele`, `sample_id`; contig names in `contig_id` or the attribute `contigs`.
    out, encoding, chunk_variants, overwrite, map_tasks
        As `biolmm.store.convert.convert`.

    Returns
    -------
    The store.

    Raises
    ------
    ParameterError
        When the Dataset lacks variables, or they do not fit together.
    InputFileError
        When values make no sense.
    OutputError
        When something is at `out` and `overwrite` is not set, or it cannot be written.

    Notes
    -----
    **Cost**: the calls are computed once. Memory: 64 MiB of computed values, beside what computing them takes.
    """
    source = sgkit_source(dataset)
    return convert_sources(
        [source], out, encoding=encoding, chunk_variants=chunk_variants, overwrite=overwrite, map_tasks=map_tasks
    )


def sgkit_source(dataset: xr.Dataset) -> Source:
    """Give a Dataset of sgkit as a source of rows; raises as `from_sgkit`."""
    path = Path(str(dataset.encoding.get("source", "sgkit Dataset")))
    absent = [name for name in _NEEDED if name not in dataset]
    if absent:
        raise ParameterError(f"the Dataset has no {named(absent)}: sgkit's readers make them.")
    fields = CallFields.among({str(name) for name in dataset.data_vars} | {str(name) for name in dataset.coords})
    if not fields.used:
        raise ParameterError("the Dataset has no call_genotype, call_dosage or call_genotype_probability.")
    n_variants, n_samples = dataset["variant_position"].size, dataset["sample_id"].size
    for name in fields.used:
        if dataset[name].shape[:2] != (n_variants, n_samples):
            raise ParameterError(
                f"{name} of the Dataset has shape {dataset[name].shape} where there are {n_variants:,} variants and "
                f"{n_samples:,} samples."
            )
    table = AlleleTable.of(_texts(dataset["variant_allele"]), path)
    if not len(table.alt):
        raise ParameterError("the Dataset has no variant with an ALT allele.")
    sample_id = np.array(_texts(dataset["sample_id"]).tolist(), np.str_)
    if len(np.unique(sample_id)) < n_samples:
        raise ParameterError("the Dataset names samples more than once: make sample_id unique.")
    first_row = np.concatenate([[0], np.cumsum(table.n_alts)])
    return Source(
        path=path,
        samples=SampleTable(sample_id, np.full(n_samples, "0"), np.zeros(n_samples, np.int8)),
        variants=_variants(dataset, table),
        has_dosages=fields.has_dosages,
        decoder=SgkitDecoder(path, fields, dataset[list(fields.used)].reset_coords(), table.n_alts, first_row),
        files=(),
        # What a Dataset would compute is not known, so that none is taken for one that was converted before.
        notes={"kind": "sgkit", "fields": list(fields.used), "dataset": uuid4().hex},
    )


@dataclass(frozen=True, eq=False)
class SgkitDecoder:
    """Reads rows of a Dataset by computing its variables for some variants."""

    path: Path
    fields: CallFields
    dataset: xr.Dataset = field(repr=False)
    n_alts: NDArray[np.int64] = field(repr=False)
    first_row: NDArray[np.int64] = field(repr=False)

    def read(self, start: int, stop: int, encoding: Encoding) -> Block:
        """Read rows `start` to `stop` (half-open) in the encoding that is asked for; raises as `from_sgkit`."""
        n_samples = self.dataset.sizes["samples"]
        rows = encoding.missing_rows(stop - start, n_samples)
        sums: dict[str, NDArray[Any]] = {}
        first = int(np.searchsorted(self.first_row, start, side="right")) - 1
        last = int(np.searchsorted(self.first_row, stop, side="left"))
        step = max(1, MAX_BLOCK_BYTES // (self._bytes_a_variant() or 1))
        for at in range(first, last, step):
            n_alts = self.n_alts[at : min(at + step, last)]
            block = read_rows(self.path, self.fields, self._values, at, n_alts, (slice(0, n_samples),), encoding)
            row = int(self.first_row[at])
            inner = slice(max(start - row, 0), min(stop - row, len(block.rows)))
            outer = slice(row + inner.start - start, row + inner.stop - start)
            rows[outer] = block.rows[inner]
            for name in BLOCK_SUMS:
                values = getattr(block, name)
                if values is not None:
                    sums.setdefault(name, np.zeros(stop - start, values.dtype))[outer] = values[inner]
        return Block(rows, **sums)

    def _bytes_a_variant(self) -> int:
        return sum(array.nbytes // max(len(array), 1) for array in self.dataset.data_vars.values())

    def _values(self, name: str, variants: slice, samples: slice) -> NDArray[Any]:
        return np.asarray(self.dataset[name][variants, samples].values)


def _texts(variable: xr.DataArray) -> Strings:
    values = variable.values
    return as_strings(np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values)


def _variants(dataset: xr.Dataset, table: AlleleTable) -> VariantTable:
    n = dataset["variant_position"].size
    if "contig_id" in dataset:
        contigs = [str(name) for name in _texts(dataset["contig_id"])]
    else:
        contigs = [str(name) for name in dataset.attrs.get("contigs", ())]
    contig = np.asarray(dataset["variant_contig"].values).astype(np.int64)
    if n and (contig.min() < 0 or contig.max() >= len(contigs)):
        raise ParameterError(
            f"variant_contig of the Dataset goes from {contig.min()} to {contig.max()} where contig_id, or the "
            f"attribute contigs, names {len(contigs)}."
        )
    ids = _texts(dataset["variant_id"]) if "variant_id" in dataset else as_strings(["."] * n)
    used, codes = np.unique(np.repeat(contig, table.n_alts), return_inverse=True)
    position = np.repeat(np.asarray(dataset["variant_position"].values).astype(np.int64), table.n_alts)
    names = tuple(contigs[i] for i in used)
    return VariantTable(
        codes.astype(np.int32), names, position, as_strings(np.repeat(ids, table.n_alts)), table.ref, table.alt
    )
