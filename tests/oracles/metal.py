"""METAL by its formulas: files read line by line into dictionaries, sums written out, every cell printed by its format.

A second writing of what `biolmm/sumstats/metal` does, of the reference's rules alone and sharing no code with it.
"""

# ruff: noqa: UP031  (%-formats, as METAL has them)
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

from scipy import special, stats

FLIPPED = {"a": "t", "t": "a", "c": "g", "g": "c"}


@dataclass
class Options:
    """What a script would set; names of columns by role."""

    scheme: str = "samplesize"
    separator: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    log_effect: bool = False
    flip: bool = False
    use_strand: bool = False
    control: str | float = "off"
    control_list: Sequence[str] | None = None
    average: bool = False
    extremes: bool = False
    track: bool = False
    custom: Sequence[str] = ()
    keep: Callable[[dict[str, str]], bool] = lambda row: True
    default_weight: float = 1.0


@dataclass
class Record:
    """One study's record of a marker, turned to its first allele."""

    statistic: float
    weight: float
    freq: float
    row: dict[str, str]


def canonical(one: str, two: str) -> tuple[str, str, bool, bool]:
    """Turn a pair of alleles: the pair, whether the effect is negated, whether it was complemented."""
    one, two = one.lower(), two.lower()
    negated = one > two
    if negated:
        one, two = two, one
    if one == "a" or (one, two) == ("c", "g"):
        return one, two, negated, False
    one, two = FLIPPED.get(one, one), FLIPPED.get(two, two)
    return (one, two, negated, True) if one <= two else (two, one, not negated, True)


def number(text: str) -> float:
    """Read a number; NaN for anything else."""
    try:
        return float(text)
    except ValueError:
        return math.nan


