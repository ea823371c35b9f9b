"""Folders of `biolmm pca` and `biolmm project`: what is written, in which order, and how it is read again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biolmm.atomic import atomic_path, write_json
from biolmm.errors import InputFileError
from biolmm.genotypes.weights import VariantWeights, read_weights
from biolmm.plots.scree import component_pairs, variance_explained
from biolmm.plots.style import to_png
from biolmm.relatedness.pca import PcaConfig, PrincipalComponents, component_names, unsettled_warning
from biolmm.relatedness.projection import SHRINKAGE_NOTE, Projection
from biolmm.results.folder import now, write_tsv
from biolmm.results.record import package_version
from biolmm.results.tables import write_result_table

log = logging.getLogger(__name__)

PCA_JSON, PROJECT_JSON, LOADINGS = "pca.json", "project.json", "loadings.parquet"
PCA_FILES = ("pcs.tsv", "eigenvalues.tsv", "samples.tsv", LOADINGS, "scree.png", "pcs.png")
PROJECT_FILES = ("pcs.tsv", "pcs.png")


def components_table(components: PrincipalComponents | Projection) -> pd.DataFrame:
    """Return `pcs.tsv`: sample_id and PC1, PC2, …, as `--covariates` takes it."""
    table = pd.DataFrame(components.vectors, columns=list(component_names(components.vectors.shape[1])))
    table.insert(0, "sample_id", components.sample_id.tolist())
    return table


def eigenvalue_table(components: PrincipalComponents) -> pd.DataFrame:
    """Return `eigenvalues.tsv`: eigenvalues of K, their share of the trace, and how accurate they are."""
    return pd.DataFrame({
        "component": component_names(len(components.eigenvalues)),
        "eigenvalue": components.eigenvalues,
        "share": components.share,
        "cumulative_share": np.cumsum(components.share),
        "residual": components.residuals,
        "settled": components.settled,
    })  # fmt: skip


def write_components(
    components: PrincipalComponents, out: Path, config: PcaConfig, record: Mapping[str, Any]
) -> list[str]:
    """Write the folder of `biolmm pca`; `pca.json` comes last. Return the warnings.

    Parameters
    ----------
    components, config
        What was found, and how.
    out
        The folder, see `results.folder.claim_folder`.
    record
        What `pca.json` should say besides: command, key, inputs, what was dropped.
    """
    table, eigenvalues = components_table(components), eigenvalue_table(components)
    write_result_table(out, "pcs", table)
    write_tsv(out / "eigenvalues.tsv", eigenvalues)
    roles = np.where(components.used, "computed on", "projected")
    write_tsv(out / "samples.tsv", pd.DataFrame({"sample_id": components.sample_id.tolist(), "role": roles}))
    components.loadings.write(out / LOADINGS)
    _write_png(out / "scree.png", variance_explained(eigenvalues))
    _write_png(out / "pcs.png", component_pairs(table, ~components.used))
    warnings = [text for text in [unsettled_warning(components)] if text]
    if not components.used.all():
        warnings.append(SHRINKAGE_NOTE)
    for text in warnings:
        log.warning("%s", text)
    write_json(out / PCA_JSON, {
        "biolmm_version": package_version("biolmm"), **record, "finished": now(), "config": asdict(config),
        "samples": {"in_use": len(components.sample_id), "computed_on": int(components.used.sum()),
                    "projected": int((~components.used).sum())},
        "variants": {"used": components.loadings.variants.n, "filtered": components.filtered},
        "m": components.m, "trace": components.trace, "eigenvalues": components.eigenvalues.tolist(),
        "residuals": components.residuals.tolist(), "passes": components.n_passes, "warnings": warnings,
    })  # fmt: skip
    return warnings


def read_loadings(folder: Path) -> VariantWeights:
    """Read the loadings that `biolmm pca` wrote: from its folder, or the file itself.

    Raises
    ------
    InputFileError
        When they are missing or damaged, or the folder is not finished.
    """
    path = folder / LOADINGS if folder.is_dir() else folder
    if folder.is_dir() and not (folder / PCA_JSON).exists():
        raise InputFileError(
            f"'{folder}' holds no finished components ({PCA_JSON} is not there): run `biolmm pca` first."
        )
    loadings = read_weights(path, "loadings")
    factors = loadings.extra.get("factors")
    if not isinstance(factors, list) or len(factors) != len(loadings.names):
        raise InputFileError(f"'{path}' lacks the scale of its components: run `biolmm pca` again.")
    return loadings


def write_projection(projection: Projection, loadings: VariantWeights, out: Path, record: Mapping[str, Any]) -> None:
    """Write the folder of `biolmm project`: `pcs.tsv`, `pcs.png` and, last, `project.json`."""
    table = components_table(projection)
    write_result_table(out, "pcs", table)
    _write_png(out / "pcs.png", component_pairs(table))
    absent = np.setdiff1d(np.arange(loadings.variants.n), projection.matched.wanted)
    write_json(out / PROJECT_JSON, {
        "biolmm_version": package_version("biolmm"), **record, "finished": now(),
        "samples": len(projection.sample_id), "variants": projection.matched.counts,
        "missing_examples": loadings.variants.variant_id[absent[:5]].tolist(),
        "share_of_squared_loadings": dict(zip(loadings.names, projection.found.tolist(), strict=True)),
        "warnings": [SHRINKAGE_NOTE],
    })  # fmt: skip


def _write_png(path: Path, figure: Any) -> None:
    with atomic_path(path) as aside:
        aside.write_bytes(to_png(figure))
