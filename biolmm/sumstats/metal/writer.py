"""METAL's table and its `.info` file, with METAL's formats.

    Freq1 FreqSE MinFreq MaxFreq %.4f    Weight N %.2f    Zscore %.3f    Effect StdErr %.4f, or of the precision set
    P-value %.4g, where |Z| ≥ 20 %.2fe%.0f from the log tail    log(P) %.2f, log₁₀    HetISq %.1f    HetChiSq %.3f
    HetPVal %.4g, logHetP %.4g    custom variables %g

Rows are in the order in which markers were met; METAL's are in that of its hash table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.atomic import atomic_path, write_text
from biolmm.sumstats.metal.combine import Stretch
from biolmm.sumstats.metal.settings import Analyse
from biolmm.sumstats.metal.study import Shelf

Vector = NDArray[np.float64]

_FAR = 20.0


def header(step: Analyse) -> list[str]:
    """Name the columns of a table."""
    settings = step.settings
    by_error = settings.scheme == "stderr"
    return [
        *(["Chromosome", "Position"] if settings.track_positions else []),
        "MarkerName", "Allele1", "Allele2",
        *(["Freq1", "FreqSE"] if settings.average_freq else []),
        *(["MinFreq", "MaxFreq"] if settings.min_max_freq else []),
        *(["Effect", "StdErr"] if by_error else ["Weight", "Zscore"]),
        *(["N"] if settings.overlap else []),
        "log(P)" if settings.log_pvalue else "P-value", "Direction",
        *(["HetISq", "HetChiSq", "HetDf", "logHetP" if settings.log_pvalue else "HetPVal"] if step.heterogeneity else []),
        *(variable for variable, _ in settings.custom),
    ]  # fmt: skip


def write_table(step: Analyse, path: Path, stretches: Iterable[Stretch], shelf: Shelf) -> int:
    """Write a table and return how many markers it has.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    alleles, n = shelf.pairs.printed(), 0
    with atomic_path(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(header(step)) + "\n")
        for stretch in stretches:
            file.write(format_rows(step, stretch, shelf, alleles))
            n += len(stretch.rows)
    return n


def format_rows(step: Analyse, found: Stretch, shelf: Shelf, alleles: NDArray[np.object_]) -> str:
    """Write the lines of a stretch, all by one format."""
    settings, rows, markers = step.settings, found.rows, shelf.markers
    columns: list[tuple[str, Sequence[object]]] = []
    if settings.track_positions:
        names = np.array([*shelf.chromosomes, ""], object)
        columns += [("%s", names[markers.chromosome[rows]].tolist()), ("%d", markers.position[rows].tolist())]
    first = int(rows[0])
    names_of = markers.names(first, int(rows[-1]) + 1)
    columns.append(("%s", names_of if len(names_of) == len(rows) else [names_of[i - first] for i in rows.tolist()]))
    columns.append(("%s", alleles[markers.pair[rows], markers.complemented[rows].astype(np.int64)].tolist()))
    if found.freq is not None and settings.average_freq:
        columns += [("%.4f", found.freq.mean.tolist()), ("%.4f", found.freq.spread.tolist())]
    if found.freq is not None and settings.min_max_freq:
        columns += [("%.4f", found.freq.minimum.tolist()), ("%.4f", found.freq.maximum.tolist())]
    by_error = settings.scheme == "stderr"
    digits = (settings.effect_precision, settings.stderr_precision) if by_error else (2, 3)
    columns += [(f"%.{digits[0]}f", found.first.tolist()), (f"%.{digits[1]}f", found.second.tolist())]
    if found.n is not None:
        columns.append(("%.2f", found.n.tolist()))
    columns.append(("%s", _p_values(found, settings.log_pvalue)))
    columns.append(("%s", found.direction))
    if found.heterogeneity is not None:
        q = found.heterogeneity
        tail = q.metal_neg_log10_p()
        columns += [("%.1f", q.i2.tolist()), ("%.3f", q.q.tolist()), ("%d", q.df.tolist())]
        columns.append(("%.4g", ((0.0 - tail) if settings.log_pvalue else 10.0**-tail).tolist()))
    columns += [("%g", sums.tolist()) for sums in found.custom]
    line = "\t".join(form for form, _ in columns) + "\n"
    return (line * len(rows)) % tuple(chain.from_iterable(zip(*(values for _, values in columns), strict=True)))


