"""The scan as a lazy xarray Dataset: a part is computed when its values are asked for."""

from __future__ import annotations

import dask.array
import numpy as np
import xarray as xr
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from biolmm.association.score import ScoredPart, score_partition
from biolmm.association.setup import ScanSetup

STATISTICS = ("beta", "standard_error", "chisq", "neg_log_10_p_value")


def scan_lazily(setup: ScanSetup) -> xr.Dataset:
    """Return the statistics of every variant and trait, (variants, traits), computed part by part on demand.

    Returns
    -------
    xr.Dataset
        `beta`, `standard_error`, `chisq`, `neg_log_10_p_value`, `effect_allele_frequency`; coordinates `traits`,
        `chromosome`, `base_pair_location`, `effect_allele`, `other_allele`, `rsid`. With the plain regression beside,
        its statistics under the same names with `linear_` in front.
    """
    source = setup.source
    store, variants = source.store, source.variants
    variables: dict[str, tuple[tuple[str, str], dask.array.Array]] = {}
    parts = _parts(setup)
    sizes = [len(partition.variants) for partition in source.partitions]
    kinds = [kind for kind, wanted in (("associations", setup.config.mixed), ("linear", setup.config.linear)) if wanted]
    n_traits = len(setup.panel.traits)
    for kind in kinds:
        prefix = "linear_" if kind == "linear" and setup.config.mixed else ""
        for name in STATISTICS:
            variables[prefix + name] = (
                ("variants", "traits"),
                _column(parts, sizes, n_traits, kind, name),
            )
    frequency = _column(parts, sizes, n_traits, kinds[0], "frequency")
    variables["effect_allele_frequency"] = (("variants", "traits"), frequency)
    contigs = np.array(store.contig_id, dtype=str)
    return xr.Dataset(
        variables,
        coords={
            "traits": ("traits", np.array(setup.panel.traits, dtype=str)),
            "chromosome": ("variants", contigs[store.variant_contig[variants]]),
            "base_pair_location": ("variants", store.variant_position[variants]),
            "effect_allele": ("variants", store.alt[variants]),
            "other_allele": ("variants", store.ref[variants]),
            "rsid": ("variants", store.variant_id[variants]),
        },
    )


def _parts(setup: ScanSetup) -> list[Delayed]:
    """Return the statistics of every part, in order; parts of a contig share its panel, and all share K."""
    held = delayed(setup, pure=False, traverse=False)
    found = {}
    for contig, partitions in setup.by_contig(setup.source.partitions):
        panel = held.panel_without(contig, held.relatedness)
        for part in partitions:
            found[part.index] = delayed(score_partition, pure=False)(part, panel, setup.contig_of(part))
    return [found[part.index] for part in setup.source.partitions]


def _column(parts: list[Delayed], sizes: list[int], n_traits: int, kind: str, name: str) -> dask.array.Array:
    """Return one statistic as a Dask array, a block a part."""
    blocks = [
        dask.array.from_delayed(delayed(_pick, pure=False)(part, kind, name), shape=(size, n_traits), dtype=np.float64)
        for part, size in zip(parts, sizes, strict=True)
    ]
    column: dask.array.Array = dask.array.concatenate(blocks, axis=0)
    return column


def _pick(found: ScoredPart, kind: str, name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = getattr(found.statistics[kind], name)
    return values
