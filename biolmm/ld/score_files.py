"""LD scores for people: annotations from files, and scores as LDSC and biolmm read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from biolmm.errors import InputFileError, ParameterError, VariantMismatchError, named
from biolmm.files.annot_files import read_annot
from biolmm.files.ldscore_files import LdScoreTable, Overlap, write_ld_scores
from biolmm.ld.scores import BASE, LdScores
from biolmm.regions import in_regions, read_bed_regions
from biolmm.store.data import GenotypeData

Matrix = NDArray[np.float64]


def gather_annotations(
    data: GenotypeData,
    variants: NDArray[np.int64],
    annot: Sequence[str] = (),
    beds: Sequence[str] = (),
    *,
    base: bool = True,
) -> tuple[tuple[str, ...], Matrix, int]:
    """Put the annotations of variants together, from `.annot` files and BED files of regions.

    Parameters
    ----------
    data, variants
        The genotypes, and the variants to annotate.
    annot
        Prefixes or files; those with a column SNP are joined by identifier, and variants they do not hold have none; thin
        ones must have a line for every variant of the data.
    beds
        `NAME=FILE` or a file, whose name is then the annotation's.
    base
        Put an annotation of every variant first, unless one of the files has it.

    Returns
    -------
    Names, (variants, c) values, and how many variants are in none of the files that have identifiers.

    Raises
    ------
    InputFileError, VariantMismatchError
        When a file is damaged, does not fit, or a name occurs twice.
    """
    names: list[str] = []
    columns: list[Matrix] = []
    unknown = np.zeros(len(variants), bool)
    ids = pa.array(data.variant_id[variants].tolist(), pa.string())
    for prefix in annot:
        found = read_annot(prefix)
        names += found.names
        if found.snp is None:
            if len(found.values) != data.n_variants:
                raise VariantMismatchError(
                    f"'{prefix}' has no column SNP and {len(found.values):,} lines, but {data.path} has "
                    f"{data.n_variants:,} variants."
                )
            columns.append(found.values[variants])
            continue
        at = pc.index_in(ids, found.snp)
        there = at.is_valid().to_numpy(zero_copy_only=False)
        if not there.any():
            raise VariantMismatchError(
                f"None of the {len(variants):,} variants of {data.path} is in '{prefix}': {named(ids[:3].to_pylist())} here, "
                f"{named(found.snp[:3].to_pylist())} there."
            )
        unknown |= ~there
        rows = pc.fill_null(at, 0).to_numpy(zero_copy_only=False)
        columns.append(np.where(there[:, None], found.values[rows], 0.0))
    for text in beds:
        name, sign, path = text.partition("=")
        path = path if sign else name
        names.append(name if sign else Path(path).name.split(".")[0])
        inside = in_regions(
            data.contig_id, data.variant_contig[variants], data.variant_position[variants], read_bed_regions(path)
        )
        columns.append(inside.astype(np.float64)[:, None])
    if not names or (base and BASE not in names):
        names.insert(0, BASE)
        columns.insert(0, np.ones((len(variants), 1)))
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputFileError(f"annotations have the same name: {named(repeated)}. Rename them.")
    return tuple(names), np.hstack(columns), int(unknown.sum())


def write_scores(out: Path, data: GenotypeData, scores: LdScores, only: NDArray[np.bool_] | None = None) -> list[Path]:
    """Write scores to `out.l2.ldscore.gz` and its companions, or a set a contig where the name holds an @.

    Parameters
    ----------
    out
        The prefix.
    data, scores
        What they were made of, and the scores.
    only
        (m,) which variants to write; numbers of variants are those of all.

    Raises
    ------
    ParameterError
        When identifiers repeat or are missing, so that statistics could not be joined to the scores.
    OutputError
        When files cannot be written.
    """
    chosen = np.arange(len(scores.variants)) if only is None else np.flatnonzero(only)
    ids = data.variant_id[scores.variants[chosen]].tolist()
    if len(set(ids)) < len(ids) or "." in ids:
        raise ParameterError(
            f"{len(ids) - len(set(ids)):,} of {len(ids):,} identifiers in {data.path} repeat or are '.': LD scores are joined to "
            "statistics by identifier, so give every variant its own."
        )
    contig = data.variant_contig[scores.variants]
    if "@" not in out.name:
        return _write(out, data, scores, chosen, np.ones(len(contig), bool))
    paths = []
    for c in np.unique(contig):
        prefix = out.with_name(out.name.replace("@", data.contig_id[c]))
        paths += _write(prefix, data, scores, chosen[contig[chosen] == c], contig == c)
    return paths


def _write(
    prefix: Path, data: GenotypeData, scores: LdScores, rows: NDArray[np.int64], counted: NDArray[np.bool_]
) -> list[Path]:
    variants = scores.variants[rows]
    A, common = scores.annotations[counted], scores.common[counted]
    snp, ref, alt = (pa.array(each[variants].tolist(), pa.string()) for each in (data.variant_id, data.ref, data.alt))
    table = LdScoreTable(
        source=str(prefix),
        chromosome=pa.array([data.contig_id[c] for c in data.variant_contig[variants]], pa.string()),
        position=data.variant_position[variants],
        snp=snp,
        names=scores.names,
        scores=scores.scores[rows],
        m_common=A[common].sum(axis=0),
        m_all=A.sum(axis=0),
        alleles=(alt, ref),
    )
    overlaps = {
        "common": Overlap(scores.names, A[common].T @ A[common], int(common.sum())),
        "all": Overlap(scores.names, A.T @ A, len(A)),
    }
    return write_ld_scores(prefix, table, overlaps)
