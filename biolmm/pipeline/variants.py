"""Which variants are scanned and which make the model: lists, regions and contigs; nothing of the genotypes is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import VariantMismatchError, named
from biolmm.files.lists import read_variant_list
from biolmm.pipeline.config import Inputs
from biolmm.regions import find_regions, in_regions
from biolmm.results.record import RunRecord
from biolmm.store.data import GenotypeData
from biolmm.store.earlier import as_of

NOT_AUTOSOMES = ("X", "Y", "XY", "MT")


@dataclass(frozen=True)
class ChosenVariants:
    """Indices of variants.

    Attributes
    ----------
    scan, model
        Into the genotypes that are scanned and into those that the model is made of.
    """

    scan: NDArray[np.int64]
    model: NDArray[np.int64]


def choose_variants(scan: GenotypeData, model: GenotypeData, inputs: Inputs, record: RunRecord) -> ChosenVariants:
    """Choose by lists and regions, and record what each took out.

    `--exclude` and `--exclude-region` hold for both, `--extract` and `--region` for the scan, `--model-extract` and
    `--model-exclude-region` for the model, which is made of autosomes.

    Raises
    ------
    VariantMismatchError
        When a list matches no variant, or leaves none.
    ParameterError
        When a region cannot be understood.
    """
    scanned = scan_variants(scan, inputs, record)
    chosen = _Choice(model, record, "model variants")
    _exclude(chosen, inputs, noted=model is scan)
    chosen.keep(on_autosomes(model), "not on autosomes", record)
    if inputs.model_extract:
        listed = _listed(model.variant_id, inputs.model_extract, record, "--model-extract")
        chosen.keep(listed, "not in --model-extract", record)
    for text in inputs.model_exclude_regions:
        chosen.keep(~chosen.inside(text, inputs.build), f"--model-exclude-region {text}", record)
    _refuse_none(chosen, "model", "--exclude, --exclude-region, --model-extract, --model-exclude-region")
    return ChosenVariants(scanned, np.flatnonzero(chosen.kept))


def on_autosomes(data: GenotypeData) -> NDArray[np.bool_]:
    """Say which variants are neither on X, Y nor mitochondria, (M,)."""
    return np.array([name not in NOT_AUTOSOMES for name in data.contig_id])[data.variant_contig]


def scan_variants(data: GenotypeData, inputs: Inputs, record: RunRecord) -> NDArray[np.int64]:
    """Return the indices of the variants to scan, see `choose_variants`."""
    chosen = _Choice(data, record, "variants")
    if inputs.scan_since is not None:
        n_before = as_of(data, inputs.scan_since).n_variants
        chosen.keep(np.arange(data.n_variants) >= n_before, "scanned before others were appended", record)
    _exclude(chosen, inputs)
    if inputs.extract:
        chosen.keep(_listed(data.variant_id, inputs.extract, record, "--extract"), "not in --extract", record)
    if inputs.regions:
        inside = np.any([chosen.inside(text, inputs.build) for text in inputs.regions], axis=0)
        chosen.keep(inside, "outside --region", record)
    _refuse_none(chosen, "scan", "--extract, --exclude, --region, --exclude-region")
    return np.flatnonzero(chosen.kept)


def _exclude(chosen: _Choice, inputs: Inputs, *, noted: bool = False) -> None:
    """Take out what is left out everywhere; `noted` says that the record has it already."""
    record = None if noted else chosen.record
    if inputs.exclude:
        chosen.keep(~_listed(chosen.data.variant_id, inputs.exclude, record, "--exclude"), "in --exclude", record)
    for text in inputs.exclude_regions:
        chosen.keep(~chosen.inside(text, inputs.build), f"--exclude-region {text}", record)


def _refuse_none(chosen: _Choice, what: str, options: str) -> None:
    if not chosen.kept.any():
        raise VariantMismatchError(f"No variant of '{chosen.data.path}' is left for the {what}: check {options}.")


class _Choice:
    """Variants still in, and a record of what took the others out."""

    def __init__(self, data: GenotypeData, record: RunRecord, what: str) -> None:
        self.data, self.record, self.what = data, record, what
        self.kept = np.ones(data.n_variants, dtype=bool)

    def keep(self, stays: NDArray[np.bool_], why: str, record: RunRecord | None) -> None:
        """Take variants out for a reason, which goes into the record."""
        gone = np.flatnonzero(self.kept & ~stays)
        self.kept &= stays
        if len(gone) and record is not None:
            record.add_dropped(self.what, why, self.data.variant_id[gone[:10]].tolist(), n=len(gone))

    def inside(self, text: str, build: str | None) -> NDArray[np.bool_]:
        """Say which variants are in a region, given by place or by name."""
        found = find_regions(text, build)
        return in_regions(self.data.contig_id, self.data.variant_contig, self.data.variant_position, found)


def _listed(variant_id: NDArray[Any], path: Path, record: RunRecord | None, option: str) -> NDArray[np.bool_]:
    wanted = read_variant_list(path, may_be_empty=option == "--exclude")
    if not wanted:
        return np.zeros(len(variant_id), dtype=bool)
    ids = np.array(wanted, dtype=variant_id.dtype)
    found = np.isin(variant_id, ids)
    if not found.any():
        raise VariantMismatchError(
            f"None of the {len(wanted):,} variants in '{path}' is in the genotypes: it lists {named(wanted, 3)}, "
            f"the genotypes have {named(variant_id[:3].tolist(), 3)}. Check the spelling of the ids."
        )
    absent = ids[~np.isin(ids, variant_id)]
    if record is not None:
        record.add_dropped("listed variants", f"{option}: not in the genotypes", absent.tolist())
    return np.asarray(found)
