"""Sets of variants: annotations from tables and BED files, bins of frequency and linkage disequilibrium, contigs.

Frequency and LD bins are those of GREML-LDMS (Yang et al. 2015, doi 10.1038/ng.3390; Evans et al. 2018,
doi 10.1038/s41588-018-0108-x): with one matrix for all variants, heritability is biased where causal variants are rarer or
in less LD than the rest.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.errors import InputFileError, VariantMismatchError, named
from biolmm.files.lines import read_lines
from biolmm.regions import in_regions, read_bed_regions

MAF_EDGES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
LD_QUANTILES = 4
ID_COLUMNS = ("variant_id", "id", "snp", "snpid", "rsid", "rs", "variant", "marker", "markername")
PLACE_COLUMNS = (
    "chr", "chrom", "chromosome", "bp", "pos", "position", "base_pair_location", "cm", "base", "ref", "alt", "a1", "a2"
)  # fmt: skip
"""Columns that say where a variant is or what its alleles are, and LD score regression's `base`, which is 1 everywhere."""
LD_COLUMNS = ("ld", "ldscore", "ld_score", "l2", "ldscore_region")
"""Columns of LD scores, which are no annotations."""
OTHER = "other"
UNKNOWN_LD = "ld:unknown"
FEW_FOUND = 0.1
"""More variants than this share without a row in a table of annotations are warned of."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class VariantSets:
    """Weights of variants in named sets; sets may overlap.

    Attributes
    ----------
    names
        Of the sets.
    weights
        (M, n_sets) at least 0.
    """

    names: tuple[str, ...]
    weights: NDArray[np.float64]

    def without_empty(self) -> VariantSets:
        """Leave out sets without any variant."""
        kept = np.flatnonzero(self.weights.sum(axis=0) > 0)
        return VariantSets(tuple(self.names[i] for i in kept), self.weights[:, kept])

    def with_rest(self) -> VariantSets:
        """Add a set of the variants that are in no other, where there are any.

        Examples
        --------
        >>> VariantSets(("a",), np.array([[1.0], [0.0]])).with_rest().names
        ('a', 'other')
        """
        rest = ~(self.weights > 0).any(axis=1)
        if not rest.any():
            return self
        return VariantSets((*self.names, OTHER), np.column_stack([self.weights, rest.astype(np.float64)]))


def read_annotations(path: Path) -> pd.DataFrame:
    """Read a table of numbers by variant: a header with ID, SNP or rsID, and a column for every annotation.

    Columns of place (CHR, BP, CM), alleles and the column `base` of LD score regression's files are passed over.

    Raises
    ------
    InputFileError
        When it cannot be read, has no column of variant ids or of numbers, or repeats a variant.
    """
    lines = [(number, line.split("\t") if "\t" in line else line.split()) for number, line in read_lines(path)]
    lines = [(number, fields) for number, fields in lines if not fields[0].startswith("##")]
    if len(lines) < 2:
        raise InputFileError(f"'{path}' has no variants below its header.")
    names = [name.strip().lstrip("#") for name in lines[0][1]]
    ids = [i for i, name in enumerate(names) if name.lower() in ID_COLUMNS]
    values = [i for i, name in enumerate(names) if i not in ids and name.lower() not in PLACE_COLUMNS]
    if len(ids) != 1 or not values:
        raise InputFileError(
            f"'{path}' needs one column ID, SNP or rsID and at least one annotation: its header is {named(names, 8)}."
        )
    rows = []
    for number, fields in lines[1:]:
        if len(fields) != len(names):
            raise InputFileError(f"'{path}', line {number:,}: {len(fields)} fields instead of {len(names)}.")
        try:
            rows.append([float(fields[i]) for i in values])
        except ValueError:
            wrong = next(fields[i] for i in values if not _is_number(fields[i]))
            raise InputFileError(
                f"'{path}', line {number:,}: '{wrong}' is not a number; annotations are 0, 1 or weights."
            ) from None
    index = pd.Index([fields[ids[0]].strip() for _, fields in lines[1:]], name="variant_id")
    table = pd.DataFrame(rows, index=index, columns=[names[i] for i in values])
    if index.has_duplicates:
        raise InputFileError(f"'{path}' repeats variants: {named(index[index.duplicated()].unique())}.")
    table.attrs["source"] = str(path)
    return table


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def table_sets(table: pd.DataFrame, columns: tuple[str, ...], variant_id: NDArray[np.str_]) -> VariantSets:
    """Take annotations of the model's variants from a table; variants that are not in it have none, and are counted.

    Raises
    ------
    VariantMismatchError
        When none of the variants is in the table.
    InputFileError
        When a weight is negative or not finite.
    """
    source = table.attrs.get("source", "the annotations")
    found = _rows(table, columns, variant_id)
    absent = int(found.isna().any(axis=1).sum())
    if absent:
        log.log(
            logging.WARNING if absent > FEW_FOUND * len(found) else logging.INFO,
            "%d of %d variants of the model have no value in '%s': they count as 0 in %s.",
            absent, len(found), source, named(columns),
        )  # fmt: skip
    weights = found.fillna(0.0).to_numpy(np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise InputFileError(f"'{source}' holds infinite or negative annotations: they are weights of at least 0.")
    return VariantSets(columns, weights)


def ld_scores(table: pd.DataFrame, column: str, variant_id: NDArray[np.str_]) -> NDArray[np.float64]:
    """Take LD scores of the model's variants from a table; NaN where it has none.

    Raises
    ------
    VariantMismatchError
        When none of the variants is in the table.
    InputFileError
        When a score is infinite.
    """
    scores = _rows(table, (column,), variant_id)[column].to_numpy(np.float64)
    if np.isinf(scores).any():
        raise InputFileError(
            f"'{table.attrs.get('source', 'the annotations')}' holds infinite LD scores: write NA where one is missing."
        )
    return scores


def _rows(table: pd.DataFrame, columns: tuple[str, ...], variant_id: NDArray[np.str_]) -> pd.DataFrame:
    """Return columns of a table in the order of the variants, NaN where it has none of these."""
    if not table.index.isin(variant_id).any():
        raise VariantMismatchError(
            f"None of the {len(table):,} variants in '{table.attrs.get('source', 'the annotations')}' is among the model's "
            f"{len(variant_id):,}: {named(table.index[:3])} there, {named(variant_id[:3])} in the genotypes."
        )
    return table[list(columns)].reindex(variant_id.tolist())


def bed_set(
    path: Path, name: str, contig_id: tuple[str, ...], contig: NDArray[np.integer], position: NDArray[np.integer]
) -> VariantSets:
    """Make a set of the variants within the regions of a UCSC BED file."""
    inside = in_regions(contig_id, contig, position, read_bed_regions(path))
    return VariantSets((name,), inside.astype(np.float64)[:, None])


def maf_sets(maf: NDArray[np.float64], edges: tuple[float, ...] = MAF_EDGES) -> VariantSets:
    """Cut variants by minor allele frequency, lower edge excluded.

    Examples
    --------
    >>> maf_sets(np.array([0.005, 0.3, 0.5])).without_empty().names
    ('maf:0-0.01', 'maf:0.2-0.3', 'maf:0.4-0.5')
    """
    bins = np.clip(np.searchsorted(edges, maf, side="left") - 1, 0, len(edges) - 2)
    names = tuple(f"maf:{low:g}-{high:g}" for low, high in pairwise(edges))
    return VariantSets(names, np.eye(len(names))[bins])


def ld_sets(
    ld_score: NDArray[np.float64], n_bins: int = LD_QUANTILES, varies: NDArray[np.bool_] | None = None
) -> VariantSets:
    """Cut variants into quantiles of their LD score.

    Parameters
    ----------
    ld_score
        (M,) NaN where it is not known: these variants are a set of their own, `ld:unknown`.
    n_bins
        Quantiles.
    varies
        (M,) which variants are ranked, all by default; the others are in no set.

    Examples
    --------
    >>> ld_sets(np.array([2.0, 1.0, np.nan]), n_bins=2).weights.argmax(axis=1).tolist()
    [1, 0, 2]
    """
    ranked = np.ones(len(ld_score), dtype=np.bool_) if varies is None else varies
    unknown = ranked & np.isnan(ld_score)
    known = np.flatnonzero(ranked & ~unknown)
    ranks = np.argsort(np.argsort(ld_score[known], kind="stable"), kind="stable")
    weights = np.zeros((len(ld_score), n_bins + 1))
    weights[known, ranks * n_bins // max(len(known), 1)] = 1
    weights[unknown, n_bins] = 1
    names = tuple(f"ld:q{i + 1}" for i in range(n_bins))
    if not unknown.any():
        return VariantSets(names, weights[:, :n_bins])
    log.warning(
        "%d of %d variants have no LD score: they are the set %s.", unknown.sum(), int(ranked.sum()), UNKNOWN_LD
    )
    return VariantSets((*names, UNKNOWN_LD), weights)


def crossed(one: VariantSets, other: VariantSets) -> VariantSets:
    """Return every set of one within every set of the other.

    Examples
    --------
    >>> crossed(VariantSets(("a",), np.ones((1, 1))), VariantSets(("b",), np.ones((1, 1)))).names
    ('a,b',)
    """
    names = tuple(f"{a},{b}" for a in one.names for b in other.names)
    weights = one.weights[:, :, None] * other.weights[:, None, :]
    return VariantSets(names, weights.reshape(len(one.weights), -1))


def contig_sets(contig_id: tuple[str, ...], contig: NDArray[np.integer]) -> VariantSets:
    """Make a set of every contig."""
    return VariantSets(tuple(f"chr:{name}" for name in contig_id), np.eye(len(contig_id))[contig])
