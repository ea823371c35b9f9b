"""The variants of several files: contigs in one spelling, variants by contig and position."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.contigs import contig_order, normalise_contigs
from biolmm.errors import InputFileError
from biolmm.files.bed_tables import count_duplicates
from biolmm.files.genotypes import Source, VariantTable, as_strings
from biolmm.store.runs import Runs

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class OrderedVariants:
    """The variants of a collection, where their rows are, and what was noticed, as JSON."""

    variants: VariantTable
    runs: Runs
    notes: dict[str, Any]


def order_variants(sources: Sequence[Source], contigs_beside: Sequence[str] = ()) -> OrderedVariants:
    """Put the variants of files into one order: contigs naturally, then by position; equal places as they come.

    Names of contigs are normalised over all files at once, with `contigs_beside`, which occur elsewhere in the same data;
    contigs without variants are left out.

    Raises
    ------
    InputFileError
        When files hold no variant, or one is not in this order and can be read in order only.
    """
    tables = [source.variants for source in sources]
    spelled = [name for table in tables for name in table.contig_id]
    plain = normalise_contigs([*spelled, *contigs_beside])[: len(spelled)]
    codes, contig_id = _contig_codes(tables, plain)
    for source, code in zip(sources, codes, strict=True):
        if not source.random_access:
            _check_sorted(source, code, contig_id)
    contig, position = _joined(codes), _joined([table.position for table in tables])
    if not len(position):
        raise InputFileError(f"{sources[0].path} holds no variants" + ", nor do the other files." * (len(sources) > 1))
    part = np.repeat(np.arange(len(tables), dtype=np.int32), [table.n for table in tables])
    row = _joined([np.arange(table.n) for table in tables])
    texts = [_joined([as_strings(getattr(table, name)) for table in tables]) for name in ("variant_id", "ref", "alt")]
    in_order = _first_unsorted(contig, position) is None
    if not in_order:
        order = np.lexsort((position, contig))
        contig, position, part, row = contig[order], position[order], part[order], row[order]
        texts = [text[order] for text in texts]
    variants = VariantTable(contig, contig_id, position, *texts)
    notes = {
        "n_duplicate_variants": count_duplicates(variants),
        "n_negative_positions": int(np.sum(position < 0)),
        "was_in_order": in_order,
        "renamed_contigs": {name: new for name, new in zip(spelled, plain, strict=True) if name != new},
    }
    if notes["n_duplicate_variants"]:
        log.warning(
            "%s variants repeat the contig, position and alleles of another: all are kept.",
            f"{notes['n_duplicate_variants']:,}",
        )
    return OrderedVariants(variants, Runs.of(part, row), notes)


def _contig_codes(
    tables: Sequence[VariantTable], plain: Sequence[str]
) -> tuple[list[NDArray[np.int32]], tuple[str, ...]]:
    """Number the contigs that have variants in natural order; give each variant's number, and the names."""
    used, offset = [], 0
    names = []
    for table in tables:
        names.append(plain[offset : offset + len(table.contig_id)])
        used += [names[-1][code] for code in np.unique(table.contig).tolist()]
        offset += len(table.contig_id)
    contig_id = tuple(sorted(dict.fromkeys(used), key=contig_order))
    number = {name: i for i, name in enumerate(contig_id)}
    recode = [np.array([number.get(name, -1) for name in each], np.int32) for each in names]
    return [each[table.contig] for each, table in zip(recode, tables, strict=True)], contig_id


def _first_unsorted(contig: NDArray[np.int32], position: NDArray[np.int64]) -> int | None:
    """Find the first variant that belongs before the one in front of it."""
    step = np.diff(contig)
    wrong = (step < 0) | ((step == 0) & (np.diff(position) < 0))
    return int(np.argmax(wrong)) + 1 if wrong.any() else None


def _check_sorted(source: Source, contig: NDArray[np.int32], contig_id: tuple[str, ...]) -> None:
    i = _first_unsorted(contig, source.variants.position)
    if i is None:
        return
    here, before = (f"{contig_id[contig[j]]}:{source.variants.position[j]}" for j in (i, i - 1))
    raise InputFileError(
        f"{source.path} is not sorted: variant {i + 1:,} at {here} comes after {before}, and this file can be read in "
        f"order only. Sort and compress it: bcftools sort -Oz -o sorted.vcf.gz {source.path}"
    )


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
