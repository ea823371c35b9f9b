"""The folder of `biolmm predict`."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.atomic import write_json
from biolmm.errors import InputFileError
from biolmm.genotypes.weights import Applied, VariantWeights, read_weights
from biolmm.prediction.accuracy import CrossValidation
from biolmm.prediction.blup import Blup
from biolmm.results.folder import now, write_tsv
from biolmm.results.record import package_version

log = logging.getLogger(__name__)

PREDICT_JSON, WEIGHTS, SCORE_FILE = "predict.json", "weights.parquet", "weights.score.tsv"
FILES = (WEIGHTS, SCORE_FILE, "genetic_values.tsv", "fixed_effects.tsv", "scores.tsv", "accuracy.tsv", "folds.tsv",
         "cross_validated.tsv")  # fmt: skip
PREFIX = "beta_"
FEW = 0.95
"""Share of a score's variance below which missing variants are warned of."""


def write_blup(found: Blup, sample_id: NDArray[np.str_], out: Path) -> list[str]:
    """Write `weights.parquet`, `weights.score.tsv`, `genetic_values.tsv` and `fixed_effects.tsv`; return warnings."""
    found.weights.write(out / WEIGHTS, PREFIX)
    warnings = write_score_file(found.weights, out / SCORE_FILE)
    write_tsv(out / "genetic_values.tsv", value_table(sample_id, found.weights.names, found.genetic_values))
    write_tsv(out / "fixed_effects.tsv", found.fixed_effects.reset_index())
    return warnings


def write_score_file(weights: VariantWeights, path: Path) -> list[str]:
    """Write weights as `plink2 --score FILE 1 2 header-read --score-col-nums 3-…` reads them; return warnings.

    Columns ID, A1 (ALT) and one a trait, spaces in names replaced by `_`.
    """
    ids = weights.variants.variant_id.tolist()
    table = pd.DataFrame({"ID": ids, "A1": weights.variants.alt.tolist()})
    names = [re.sub(r"\s", "_", name) for name in weights.names]
    write_tsv(path, pd.concat([table, pd.DataFrame(weights.W, columns=names)], axis=1))
    unusable = sum(count for name, count in Counter(ids).items() if count > 1 or name in ("", "."))
    if not unusable:
        return []
    text = (
        f"{unusable:,} of {len(ids):,} variants have no id of their own, so that {path.name} cannot tell them apart: "
        f"use {WEIGHTS}, which has positions and alleles."
    )
    log.warning("%s", text)
    return [text]


def read_effects(folder: Path) -> VariantWeights:
    """Read the weights that `biolmm predict` wrote: from its folder, or the file itself.

    Raises
    ------
    InputFileError
        When they are missing or damaged.
    """
    if folder.is_dir() and not (folder / WEIGHTS).exists():
        raise InputFileError(
            f"'{folder}' holds no weights ({WEIGHTS} is not there): run `biolmm predict --model` first."
        )
    path = folder / WEIGHTS if folder.is_dir() else folder
    weights = read_weights(path, "effects")
    offset = weights.extra.get("offset")
    if not isinstance(offset, list) or len(offset) != len(weights.names):
        raise InputFileError(f"'{path}' lacks the offset of its scores: run `biolmm predict --model` again.")
    return weights


def found_share(weights: VariantWeights, applied: Applied) -> NDArray[np.float64]:
    """Return (T,) the share of Σ 2f(1−f) β² that the variants found have: of a score's variance without LD."""
    variance = (2 * weights.frequency * (1 - weights.frequency))[:, None] * weights.W**2
    total = variance.sum(axis=0)
    part = variance[applied.matched.wanted].sum(axis=0)
    return np.asarray(np.divide(part, total, out=np.ones_like(total), where=total > 0))


def write_scores(
    weights: VariantWeights, applied: Applied, sample_id: NDArray[np.str_], out: Path
) -> tuple[dict[str, Any], list[str]]:
    """Write `scores.tsv`: genetic values of other people; return what `predict.json` says of them, and warnings."""
    write_tsv(out / "scores.tsv", value_table(sample_id, weights.names, applied.scores))
    share = found_share(weights, applied)
    absent = np.setdiff1d(np.arange(weights.variants.n), applied.matched.wanted)
    warnings = []
    if share.min(initial=1.0) < FEW:
        warnings.append(
            f"{len(absent):,} of {weights.variants.n:,} variants with weights are not in the genotypes"
            f"{applied.matched.copies_text}; of the score of "
            f"'{weights.names[int(share.argmin())]}' {100 * share.min():.1f} % of the variance is there. They count as the mean."
        )
        log.warning("%s", warnings[0])
    about = {
        "samples": len(sample_id), "variants": applied.matched.counts,
        "missing_examples": weights.variants.variant_id[absent[:5]].tolist(),
        "share_of_score_variance": dict(zip(weights.names, share.tolist(), strict=True)),
    }  # fmt: skip
    return about, warnings


def write_accuracy(found: CrossValidation, sample_id: NDArray[np.str_], names: tuple[str, ...], out: Path) -> None:
    """Write `accuracy.tsv`, `folds.tsv` and `cross_validated.tsv`, whose column `fold` counts from 1."""
    write_tsv(out / "accuracy.tsv", found.accuracy)
    write_tsv(out / "folds.tsv", found.folds)
    table = value_table(sample_id, names, found.predicted)
    table.insert(1, "fold", found.fold + 1)
    write_tsv(out / "cross_validated.tsv", table)


def write_record(out: Path, record: Mapping[str, Any]) -> None:
    """Write `predict.json`, last of all."""
    write_json(out / PREDICT_JSON, {"biolmm_version": package_version("biolmm"), **record, "finished": now()})


def value_table(sample_id: NDArray[np.str_], names: tuple[str, ...], values: NDArray[np.float64]) -> pd.DataFrame:
    """Return a row a sample, a column a trait."""
    table = pd.DataFrame(values, columns=list(names))
    table.insert(0, "sample_id", sample_id.tolist(), allow_duplicates=True)
    return table
