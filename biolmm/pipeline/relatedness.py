"""Genotypes of an analysis without traits: a store or files, some samples, some variants, on autosomes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from biolmm.cohort.samples import all_samples, apply_lists
from biolmm.errors import VariantMismatchError
from biolmm.files.lists import read_id_list
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.pipeline.config import Inputs
from biolmm.pipeline.genotypes import open_data
from biolmm.pipeline.variants import on_autosomes, scan_variants
from biolmm.results.record import RunRecord


@dataclass(frozen=True)
class ChosenCohort:
    """Chosen genotypes, and a record of what was left out.

    Attributes
    ----------
    source
        Samples and variants.
    record
        Its `dropped` says what took samples and variants out.
    """

    source: ChosenGenotypes
    record: RunRecord


def choose_autosomes(inputs: Inputs, memory_bytes: int, command: str = "") -> ChosenCohort:
    """Open genotypes and choose samples and variants by lists and regions; variants beside autosomes are left out.

    Rows stay in memory within a quarter of the budget, where all of them fit; otherwise none does.

    Raises
    ------
    UserError
        When something cannot be read, or lists match nothing.
    """
    data = open_data(inputs.genotypes, inputs)
    record = RunRecord.start(command)
    keep, remove = (read_id_list(path) if path else None for path in (inputs.keep, inputs.remove))
    samples = apply_lists(all_samples(data.sample_id), keep, remove)
    record.dropped += samples.dropped
    variants = scan_variants(data, inputs, record)
    autosomal = on_autosomes(data)[variants]
    if not autosomal.any():
        raise VariantMismatchError(f"None of the {len(variants):,} chosen variants of '{data.path}' is on an autosome.")
    ids = data.variant_id[variants[~autosomal][:10]].tolist()
    record.add_dropped("variants", "not on autosomes", ids, n=int(np.count_nonzero(~autosomal)))
    index = np.flatnonzero(samples.kept)
    chosen = ChosenGenotypes.choose(data, index, variants[autosomal], memory_bytes // 4, build=inputs.build)
    if chosen.n_bytes > memory_bytes // 4:
        chosen = ChosenGenotypes.choose(data, index, variants[autosomal], 0, build=inputs.build)
    return ChosenCohort(chosen, record)
