"""Writing genotypes as a PLINK 1 file set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from biolmm.errors import OutputError, ParameterError, named
from biolmm.files.bed import BedFiles, write_bed
from biolmm.files.encoding import Encoding, Rows, recode_rows
from biolmm.files.genotypes import SampleTable, Strings, VariantTable, as_strings
from biolmm.memory import Need, StagePlan
from biolmm.places import place
from biolmm.store.data import GenotypeData
from biolmm.store.tasks import MapTasks, call_one_by_one

GROUP_BYTES = 256 * 1024**2
"""Rows that are read before they are written, for the sake of several workers."""


def export_bed(
    genotypes: GenotypeData, prefix: Path | str, *, overwrite: bool = False, map_tasks: MapTasks = call_one_by_one
) -> BedFiles:
    """Write genotypes as `.bed`, `.bim` and `.fam`; dosages as hard calls.

    Parameters
    ----------
    genotypes
        A store, or a collection of files.
    prefix
        Path without suffix.
    overwrite
        Whether files of these names are replaced; they are kept until the new ones are whole.
    map_tasks
        Reads the chunks, some at a time.

    Returns
    -------
    The files. A dosage further than 0.1 from a whole number is missing. Names that are empty are written as `.`, or `0`
    for a family.

    Raises
    ------
    OutputError
        When files of these names are there and `overwrite` is not set, or they cannot be written.
    ParameterError
        When a name holds a blank, which separates the columns of `.bim` and `.fam`.
    DamagedStoreError, InputFileError
        When genotypes cannot be read.

    Notes
    -----
    **Cost**: one pass over the genotypes. Memory: 256 MiB of rows, or one chunk where it is larger.
    """
    prefix = place(prefix)
    there = [path for path in (_with_suffix(prefix, each) for each in ("bed", "bim", "fam")) if path.exists()]
    if there and not overwrite:
        raise OutputError(f"{there[0]} exists already. Remove it, choose another name, or ask to overwrite it.")
    samples, variants = _writable_samples(genotypes), _writable_variants(genotypes)
    return write_bed(prefix, samples, variants, _rows(genotypes, map_tasks))


def plan_export_bed(genotypes: GenotypeData) -> StagePlan:
    """Say what `export_bed` will write and hold."""
    chunk_bytes = genotypes.chunk_variants * genotypes.encoding.row_bytes(genotypes.n_samples)
    group = max(GROUP_BYTES, chunk_bytes)
    decoded = 10 * genotypes.chunk_variants * genotypes.n_samples if genotypes.encoding.is_dosage else 0
    return StagePlan(
        stage="export",
        n_tasks=-(-genotypes.n_variants // genotypes.chunk_variants),
        n_passes=1,
        written_bytes=genotypes.n_variants * -(-genotypes.n_samples // 4),
        needs=(
            Need("chunks of genotypes, as stored and as calls", 2 * group + decoded),
            Need("tables of samples and variants", 400 * genotypes.n_variants + 200 * genotypes.n_samples),
        ),
    )


def _rows(genotypes: GenotypeData, map_tasks: MapTasks) -> Iterator[Rows]:
    """Yield packed calls chunk by chunk, in order."""
    n_chunks = -(-genotypes.n_variants // genotypes.chunk_variants)
    chunk_bytes = genotypes.chunk_variants * genotypes.encoding.row_bytes(genotypes.n_samples)
    step = max(1, GROUP_BYTES // chunk_bytes)
    for first in range(0, n_chunks, step):
        yield from map_tasks(_read_calls, range(first, min(first + step, n_chunks)), genotypes)


def _read_calls(chunk: int, genotypes: GenotypeData) -> Rows:
    rows = genotypes.read_rows(chunk)
    return recode_rows(rows, genotypes.n_samples, genotypes.encoding, Encoding.CALLS)


def _writable_samples(genotypes: GenotypeData) -> SampleTable:
    sample_id = _words(as_strings(genotypes.sample_id), "0", "sample id", genotypes.path)
    family = _words(as_strings(genotypes.family_id), "0", "family id", genotypes.path)
    return SampleTable(np.array(sample_id.tolist(), np.str_), np.array(family.tolist(), np.str_), genotypes.sex)


def _writable_variants(genotypes: GenotypeData) -> VariantTable:
    contigs = _words(as_strings(genotypes.contig_id), "0", "contig", genotypes.path)
    texts = {"variant id": genotypes.variant_id, "REF allele": genotypes.ref, "ALT allele": genotypes.alt}
    words = [_words(values, ".", what, genotypes.path) for what, values in texts.items()]
    return VariantTable(genotypes.variant_contig, tuple(contigs.tolist()), genotypes.variant_position, *words)


def _words(values: Strings, empty: str, what: str, path: Path) -> Strings:
    """Put a word where there is none; refuse blanks within."""
    words = [text or empty for text in values.tolist()]
    broken = [text for text in words if len(text.split()) != 1]
    if broken:
        raise ParameterError(
            f"{path} has {len(broken):,} {what}s with blanks, which a .bed file set cannot hold: "
            f"{named(repr(text) for text in broken)}. Write VCF Zarr instead."
        )
    return as_strings(words)


def _with_suffix(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(f"{prefix.name}.{suffix}")
