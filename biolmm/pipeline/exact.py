"""The exact model as stages of an analysis: `gwas --method exact` and `exact-p3d`, and tests of sets of variants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from biolmm.association.leads import best_of_loci
from biolmm.atomic import atomic_path
from biolmm.errors import OutputError, ParameterError
from biolmm.exact import ExactConfig, ExactScan, run_exact
from biolmm.exact.run import h2_table
from biolmm.exact.sets import SET_COLUMNS, set_tests
from biolmm.files.variant_sets import VariantSet, read_variant_sets
from biolmm.pipeline.analysis import Analysis
from biolmm.pipeline.config import AnalysisConfig
from biolmm.results.tables import MISSING, write_result_table
from biolmm.schema import LEAD_COLUMNS
from biolmm.stages import content_hash
from biolmm.store.collection import Collection
from biolmm.store.convert import check_unchanged

SETS_NAME = "sets.tsv"
SETS_STAGE = "sets.parquet"


def check_exact(config: AnalysisConfig) -> None:
    """Refuse options that mean nothing to the exact model.

    Raises
    ------
    ParameterError
        Naming the option.
    """
    if config.known_model is not None:
        raise ParameterError("--known-model has spectra of the streaming solver: leave it out with --method exact.")
    if config.method == "exact" and config.fit.fixed_h2 is not None:
        raise ParameterError(
            "--fixed-h2 fixes what --method exact estimates for every variant: leave it out, or use --method exact-p3d."
        )


def exact_scan(analysis: Analysis) -> ExactScan:
    """Put traits, genotypes and relatedness of an analysis together."""
    config = analysis.config
    exact = ExactConfig(loco=config.fit.loco, fixed_ratio=config.method == "exact-p3d", filters=config.scan.filters)
    if analysis.matrix is not None:
        return analysis.matrix.scan(analysis.cohort, analysis.scanned, exact)
    return ExactScan.of(analysis.operator, analysis.cohort, analysis.scanned, exact)


def exact_stages(analysis: Analysis) -> None:
    """Fit the null model, test every variant, and find the leads."""
    config, stages, record = analysis.config, analysis.stages, analysis.record
    scan = exact_scan(analysis)
    h2 = _null_model(analysis, scan)
    with analysis.stage("exact tests") as cost:
        fixed = config.fit.fixed_h2
        ratios = h2["h2"].tolist() if fixed is None else [fixed] * len(h2)
        summary = run_exact(scan, config.out, stages.root / f"exact-{analysis.scan_key}", ratios)
        if isinstance(analysis.scanned.store, Collection):
            check_unchanged(analysis.scanned.store)
        cost["resumed"] = summary.n_resumed == summary.n_parts
        cost["passes"] = 0 if cost["resumed"] else 1
        cost["read_bytes"] = analysis.scanned.n_bytes * cost["passes"]
    model = analysis.operator.n_variants if analysis.matrix is None else analysis.matrix.n_variants
    record.counts["variants"] = {
        "genotypes": analysis.scanned.store.n_variants,
        **({} if model is None else {"model": model}),
        "scanned": summary.n_variants,
        "monomorphic": summary.n_monomorphic,
    }
    for option, count in summary.removed.items():
        threshold = getattr(config.scan.filters, option.removeprefix("--").replace("-", "_"))
        record.add_dropped("variants", f"{option} {threshold:g}", [], n=count)
    for trait, count in summary.n_without_statistics.items():
        record.add_dropped("variants", f"no statistics for {trait}: no variation left", [], n=count)
    with analysis.stage("leads"):
        traits = analysis.cohort.trait_names
        leads = best_of_loci(config.out, traits, config.scan.lead_neg_log10_p, config.scan.lead_window_bp)
        write_result_table(config.out, "leads", leads.reindex(columns=list(LEAD_COLUMNS)))


def _null_model(analysis: Analysis, scan: ExactScan) -> pd.DataFrame:
    """Estimate every trait's heritability, or read it where it is finished, and write `h2.tsv`."""
    with analysis.stage("null model") as cost:

        def build(path: Path) -> None:
            h2_table(analysis.cohort, scan.components()).to_parquet(path)

        key = content_hash(analysis.key, "exact")
        path, cost["resumed"] = analysis.stages.run("exact-null.parquet", key, build)
        h2 = pd.read_parquet(path)
    write_result_table(analysis.config.out, "h2", h2)
    for row in h2.to_dict("records"):
        analysis.record.traits[str(row["trait"])] = {"n": int(row["n"]), "solver": "exact"}
    return h2


@dataclass(frozen=True)
class ClaimedSets:
    """The sets of a file, and the name of everything that their tests depend on."""

    sets: tuple[VariantSet, ...]
    key: str


def claim_sets(analysis: Analysis, set_file: Path) -> ClaimedSets:
    """Read a file of sets, and make sure that the folder has no results of other sets; those of the same are kept.

    Raises
    ------
    InputFileError
        When the file cannot be read.
    OutputError
        When `sets.tsv` is there and is of other sets: with `overwrite` it has been removed with the analysis.
    """
    sets = read_variant_sets(set_file)
    key = content_hash(analysis.scan_key, "sets", [(s.name, s.variants, s.weights) for s in sets])
    out = analysis.config.out
    if (out / SETS_NAME).exists() and not analysis.stages.is_done(SETS_STAGE, key):
        raise OutputError(
            f"'{out}' holds results of other sets than those of '{set_file}' ({SETS_NAME}): choose another --out, or pass "
            "--overwrite to replace them."
        )
    analysis.record.add_input("set_file", set_file)
    return ClaimedSets(sets, key)


def set_stage(analysis: Analysis, claimed: ClaimedSets) -> pd.DataFrame:
    """Test sets and write `sets.tsv`."""
    scan = exact_scan(analysis)
    with analysis.stage("sets") as cost:

        def build(path: Path) -> None:
            set_tests(scan, claimed.sets).to_parquet(path)

        path, cost["resumed"] = analysis.stages.run(SETS_STAGE, claimed.key, build)
        table = pd.read_parquet(path)
    with atomic_path(analysis.config.out / SETS_NAME) as aside:
        table.to_csv(aside, sep="\t", index=False, na_rep=MISSING, columns=list(SET_COLUMNS))
    return table
