"""Writing genotypes as VCF Zarr, for sgkit, vcztools and whatever else reads it.

The group has Zarr format 2, which every reader of VCF Zarr knows. Every chunk is written, also of zeros, so that one
that is lost can be noticed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc, VLenUTF8
from numpy.typing import NDArray

from biolmm import schema
from biolmm.atomic import saving
from biolmm.errors import OutputError
from biolmm.files.encoding import Encoding, dosages_from_rows, recode_rows
from biolmm.files.genotypes import as_strings
from biolmm.memory import Need, StagePlan
from biolmm.places import is_remote
from biolmm.store.data import GenotypeData
from biolmm.store.identity import biolmm_version
from biolmm.store.packbits import unpack_calls
from biolmm.store.tasks import MapTasks, call_one_by_one
from biolmm.store.vcz import is_vcz
from biolmm.store.vcz_arrays import read_attributes

CHUNK_VARIANTS, CHUNK_SAMPLES = 1000, 10_000
"""What bio2zarr has by default; chunks here are whole chunks of the genotypes that are read."""

MAX_TASK_BYTES = 128 << 20
"""Of allele numbers that a task holds, beyond which it writes one chunk of the genotypes."""

_PARTIAL = "biolmm_partial"
_ALLELES = np.array([[0, 0], [0, 1], [1, 1], [-1, -1]], np.int8)
_MISSING_DOSAGE = np.array([0x7F800001], np.uint32).view(np.float32)
"""The NaN that BCF has for a missing number."""

_WRITE_ALL: Any = {"write_empty_chunks": True}
_PACKED = Blosc(cname="zstd", clevel=5, shuffle=Blosc.SHUFFLE)
_BITS = Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE)


@dataclass(frozen=True)
class _Job:
    """What every task needs."""

    aside: Path
    genotypes: GenotypeData
    step: int
    """Chunks of the genotypes in one task."""


@dataclass(frozen=True)
class _Grid:
    """Shape, chunks and names of the dimensions of an array."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dims: tuple[str, ...]


