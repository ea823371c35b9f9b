"""Pruning for people: leave out regions and haploid contigs, prune, and write the lists `PREFIX.prune.in` and `.prune.out`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.atomic import write_text
from biolmm.contigs import Ploidy, ploidy_of
from biolmm.errors import VariantMismatchError, named
from biolmm.ld.prune import PruneConfig, prune
from biolmm.regions import find_regions, in_regions
from biolmm.store.data import GenotypeData


@dataclass(frozen=True)
class PruneRequest:
    """What to prune and where to write it.

    Attributes
    ----------
    out
        Prefix of the two lists.
    config
        Window, step and threshold.
    exclude_regions
        Regions to leave out first: names (`mhc`, `long-range-ld`), places (`6:25-34mb`) or UCSC BED files.
    build
        Reference build of the positions, for regions that go by a name and for the pseudo-autosomal regions of X.
    """

    out: Path
    config: PruneConfig = field(default_factory=PruneConfig)
    exclude_regions: tuple[str, ...] = ()
    build: str | None = None


@dataclass(frozen=True)
class PruneSummary:
    """What pruning kept; the numbers add up to all variants of the data.

    Attributes
    ----------
    kept, pruned
        Variants in `.prune.in`, and those left out for their correlation or because they do not vary.
    not_diploid
        Variants of X, Y and MT, where not everybody has two copies, and unplaced ones (contig 0).
    in_regions
        Further variants in the regions to leave out.
    not_chosen
        Variants that were not among `variants`.
    kept_file, removed_file
        The two lists.
    """

    kept: int
    pruned: int
    not_diploid: int
    in_regions: int
    not_chosen: int
    kept_file: Path
    removed_file: Path


def eligible_variants(
    data: GenotypeData,
    *,
    exclude_regions: Sequence[str] = (),
    build: str | None = None,
    variants: NDArray[np.integer] | None = None,
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Choose variants that can be pruned: those given (None: all), of which everybody has two copies, outside regions.

    Returns
    -------
    Their indices, and how many were left out: `not_chosen`, `not_diploid`, `in_regions`, in this order.

    Raises
    ------
    ParameterError, InputFileError
        When a region or the build is not known, or a file of regions is damaged.
    VariantMismatchError
        When no variant is left.
    """
    contig, position = data.variant_contig, data.variant_position
    regions = [region for text in exclude_regions for region in find_regions(text, build)]
    placed = np.array([name != "0" for name in data.contig_id])[contig] & (position > 0)
    stays = np.full(data.n_variants, variants is None)
    if variants is not None:
        stays[variants] = True
    left_out = {"not_chosen": int(np.count_nonzero(~stays))}
    for why, wanted in (
        ("not_diploid", placed & (ploidy_of(data.contig_id, contig, position, build) == Ploidy.DIPLOID)),
        ("in_regions", ~in_regions(data.contig_id, contig, position, regions)),
    ):
        left_out[why] = int(np.count_nonzero(stays & ~wanted))
        stays &= wanted
    if not stays.any():
        counts = ", ".join(f"{n:,} {why.replace('_', ' ')}" for why, n in left_out.items())
        raise VariantMismatchError(f"No variant of {data.path} is left to prune: of {len(stays):,}, {counts}.")
    return np.flatnonzero(stays), left_out


def prune_to_files(
    data: GenotypeData,
    request: PruneRequest,
    *,
    samples: NDArray[np.integer] | None = None,
    variants: NDArray[np.integer] | None = None,
) -> PruneSummary:
    """Prune, and write the ids of what is kept to `out.prune.in` and of all other variants to `out.prune.out`, one a line.

    Parameters
    ----------
    data
        A store, or files.
    request
        What to leave out and how to prune.
    samples, variants
        Indices to use; None: all. What is not among `variants` is listed in `out.prune.out`, as is what lies in regions.

    Raises
    ------
    ParameterError, InputFileError
        When an option cannot be used.
    VariantMismatchError
        When no variant is left, variants are not sorted, or a variant kept shares its id with another, so that a list of
        ids cannot tell them apart.
    OutputError
        When the lists cannot be written.
    """
    chosen, left_out = eligible_variants(
        data, exclude_regions=request.exclude_regions, build=request.build, variants=variants
    )
    kept = prune(data, request.config, samples=samples, variants=chosen)
    variant_id = data.variant_id
    _check_unique(data, variant_id, kept)
    kept_file, removed_file = (request.out.with_name(request.out.name + f".prune.{name}") for name in ("in", "out"))
    for path, listed in ((removed_file, ~kept), (kept_file, kept)):
        write_text(path, "".join(f"{name}\n" for name in variant_id[listed]))
    n_kept = int(np.count_nonzero(kept))
    return PruneSummary(
        kept=n_kept, pruned=len(chosen) - n_kept, kept_file=kept_file, removed_file=removed_file, **left_out
    )  # fmt: skip


def _check_unique(data: GenotypeData, variant_id: NDArray[np.generic], kept: NDArray[np.bool_]) -> None:
    """Raise when a variant kept shares its id with another of the data."""
    order = np.argsort(variant_id, kind="stable")
    same = variant_id[order[1:]] == variant_id[order[:-1]]
    repeated = np.zeros(len(order), dtype=bool)
    repeated[order[1:]] = same
    repeated[order[:-1]] |= same
    ambiguous = np.flatnonzero(repeated & kept)
    if len(ambiguous):
        names = list(dict.fromkeys(variant_id[ambiguous].tolist()))
        raise VariantMismatchError(
            f"{data.path} names {len(names):,} variant ids more than once: {named(names)}. The lists name variants by id: "
            "make ids unique, for example with plink2 --set-all-var-ids '@:#:$r:$a'."
        )
