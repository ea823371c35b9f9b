"""What the command line prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biolmm.memory import StagePlan, format_bytes
from biolmm.results.associations import read_associations
from biolmm.results.diagnostics import lambda_gc
from biolmm.results.record import RunRecord
from biolmm.results.tables import read_result_table


def table_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Line up a table for a terminal: first column left, the others right.

    Examples
    --------
    >>> print(table_text(["trait", "n"], [["bmi", 10]]))
    trait   n
    bmi    10
    """
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def h2_text(out: Path) -> str:
    """Return `h2.tsv` as a table."""
    h2 = read_result_table(out, "h2")
    if h2 is None:
        return ""
    rows = [
        [r.trait, f"{r.n:,}", f"{r.h2:.4f}", f"{r.h2_se:.4f}", f"{r.h2_mc_se:.4f}", f"{r.lrt_p:.2g}"]
        for r in h2.itertuples()
    ]
    return table_text(["trait", "n", "h2", "se", "mc_se", "lrt_p"], rows)


def _fixed(value: float) -> str:
    return "–" if value != value else f"{value:.3f}"


def summary_text(out: Path, record: RunRecord) -> str:
    """Return the short summary of a finished run."""
    samples, variants = record.counts.get("samples", {}), record.counts.get("variants", {})
    model = f", {variants['model']:,} in the model" if "model" in variants else ""
    lines = [
        f"{samples.get('analysed', 0):,} samples, {variants.get('scanned', 0):,} variants scanned{model}",
        "",
    ]
    h2 = read_result_table(out, "h2")
    leads = read_result_table(out, "leads")
    heritability = {r.trait: r for r in h2.itertuples()} if h2 is not None else {}
    rows = []
    for trait, known in record.traits.items():
        chisq = read_associations(out, trait, columns=["chisq"])["chisq"].to_numpy()
        mine = leads[leads["trait"] == trait] if leads is not None else None
        n_loci = 0 if mine is None else int((mine["n_significant"] > 0).sum())
        estimate = heritability.get(trait)
        share = f"{estimate.h2:.3f} ± {estimate.h2_se:.3f}" if estimate is not None else "–"
        rows.append([trait, f"{known['n']:,}", share, _fixed(lambda_gc(chisq)), n_loci])
    lines.append(table_text(["trait", "n", "h2", "lambda_gc", "loci"], rows))
    seconds = sum(stage["wall_seconds"] for stage in record.stages)
    peak = max((stage["peak_bytes"] for stage in record.stages), default=0)
    lines += ["", f"{seconds:.1f} s, peak memory {format_bytes(peak)}"]
    lines += [f"warning: {message}" for message in record.warnings]
    lines.append(f"report: {(out / 'report.html').absolute()}")
    return "\n".join(lines)


def plan_text(plans: Sequence[StagePlan]) -> str:
    """Return the plan of every stage as a table."""
    rows = [
        [
            plan.stage,
            f"{plan.n_passes:,}",
            f"{plan.n_tasks:,}",
            format_bytes(plan.read_bytes),
            f"{plan.flop:.1e}",
            format_bytes(plan.written_bytes),
            format_bytes(plan.peak_bytes),
        ]
        for plan in plans
    ]
    return table_text(["stage", "passes", "tasks", "read", "flop", "written", "memory"], rows)


def describe_text(found: dict[str, Any]) -> str:
    """Return what `biolmm info` prints."""
    sizes = found["sizes"]
    lines = [
        f"{found['path']}",
        f"{found['n_samples']:,} samples × {found['n_variants']:,} variants, "
        f"{format_bytes(sizes['calls_bytes'])}, {sizes['bits_per_genotype']:.2f} bits a genotype ({found['encoding']})",
        f"source {found['source']}, created {found['created']}, fingerprint {found['fingerprint'][:16]}",
        "sex: " + ", ".join(f"{count:,} {name}" for name, count in found["sexes"].items()),
        "",
        table_text(
            ["contig", "variants", "first_bp", "last_bp"],
            [[c["name"], f"{c['n_variants']:,}", c["first_bp"], c["last_bp"]] for c in found["contigs"]],
        ),
        "",
    ]
    for name in ("frequencies", "missingness", "info", "r2"):
        for key, value in found.get(name, {}).items():
            if isinstance(value, list):
                lines += [f"{name}: {key}", *("  " + ", ".join(f"{k} {v}" for k, v in item.items()) for item in value)]
            else:
                lines.append(f"{name}: {key} {value}")
    return "\n".join(lines)
