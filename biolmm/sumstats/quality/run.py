"""From a store, or files, to pages, `quality.json` and the plan of filters."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from biolmm.atomic import remove, saving, write_json, write_text
from biolmm.errors import InputFileError, OutputError
from biolmm.memory import Need, StagePlan
from biolmm.report.format import count, fixed, significant
from biolmm.results.folder import now
from biolmm.results.paths import quote_name
from biolmm.results.record import package_version
from biolmm.store.tasks import MapTasks, call_one_by_one
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.matrix.change import add_studies
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.quality.across import AcrossMeasures, measure_across
from biolmm.sumstats.quality.between import judge_between
from biolmm.sumstats.quality.config import QualityConfig
from biolmm.sumstats.quality.figures import across_figures, study_figures
from biolmm.sumstats.quality.histogram import Vector
from biolmm.sumstats.quality.levels import BAD, Verdict, worst
from biolmm.sumstats.quality.page import render
from biolmm.sumstats.quality.reference import join_frequencies
from biolmm.sumstats.quality.study import COLUMNS_OF_LAMBDA, StudyMeasures, measure_study
from biolmm.sumstats.quality.verdicts import judge_study

_log = logging.getLogger("biolmm.sumstats")

QUALITY_JSON = "quality.json"
FILTERS_JSON = "filters.json"
INDEX_HTML = "index.html"
STUDIES = "studies"
HARMONISED = "harmonised"

_CELL_BYTES = 22
_ROW_BYTES = 60


@dataclass(frozen=True, eq=False)
class Quality:
    """What was found of the studies of a store.

    Attributes
    ----------
    names
        Of the studies; those that could not be read are the last.
    measures
        What was measured, of those that could be read.
    across
        What was measured between them.
    verdicts
        Of each study, in the order of the page.
    """

    names: tuple[str, ...]
    measures: tuple[StudyMeasures, ...]
    across: AcrossMeasures
    verdicts: tuple[list[Verdict], ...]

    def level(self, study: int) -> str:
        """Give the worst level of a study."""
        return worst(self.verdicts[study])

    @property
    def worst(self) -> str:
        """The worst level of all."""
        return worst([verdict for verdicts in self.verdicts for verdict in verdicts])


def plan_quality(n_variants: int, n_studies: int, chunk_variants: int, n_threads: int) -> StagePlan:
    """Plan the passes and the memory of quality control."""
    rows = min(chunk_variants, n_variants)
    workers = min(n_threads, max(-(-n_variants // chunk_variants), 1))
    needs = (
        Need("a chunk of all studies", workers * rows * n_studies * _CELL_BYTES),
        Need("slices in double precision", workers * min(rows, 1 << 14) * n_studies * _ROW_BYTES),
        Need("pairs of studies", (workers + 16) * n_studies**2 * 17 * 8 + n_studies * 100 * 100 * 8 * (workers + 16)),
        Need("counts of a study", n_threads * (14_000_000 + rows * 300)),
        Need("what is kept of each study", n_studies * 12_000_000),
    )
    return StagePlan(
        "quality of summary statistics", n_passes=4, read_bytes=4 * n_variants * n_studies * 26, needs=needs
    )


def measure_quality(
    store: SumstatsStore,
    config: QualityConfig | None = None,
    *,
    reference: Callable[[int], Vector] | None = None,
    map_tasks: MapTasks = call_one_by_one,
    refused: Mapping[str, str] | None = None,
) -> Quality:
    """Measure and judge all studies of a store; nothing is written.

    Parameters
    ----------
    store
        The store.
    config
        Filters, and what is known of the studies.
    reference
        Gives a chunk's reference frequencies; by default studies are held against each other.
    map_tasks
        Runs chunks, and studies, side by side.
    refused
        Studies that could not be read, and why.

    Notes
    -----
    **Cost**: four passes over the columns of each study. See `plan_quality` for memory.
    """
    config = config or QualityConfig()
    across = measure_across(store, config.max_eaf_difference, reference, map_tasks=map_tasks)
    measures = map_tasks(
        lambda study: measure_study(store, study, config.filters, reference), list(range(store.n_studies))
    )
    between = judge_between(
        store.study_id, store.studies, measures, across, store.contig_id, has_reference=reference is not None
    )
    own = [judge_study(meta, each, config, store.contig_id) for meta, each in zip(store.studies, measures, strict=True)]
    verdicts = [mine + others for mine, others in zip(own, between, strict=True)]
    verdicts += [
        [Verdict("readable", "Reading", BAD, "refused", "a file that can be read", reason)]
        for reason in (refused or {}).values()
    ]
    names = (*store.study_id, *(refused or {}))
    return Quality(names, tuple(measures), across, tuple(verdicts))


def run_quality(
    source: SumstatsStore | Sequence[StudyInput],
    out: Path | str,
    config: QualityConfig | None = None,
    *,
    frequencies: Path | None = None,
    rules: Rules | None = None,
    command: str = "",
    overwrite: bool = False,
    map_tasks: MapTasks = call_one_by_one,
) -> Quality:
    """Measure and judge, and write pages, `quality.json` and, where filters were asked for, `filters.json`.

    Parameters
    ----------
    source
        A store, or files, which are harmonised into a store in the folder first. A file that is refused has the verdict
        bad, with the reason; the others go on.
    out
        The folder: `index.html` across studies, `studies/NAME.html`, and `quality.json`, written last.
    config
        Filters, and what is known of the studies.
    frequencies
        A table of a reference panel's frequencies.
    rules
        How files are harmonised.
    command
        Kept in the record.
    overwrite
        Replace another quality control in the folder.
    map_tasks
        Runs chunks, and studies, side by side.

    Raises
    ------
    InputFileError
        When no file can be read, or the table of frequencies cannot.
    OutputError
        When the folder holds results already or cannot be written.
    """
    out, config = Path(out), config or QualityConfig()
    if (out / QUALITY_JSON).exists() and not overwrite:
        raise OutputError(
            f"'{out}' holds a quality control already: choose another --out, or pass --overwrite to replace it."
        )
    with saving(out):
        for name in (QUALITY_JSON, FILTERS_JSON, INDEX_HTML, STUDIES):
            remove(out / name)
        (out / STUDIES).mkdir(parents=True, exist_ok=True)
    store, refused = (source, {}) if isinstance(source, SumstatsStore) else _harmonise(source, out, rules, map_tasks)
    reference, aside = None, out / ".frequencies"
    try:
        if frequencies is not None:
            reference, _ = join_frequencies(store, frequencies, aside)
        found = measure_quality(store, config, reference=reference, map_tasks=map_tasks, refused=refused)
    finally:
        aside.unlink(missing_ok=True)
    _write(out, store, found, config, command, "the reference" if reference is not None else "the other studies")
    return found


def _harmonise(
    studies: Sequence[StudyInput], out: Path, rules: Rules | None, map_tasks: MapTasks
) -> tuple[SumstatsStore, dict[str, str]]:
    """Make a store of the files; when one is refused, of the others."""
    _remove_store(out)
    try:
        return add_studies(out / HARMONISED, studies, rules, map_tasks=map_tasks), {}
    except InputFileError as error:
        if len(studies) == 1:
            raise
        _log.warning("%s", error)
    refused: dict[str, str] = {}
    _remove_store(out)
    for study in studies:
        try:
            add_studies(out / HARMONISED, [study], rules, map_tasks=map_tasks)
        except InputFileError as error:
            refused[study.name] = str(error)
    remove(out / f"{HARMONISED}.partial")
    if len(refused) == len(studies):
        raise InputFileError(f"None of {len(studies)} files can be read; the first: {next(iter(refused.values()))}")
    return SumstatsStore.open(out / HARMONISED), refused


def _remove_store(out: Path) -> None:
    """Remove the store of an earlier run, and what an attempt that was refused left for the next one."""
    for name in (HARMONISED, f"{HARMONISED}.partial"):
        remove(out / name)


def _write(out: Path, store: SumstatsStore, found: Quality, config: QualityConfig, command: str, against: str) -> None:
    common = {"version": package_version("biolmm"), "finished": now()}
    rows = [_row(found, study) for study in range(len(found.names))]
    plans = {}
    for study, measures in enumerate(found.measures):
        plan = _plan(measures, config)
        if plan:
            plans[found.names[study]] = plan
        context = {
            **common,
            "name": found.names[study],
            "index": f"../{INDEX_HTML}",
            "verdicts": found.verdicts[study],
            "tiles": _tiles(rows[study]),
            "numbers": _numbers(measures),
            "plan": plan,
            "counts": store.studies[study].get("counts", {}),
        }
        figures = study_figures(measures, store.contig_id, found.across, study, against=against)
        write_text(out / rows[study]["page"], render("study.html.j2", context, figures))
    levels = [found.level(study) for study in range(len(found.measures))]
    figures = across_figures(found.names[: len(levels)], found.measures, found.across, levels)
    context = {
        **common,
        "studies": rows,
        "source": str(store.path),
        "n_variants": store.n_variants,
        "command": command,
        "has_plan": bool(plans),
    }
    write_text(out / INDEX_HTML, render("across.html.j2", context, figures))
    if plans:
        write_json(out / FILTERS_JSON, {"applied": False, "studies": plans})
    record = {
        **common,
        "store": str(store.path),
        "fingerprint": store.fingerprint,
        "command": command,
        "level": found.worst,
        "studies": [_as_json(found, study, rows[study]) for study in range(len(rows))],
        "pairs": _pairs(found),
    }
    write_text(out / QUALITY_JSON, json.dumps(_finite(record), indent=2, default=str, allow_nan=False) + "\n")


def _row(found: Quality, study: int) -> dict[str, Any]:
    """What the table of studies shows."""
    row: dict[str, Any] = {
        "name": found.names[study],
        "level": found.level(study),
        "verdicts": found.verdicts[study],
        "page": None,
        "href": None,
        "n_variants": None,
        "median_n": None,
        "lambda_gc": None,
        "visscher": None,
        "eaf_correlation": None,
        "median_info": None,
    }
    if study >= len(found.measures):
        return row
    each = found.measures[study]
    page = f"{STUDIES}/{quote_name(found.names[study])}.html"
    return {
        **row,
        "page": page,
        "href": quote(page),  # the % of a quoted name is a % of the link too
        "n_variants": each.n_present,
        "median_n": each.n.quantile(0.5),
        "lambda_gc": each.lambda_gc(each.lambda_column),
        "visscher": each.visscher.quantile(0.5),
        "eaf_correlation": float(found.across.frequency_correlation()[study]),
        "median_info": each.info.quantile(0.5),
    }


def _tiles(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (count(row["n_variants"]), "variants"),
        (count(row["median_n"]), "median N"),
        (fixed(row["lambda_gc"]), "λ"),
        (significant(row["visscher"], 3), "median 2p(1−p)·N·SE²"),
        (fixed(row["median_info"], 2), "median INFO"),
    ]


def _measured(found: StudyMeasures) -> dict[str, float | int]:
    """Give the numbers of one study, by name."""
    numbers: dict[str, float | int] = {
        "n_present": found.n_present,
        "median_n": found.n.quantile(0.5),
        "max_n": found.max_n,
        "median_se": found.se.quantile(0.5),
        "median_abs_beta": found.abs_beta.quantile(0.5),
        "mean_beta": found.beta.mean,
        "sd_beta": found.beta.sd,
        "skewness_beta": found.beta.skewness,
        "kurtosis_beta": found.beta.kurtosis,
        "share_positive": found.n_positive / found.n_signed if found.n_signed else math.nan,
        "median_visscher": found.visscher.quantile(0.5),
        "se_slope": found.precision.slope,
        "se_correlation": found.precision.correlation,
        "median_info": found.info.quantile(0.5),
        "n_p_disagree": found.n_status.get("p_disagrees", 0),
        "median_z_ratio": found.z_ratio.quantile(0.5),
    }
    return numbers | {
        f"lambda {name}": found.lambda_gc(at) for at, name in enumerate(COLUMNS_OF_LAMBDA) if found.n_lambda(at)
    }


def _numbers(found: StudyMeasures) -> dict[str, str]:
    return {
        name: count(value) if isinstance(value, int) else significant(value, 4)
        for name, value in _measured(found).items()
    }


def _plan(found: StudyMeasures, config: QualityConfig) -> dict[str, Any]:
    asked = config.filters.asked()
    return {"filters": asked, "n_failing": found.filtered, "n_left_out": found.n_filtered} if asked else {}


def _as_json(found: Quality, study: int, row: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"name": row["name"], "level": row["level"], "verdicts": [asdict(v) for v in row["verdicts"]]}
    if study < len(found.measures):
        each = found.measures[study]
        out |= {
            "numbers": _measured(each),
            "status": each.n_status,
            "missing": each.n_missing,
            "eaf_correlation": row["eaf_correlation"],
            "eaf_outliers": int(found.across.outliers[study]),
        }
    return out


def _pairs(found: Quality) -> dict[str, Any]:
    across = found.across
    return {
        "z_correlation": across.z_correlation().tolist(),
        "eaf_correlation": across.eaf_correlation().tolist(),
        "leads": across.lead[0].tolist(),
        "leads_of_same_sign": across.lead[1].tolist(),
    }


def _finite(value: Any) -> Any:
    """Replace what JSON has no word for by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
