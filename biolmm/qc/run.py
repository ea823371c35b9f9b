"""From genotypes to `qc.html` and the lists of what to leave out."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from biolmm.atomic import atomic_path, remove, saving, write_json, write_text
from biolmm.chunks import n_threads
from biolmm.cohort.samples import all_samples, apply_lists
from biolmm.contigs import Ploidy, ploidy_of
from biolmm.errors import InputFileError, OutputError
from biolmm.files.encoding import row_bytes
from biolmm.memory import Need, StagePlan
from biolmm.plots.style import to_png
from biolmm.qc.config import QcConfig
from biolmm.qc.figures import draw_figures
from biolmm.qc.groups import FIRST, SECOND, make_groups, read_cases
from biolmm.qc.page import render
from biolmm.qc.samples import SampleQuality, judge_samples
from biolmm.qc.tally import COUNTERS, MAX_TASKS, tally_genotypes
from biolmm.qc.variants import VariantQuality, judge_variants
from biolmm.qc.verdicts import judge
from biolmm.report.verdicts import Verdict
from biolmm.results.record import package_version
from biolmm.stages import content_hash
from biolmm.store.data import GenotypeData

QC_JSON = "qc.json"
QC_HTML = "qc.html"
VARIANTS = "variants.parquet"
SAMPLES = "samples.tsv"
FLAGGED_VARIANTS = "flagged_variants.txt"
FLAGGED_SAMPLES = "flagged_samples.tsv"
PLOTS = "plots"

_COLUMN_BYTES = 100
"""Bytes of a variant's numbers, names not counted."""

_SAMPLE_BYTES = 500
"""Bytes of a sample's counters in double width, its numbers and its names."""


@dataclass(frozen=True, eq=False)
class QcResult:
    """What was found.

    Attributes
    ----------
    variants, samples
        Numbers and flags of each.
    verdicts
        What they mean, in the order of the page.
    trait
        The trait that told cases from controls; None where there was none.
    n_cases, n_controls
        How many there are.
    """

    variants: VariantQuality
    samples: SampleQuality
    verdicts: list[Verdict]
    trait: str | None = None
    n_cases: int = 0
    n_controls: int = 0


def measure_quality(
    data: GenotypeData,
    config: QcConfig | None = None,
    *,
    traits: pd.DataFrame | None = None,
    trait: str | None = None,
) -> QcResult:
    """Measure the quality of every variant and sample in one pass; nothing is written.

    Parameters
    ----------
    data
        The genotypes. Of dosages, genotypes are counted where they are within 0.1 of a whole number; call rates and
        frequencies are of the dosages themselves.
    config
        Thresholds, and who is looked at.
    traits, trait
        A table with a trait of two values, and its name where the table has several: missingness is compared between
        cases and controls.

    Raises
    ------
    TraitError
        When the trait is unknown or has not two values.
    SampleMismatchError
        When the lists leave nobody.
    InputFileError
        When there are no variants, or the genotypes cannot be read.

    Notes
    -----
    **Cost**: one pass, about 10⁹ genotypes per second and core; see `plan_qc` for memory.
    """
    config = config or QcConfig()
    if data.n_variants == 0:
        raise InputFileError(f"{data.path} holds no variants: there is nothing to measure.")
    kept = apply_lists(all_samples(data.sample_id), config.keep, config.remove).kept
    name, cases = (None, None) if traits is None else read_cases(traits, trait, data.sample_id)
    groups = make_groups(data.sex, kept, cases, config.by_sex)
    ploidy = ploidy_of(data.contig_id, data.variant_contig, data.variant_position, config.build)
    tally = tally_genotypes(data, groups, ploidy)
    samples = judge_samples(data, ploidy, groups, tally, config)
    variants = judge_variants(data, ploidy, tally, config)
    sizes = groups.sizes(Ploidy.DIPLOID)
    return QcResult(variants, samples, judge(variants, samples, config), name, sizes[FIRST], sizes[SECOND])