def _p_values(found: Stretch, log: bool) -> list[str]:
    """Write p-values: %.2f of their logarithm, or %.4g, or mantissa and exponent far out."""
    tail = found.neg_log10_p
    if log:
        return [f"{each:.2f}" for each in (0.0 - tail).tolist()]
    with np.errstate(under="ignore"):
        texts = [f"{each:.4g}" for each in two_sided(found.z).tolist()]
    for i in np.flatnonzero(np.abs(found.z) >= _FAR):
        texts[i] = far_p_value(float(tail[i]))
    return texts


def two_sided(z: Vector) -> Vector:
    """Give 2 Φ(−|z|)."""
    from scipy import special

    return np.asarray(2.0 * special.ndtr(-np.abs(z)))


def far_p_value(neg_log10_p: float) -> str:
    """Write a p-value as two decimals and a power of ten.

    Examples
    --------
    >>> far_p_value(250.5), far_p_value(99.0001)
    ('3.16e-251', '1.00e-99')
    """
    exponent = np.floor(-neg_log10_p)
    mantissa = 10.0 ** (-neg_log10_p - exponent)
    if mantissa >= 9.995:
        mantissa, exponent = mantissa / 10, exponent + 1
    return f"{mantissa:.2f}e{exponent:.0f}"


def info_text(step: Analyse, names: Sequence[str]) -> str:
    """Describe the columns and list the input files, as METAL's `.info` does."""
    settings = step.settings
    by_error = settings.scheme == "stderr"
    described = [
        *([("Chromosome", "chromosome name"), ("Position", "chromosomal position")] if settings.track_positions else []),
        ("Marker", "this is the marker name"),
        ("Allele1", "the first allele for this marker in the first file where it occurs"),
        ("Allele2", "the second allele for this marker in the first file where it occurs"),
        *([("Freq1", "weighted average of frequency for allele 1 across all studies"),
           ("FreqSE", "corresponding standard error for allele frequency estimate")] if settings.average_freq else []),
        *([("MinFreq", "minimum frequency for allele 1 across all studies"),
           ("MaxFreq", "maximum frequency for allele 1 across all studies")] if settings.min_max_freq else []),
        *([("Effect", "overall estimated effect size for allele1"),
           ("StdErr", "overall standard error for effect size estimate")] if by_error else
          [("Weight", "the sum of the individual study weights (typically, N) for this marker"),
           ("Z-score", "the combined z-statistic for this marker")]),
        *([("N", "sample size corrected for overlap between studies")] if settings.overlap else []),
        ("log(P)", "log of meta-analysis p-value") if settings.log_pvalue else ("P-value", "meta-analysis p-value"),
        ("Direction", "summary of effect direction for each study, with one '+' or '-' per study"),
        *([("HetISq", "I^2 statistic which measures heterogeneity on scale of 0-100%"),
           ("HetChiSq", "chi-squared statistic in simple test of heterogeneity"),
           ("df", "degrees of freedom for heterogeneity statistic"),
           ("logHetP", "log of p-value for heterogeneity statistic") if settings.log_pvalue else
           ("HetPVal", "P-value for heterogeneity statistic")] if step.heterogeneity else []),
    ]  # fmt: skip
    lines = [
        "# This file contains a short description of the columns in the",
        f"# meta-analysis summary file, named '{step.file_name}'",
        "",
        *(f"# {name:<11} - {text}" for name, text in described),
        *(f"# {variable:<9} - custom variable {i}" for i, (variable, _) in enumerate(settings.custom, 1)),
        "",
        "# Input for this meta-analysis was stored in the files:",
        *(f"# --> Input File {i} : {name}" for i, name in enumerate(names, 1)),
        "",
    ]
    return "\n".join(lines) + "\n"


def write_info(step: Analyse, path: Path, names: Sequence[str]) -> Path:
    """Write the `.info` file of a table."""
    return write_text(path.with_name(path.name + ".info"), info_text(step, names))