class Metal:
    """Files read so far."""

    def __init__(self) -> None:
        self.alleles: dict[str, tuple[str, str, bool]] = {}
        self.places: dict[str, tuple[str, str]] = {}
        self.names: dict[str, str] = {}
        self.files: list[tuple[dict[str, Record], float]] = []

    def process(self, path: Path, options: Options) -> None:
        """Read a file."""
        lines = path.read_text().splitlines()
        names = lines[0].split(options.separator)
        found: dict[str, Record] = {}
        for line in lines[1:]:
            values = line.split(options.separator)
            if line.startswith("#") or len(values) != len(names):
                continue
            row = dict(zip(names, values, strict=True))
            if options.keep(row):
                self._line(row, options, found)
        self.files.append((found, self._lambda(found, options)))

    def _line(self, row: dict[str, str], options: Options, found: dict[str, Record]) -> None:
        column, marker = options.columns, row[options.columns["marker"]].lower()
        self.names.setdefault(marker, row[column["marker"]])  # in any case; the first spelling is printed
        effect = row[column["effect"]]
        if options.scheme == "stderr":
            se, statistic = number(row[column["stderr"]]), number(effect)
            if options.log_effect:
                statistic = math.log(statistic) if statistic > 0 else math.nan
            if not se > 0 or math.isnan(statistic):
                return
            weight = 1 / (se * se)
        else:
            try:
                p = Decimal(row[column["pvalue"]])  # METAL reads p in extended precision
            except InvalidOperation:
                return
            if not 0 < p <= 1:
                return
            statistic = -float(special.ndtri_exp(float(p.ln()) - math.log(2))) if p < 1 else 0.0
            if float(effect) < 1 if options.log_effect else effect.startswith("-"):
                statistic = -statistic
            weight = number(row[column["weight"]]) if column.get("weight") in row else options.default_weight
            if not weight > 0:
                return
        if options.flip:
            statistic = -statistic
        freq = number(row[column["freq"]]) if "freq" in column else math.nan
        one, two = (
            {"1": "a", "2": "c", "3": "g", "4": "t"}.get(a, a) for a in (row[column["allele1"]], row[column["allele2"]])
        )
        if options.use_strand and row[column["strand"]] == "-":
            one, two = FLIPPED.get(one.lower(), one), FLIPPED.get(two.lower(), two)
        one, two, negated, complemented = canonical(one, two)
        if self.alleles.setdefault(marker, (one, two, complemented))[:2] != (one, two):
            return
        if marker in found:
            return
        if options.track:
            place = (row[column["chromosome"]], row[column["position"]])
            if self.places.setdefault(marker, place) != place:
                return
        found[marker] = Record(-statistic if negated else statistic, weight, 1 - freq if negated else freq, row)

    def _lambda(self, found: dict[str, Record], options: Options) -> float:
        if options.control == "off":
            return 1.0
        if isinstance(options.control, float):
            return max(1.0, options.control)
        wanted = options.control_list
        chisq = sorted(
            r.statistic**2 * (r.weight if options.scheme == "stderr" else 1)
            for name, r in found.items()
            if wanted is None or name in wanted
        )
        return max(1.0, chisq[len(chisq) // 2] / 0.4549364) if chisq else 1.0

    def rows(self, options: Options, *, heterogeneity: bool = False, log_p: bool = False, precision: tuple[int, int] = (4, 4),
             min_weight: float = 1.0) -> dict[str, list[str]]:  # fmt: skip
        """Give the cells of every marker that METAL prints, by marker."""
        out = {}
        for marker, (one, two, complemented) in self.alleles.items():
            there = [(found[marker], gc) for found, gc in self.files if marker in found]
            by_error = options.scheme == "stderr"
            weights = [r.weight / gc if by_error else r.weight for r, gc in there]
            scaled = [r.statistic if by_error else r.statistic / math.sqrt(gc) for r, gc in there]
            total_weight = sum(weights)
            if not there or (not by_error and total_weight < min_weight):
                continue
            total = sum((w if by_error else math.sqrt(w)) * z for w, z in zip(weights, scaled, strict=True))
            z = total / math.sqrt(total_weight)
            cells = list(self.places[marker]) if options.track else []
            shown = [FLIPPED.get(a, a) if complemented else a for a in (one, two)]
            cells += [self.names[marker], *shown]
            freqs = [r.freq for r, _ in there]
            if options.average:
                mean = sum(w * f for w, f in zip(weights, freqs, strict=True)) / total_weight
                spread = sum(w * (f - mean) ** 2 for w, f in zip(weights, freqs, strict=True)) / total_weight
                cells += ["%.4f" % mean, "%.4f" % math.sqrt(spread)]
            if options.extremes:
                cells += ["%.4f" % min(freqs), "%.4f" % max(freqs)]
            if by_error:
                cells += [
                    "%.*f" % (precision[0], total / total_weight),
                    "%.*f" % (precision[1], math.sqrt(1 / total_weight)),
                ]
            else:
                cells += ["%.2f" % total_weight, "%.3f" % z]
            cells.append(p_text(z, log_p))
            cells.append("".join(self._sign(found.get(marker)) for found, _ in self.files))
            if heterogeneity:
                ratio = total / total_weight
                q = sum(
                    w * (s - ratio) ** 2 if by_error else (s - math.sqrt(w) * ratio) ** 2
                    for w, s in zip(weights, scaled, strict=True)
                )
                df = len(there) - 1
                p = 1.0 if q < 1e-7 or df < 1 else float(stats.chi2.sf(q, df))
                i2 = 0.0 if q <= df or df < 1 else (q - df) / q * 100
                p = (math.log10(p) if p < 1 else 0.0) if log_p else p
                cells += ["%.1f" % i2, "%.3f" % (q if df else 0.0), "%d" % df, "%.4g" % p]
            cells += ["%g" % sum(float(r.row[name]) for r, _ in there) for name in options.custom]
            out[self.names[marker]] = cells
        return out

    @staticmethod
    def _sign(record: Record | None) -> str:
        if record is None:
            return "?"
        return "0" if record.statistic == 0 else "+" if record.statistic > 0 else "-"


def p_text(z: float, log_p: bool) -> str:
    """Print a p-value as METAL does."""
    log10_p = (float(special.log_ndtr(-abs(z))) + math.log(2)) / math.log(10)
    if log_p:
        return "%.2f" % log10_p
    if abs(z) < 20:
        return "%.4g" % (2 * float(special.ndtr(-abs(z))))
    exponent = math.floor(log10_p)
    mantissa = 10 ** (log10_p - exponent)
    if mantissa >= 9.995:
        mantissa, exponent = mantissa / 10, exponent + 1
    return "%.2fe%d" % (mantissa, exponent)