def run_qc(
    data: GenotypeData,
    out: Path | str,
    config: QcConfig | None = None,
    *,
    traits: pd.DataFrame | None = None,
    trait: str | None = None,
    command: str = "",
    overwrite: bool = False,
) -> QcResult:
    """Measure as `measure_quality` and write tables, lists of what is flagged, figures and a page to a folder.

    Parameters
    ----------
    data, config, traits, trait
        As `measure_quality`.
    out
        The folder. `qc.json` is written last: a folder that has it is whole.
    command
        What was asked for, for the record.
    overwrite
        Replace the quality control of other genotypes or with other thresholds.

    Raises
    ------
    OutputError
        When the folder holds another quality control, or cannot be written.
    TraitError, SampleMismatchError, InputFileError
        As `measure_quality`.
    """
    config, out = config or QcConfig(), Path(out)
    started = _now()
    key = content_hash(data.fingerprint, asdict(config), trait, None if traits is None else traits.to_csv())
    _check_folder(out, key, overwrite)
    found = measure_quality(data, config, traits=traits, trait=trait)
    record = _record(data, config, found, {"command": command, "started": started, "key": key})
    figures = draw_figures(found.variants, found.samples, config)
    with saving(out):
        out.mkdir(parents=True, exist_ok=True)
        for name in (QC_JSON, QC_HTML, PLOTS):
            remove(out / name)
    _write_variants(found.variants, out)
    _write_samples(data, found.samples.table, out)
    for name, figure in figures.items():
        with atomic_path(out / PLOTS / f"{name}.png") as aside:
            aside.write_bytes(to_png(figure))
    write_text(out / QC_HTML, render(record, found.verdicts, found.samples.table, figures, str(out)))
    write_json(out / QC_JSON, record)
    return found