def export_vcz(
    genotypes: GenotypeData, out: Path | str, *, overwrite: bool = False, map_tasks: MapTasks = call_one_by_one
) -> Path:
    """Write genotypes as VCF Zarr.

    Parameters
    ----------
    genotypes
        A store, or a collection of files.
    out
        Folder of the group; it appears when it is complete.
    overwrite
        Whether VCF Zarr at `out` is replaced.
    map_tasks
        Runs the chunks; they are independent.

    Returns
    -------
    `out`. Calls are `call_genotype`, unphased (a heterozygote is 0/1); dosages are `call_DS` too, and have a call where
    they are within 0.1 of a whole number. `sample_family_id` and `sample_sex` are added to what VCF Zarr names.

    Raises
    ------
    OutputError
        When something is at `out`, or it cannot be written.
    DamagedStoreError, InputFileError
        When genotypes cannot be read.

    Notes
    -----
    **Cost**: one pass over the genotypes. Memory: about ten bytes a genotype of a chunk, and a third of that again.
    """
    out = Path(out)
    if is_remote(out):
        raise OutputError(f"{out}: VCF Zarr is written to local folders only. Write it here and copy it.")
    if out.exists() and not (overwrite and is_vcz(out)):
        hint = "" if not is_vcz(out) else ", or ask to overwrite it"
        raise OutputError(f"{out} exists already. Remove it, choose another name{hint}.")
    aside = out.with_name(out.name + ".partial")
    if aside.exists() and _PARTIAL not in (read_attributes(aside) or {}):
        raise OutputError(f"{aside} is in the way and was not written by biolmm. Move it and run again.")
    step = _chunks_a_task(genotypes)
    with saving(out):
        shutil.rmtree(aside, ignore_errors=True)
        group = _lay_out(genotypes, aside, step * genotypes.chunk_variants)
    n_tasks = -(-genotypes.n_variants // (step * genotypes.chunk_variants))
    map_tasks(_write_chunks, range(n_tasks), _Job(aside, genotypes, step))
    with saving(out):
        del group.attrs[_PARTIAL]
        if out.exists():
            shutil.rmtree(out)
        aside.rename(out)
    return out


def plan_export_vcz(genotypes: GenotypeData, *, n_workers: int = 1) -> StagePlan:
    """Say what `export_vcz` will write and hold, for `n_workers` tasks at a time."""
    task = _chunks_a_task(genotypes) * genotypes.chunk_variants
    n_bytes = 6 + (8 if genotypes.encoding.is_dosage else 0)
    n_genotypes = genotypes.n_variants * genotypes.n_samples
    return StagePlan(
        stage="export",
        n_tasks=-(-genotypes.n_variants // task),
        n_passes=1,
        written_bytes=n_genotypes * (4 if genotypes.encoding.is_dosage else 1) // 4,
        needs=(
            Need(f"{n_workers} chunks of genotypes, unpacked", n_workers * n_bytes * task * genotypes.n_samples),
            Need("tables of samples and variants", 400 * genotypes.n_variants + 200 * genotypes.n_samples),
        ),
    )


def _chunks_a_task(genotypes: GenotypeData) -> int:
    """Choose how many chunks of the genotypes make one of VCF Zarr."""
    chunk_bytes = len(_ALLELES[0]) * genotypes.chunk_variants * genotypes.n_samples
    return max(1, min(CHUNK_VARIANTS // genotypes.chunk_variants, MAX_TASK_BYTES // chunk_bytes))


def _lay_out(genotypes: GenotypeData, aside: Path, chunk: int) -> zarr.Group:
    """Create the group, its small arrays, and the arrays of calls without chunks."""
    group = zarr.create_group(aside, zarr_format=2, overwrite=True)
    group.attrs.update(
        {
            _PARTIAL: True,
            "vcf_zarr_version": schema.VCF_ZARR_VERSION,
            "source": f"biolmm {biolmm_version()}",
            "vcf_meta_information": [["fileformat", "VCFv4.3"]],
        }
    )
    n, n_samples = genotypes.n_variants, genotypes.n_samples
    ref, alt = as_strings(genotypes.ref), as_strings(genotypes.alt)
    length = np.strings.str_len(ref).astype(np.int32)
    per_variant = {
        "variant_contig": genotypes.variant_contig.astype(np.int32),
        "variant_position": genotypes.variant_position.astype(np.int32),
        "variant_length": length,
        "variant_id": genotypes.variant_id,
        "variant_id_mask": np.asarray(genotypes.variant_id == "."),
        "variant_quality": np.repeat(_MISSING_DOSAGE, n),
    }
    for name, values in per_variant.items():
        _write(group, name, values, ("variants",), (chunk,))
    _write(group, "variant_allele", np.stack([ref, alt], axis=1), ("variants", "alleles"), (chunk, 2))
    _write(group, "variant_filter", np.zeros((n, 1), bool), ("variants", "filters"), (chunk, 1))
    _write(group, "filter_id", as_strings(["PASS"]), ("filters",), (1,))
    _write(group, "contig_id", as_strings(genotypes.contig_id), ("contigs",), (max(1, len(genotypes.contig_id)),))
    samples = {"sample_id": genotypes.sample_id, "sample_family_id": genotypes.family_id}
    for name, ids in samples.items():
        _write(group, name, as_strings(ids), ("samples",), (CHUNK_SAMPLES,))
    _write(group, "sample_sex", genotypes.sex.astype(np.int8), ("samples",), (CHUNK_SAMPLES,))
    _write(
        group, "region_index", _region_index(genotypes, length, chunk), ("region_index_values", "region_index_fields")
    )
    shape, chunks = (n, n_samples), (chunk, min(CHUNK_SAMPLES, n_samples))
    two = _Grid(shape, chunks, ("variants", "samples"))
    three = _Grid((*shape, 2), (*chunks, 2), (*two.dims, "ploidy"))
    _create(group, "call_genotype", np.dtype(np.int8), three)
    _create(group, "call_genotype_mask", np.dtype(bool), three)
    _create(group, "call_genotype_phased", np.dtype(bool), two)
    if genotypes.encoding.is_dosage:
        dosage = _create(group, "call_DS", np.dtype(np.float32), two)
        dosage.attrs["description"] = "Dosage of the ALT allele"
    return group


def _write_chunks(task: int, job: _Job) -> None:
    """Write the calls of some chunks of the genotypes, which are one of VCF Zarr."""
    genotypes = job.genotypes
    n_chunks = -(-genotypes.n_variants // genotypes.chunk_variants)
    chunks = range(task * job.step, min((task + 1) * job.step, n_chunks))
    n_samples, is_dosage = genotypes.n_samples, genotypes.encoding.is_dosage
    rows = np.concatenate([genotypes.read_rows(chunk) for chunk in chunks])
    packed = recode_rows(rows, n_samples, genotypes.encoding, Encoding.CALLS)
    calls = unpack_calls(packed, packed.size * 4).reshape(len(packed), -1)[:, :n_samples]
    alleles = _ALLELES[calls]
    start = genotypes.chunk_range(chunks[0])[0]
    with saving(job.aside):
        _put(job.aside / "call_genotype", start, alleles)
        _put(job.aside / "call_genotype_mask", start, alleles < 0)
        _put(job.aside / "call_genotype_phased", start, np.zeros(calls.shape, bool))
        if is_dosage:
            dosages = dosages_from_rows(rows, genotypes.encoding, n_samples)
            dosages[np.isnan(dosages)] = _MISSING_DOSAGE
            _put(job.aside / "call_DS", start, dosages)


def _put(path: Path, start: int, values: NDArray[Any]) -> None:
    array = zarr.open_array(path, mode="r+", zarr_format=2, config=_WRITE_ALL)
    array[start : start + len(values)] = values


def _create(group: zarr.Group, name: str, dtype: np.dtype[Any], grid: _Grid) -> zarr.Array[Any]:
    is_text = isinstance(dtype, np.dtypes.StringDType)
    array: zarr.Array[Any] = group.create_array(
        name,
        shape=grid.shape,
        chunks=tuple(max(1, min(chunk, n)) for chunk, n in zip(grid.chunks, grid.shape, strict=True)),
        dtype=dtype,
        filters=[VLenUTF8()] if is_text else None,
        config=_WRITE_ALL,
        compressors=[_BITS if dtype.itemsize == 1 else _PACKED],
        fill_value=None,  # xarray would take any other for the mark of a missing value
    )
    array.attrs["_ARRAY_DIMENSIONS"] = list(grid.dims)  # as xarray and bio2zarr name them
    return array


def _write(
    group: zarr.Group, name: str, values: Any, dims: tuple[str, ...], chunks: tuple[int, ...] | None = None
) -> None:
    """Write a small array, every chunk of it."""
    values = np.asarray(values)
    _create(group, name, values.dtype, _Grid(values.shape, chunks or values.shape, dims))[...] = values


def _region_index(genotypes: GenotypeData, length: NDArray[np.int32], chunk: int) -> NDArray[np.int32]:
    """List runs of one contig within a chunk: chunk, contig, first and last position, furthest end, variants."""
    contig, position = genotypes.variant_contig, genotypes.variant_position
    end = position + length - 1
    breaks = np.flatnonzero(np.diff(contig)) + 1
    starts = np.union1d(breaks, np.arange(0, len(contig), chunk)).astype(np.int64)
    stops = np.append(starts[1:], len(contig))
    furthest = np.maximum.reduceat(end, starts)
    columns = (starts // chunk, contig[starts], position[starts], position[stops - 1], furthest, stops - starts)
    return np.stack(columns, axis=1).astype(np.int32)