def plan_qc(data: GenotypeData, n_workers: int | None = None) -> StagePlan:
    """Plan what `run_qc` will read and hold."""
    workers = n_workers or n_threads()
    n_chunks = -(-data.n_variants // data.chunk_variants)
    chunk_rows = min(data.chunk_variants, data.n_variants)
    chunk = chunk_rows * data.encoding.row_bytes(data.n_samples)
    split = 2 * chunk_rows * row_bytes(data.n_samples) if data.encoding.is_dosage else 0
    counters = data.n_samples * (4 * COUNTERS + 2 * 8)
    n_tasks = math.ceil(n_chunks / math.ceil(n_chunks / MAX_TASKS)) if n_chunks else 0
    # Beside the worker's own tally, a sum waits at each level of the tree for its other parts.
    waiting = 4 * max(1, math.ceil(math.log(max(n_tasks, 1), 4)))
    return StagePlan(
        stage="quality control",
        n_tasks=n_tasks,
        n_passes=1,
        read_bytes=data.n_variants * data.encoding.row_bytes(data.n_samples),
        written_bytes=data.n_variants * _COLUMN_BYTES,
        needs=(
            Need("chunks of genotypes", workers * (2 * chunk + split)),
            Need("counters of the samples", (workers + waiting) * counters),
            Need("numbers of the variants", 2 * data.n_variants * _COLUMN_BYTES),
            Need("table of the samples", data.n_samples * _SAMPLE_BYTES),
        ),
    )


def _check_folder(out: Path, key: str, overwrite: bool) -> None:
    """Refuse to replace another quality control; a folder without `qc.json` has none."""
    path = out / QC_JSON
    if overwrite or not path.exists():
        return
    try:
        same = json.loads(path.read_text(encoding="utf-8")).get("key") == key
    except (OSError, ValueError, AttributeError):
        same = False
    if not same:
        raise OutputError(
            f"{out} holds the quality control of other genotypes or with other options. Choose another folder with --out, "
            "or replace it with --overwrite."
        )


def _write_variants(variants: VariantQuality, out: Path) -> None:
    """Write the table in row groups, and the ids of what is flagged."""
    with atomic_path(out / VARIANTS) as aside:
        writer = None
        try:
            for batch in variants.batches():
                writer = writer or pq.ParquetWriter(aside, batch.schema, compression="zstd")
                writer.write_table(batch)
        finally:
            if writer is not None:
                writer.close()
    ids = variants.data.variant_id[variants.flagged].tolist()
    write_text(out / FLAGGED_VARIANTS, "".join(f"{name}\n" for name in dict.fromkeys(ids)))


def _write_samples(data: GenotypeData, table: pd.DataFrame, out: Path) -> None:
    """Write the table, and who is flagged and why, so that both biolmm and PLINK take it for a list."""
    families = dict(zip(data.sample_id.tolist(), data.family_id.tolist(), strict=True))
    flagged = table.loc[table["flagged_for"] != "", ["sample_id", "flagged_for"]].rename(columns={"sample_id": "IID"})
    flagged.insert(0, "#FID", [families[name] or "0" for name in flagged["IID"]])
    for name, frame in ((SAMPLES, table), (FLAGGED_SAMPLES, flagged)):
        with atomic_path(out / name) as aside:
            frame.to_csv(aside, sep="\t", index=False, na_rep="NA", lineterminator="\n")


def _record(data: GenotypeData, config: QcConfig, found: QcResult, asked: dict[str, Any]) -> dict[str, Any]:
    """Collect what `qc.json` holds."""
    variants, table = found.variants, found.samples.table
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
    return {
        "biolmm_version": package_version("biolmm"),
        **asked,
        "finished": _now(),
        "genotypes": {
            "path": str(data.path),
            "fingerprint": data.fingerprint,
            "encoding": data.encoding.value,
            "n_samples": data.n_samples,
            "n_variants": data.n_variants,
        },
        "cases": {"trait": found.trait, "n_cases": found.n_cases, "n_controls": found.n_controls},
        "config": settings,
        "counts": {
            "variants": {
                "total": len(variants.ploidy),
                "flagged": int(variants.flagged.sum()),
                "do_not_vary": int((variants.columns["mac"] == 0).sum()),
                "reasons": variants.n_flagged,
            },
            "samples": {
                "total": len(table),
                "flagged": int((table["flagged_for"] != "").sum()),
                "reasons": found.samples.n_flagged,
            },
        },
        "medians": {
            "variant_call_rate": _median(variants.columns["call_rate"]),
            "sample_call_rate": _median(table["call_rate"].to_numpy(np.float64)),
            "maf": _median(variants.columns["maf"]),
            "f": _median(table["f"].to_numpy(np.float64)),
        },
        "verdicts": [asdict(verdict) for verdict in found.verdicts],
        "warnings": _warnings(data, found),
    }


def _warnings(data: GenotypeData, found: QcResult) -> list[str]:
    """Say what the lists cannot."""
    warnings = []
    flagged = found.variants.flagged
    if flagged.any():
        ids = pd.Series(data.variant_id.tolist(), dtype=object)
        others = int((ids.isin(set(ids[flagged])).to_numpy() & ~flagged).sum())
        if others:
            warnings.append(
                f"{others:,} variants that are not flagged share the id of one that is: a list of ids would exclude them "
                "as well. Give the variants unique ids, or choose by the numbers of variants.parquet."
            )
    n_x = int((found.variants.ploidy == Ploidy.X).sum())
    n_unknown = int((found.samples.table["sex"] == "unknown").sum())
    if n_x and n_unknown:
        warnings.append(
            f"Of {n_unknown:,} of {len(found.samples.table):,} samples the sex is unknown: on X they count two alleles, as "
            "women do, and on Y none."
        )
    return warnings


def _median(values: Any) -> float | None:
    present = values[~np.isnan(values)]
    return float(np.median(present)) if len(present) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
