"""Summary statistics by the book: one record, one variant, Python strings; and small files of studies to read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}


@dataclass(frozen=True)
class Turned:
    """A record for the catalogue's ALT; None where it is left out."""

    beta: float | None
    eaf: float | None


def same_variant(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two pairs of alleles are one variant's, whatever their order, and for single bases the strand."""
    if set(one) == set(other):
        return True
    if max(map(len, one + other)) > 1:
        return False
    return {COMPLEMENT[a] for a in one} == set(other)


def turn(effect: str, other: str, beta: float, eaf: float, ref: str, alt: str, known: float, rule: str) -> Turned:
    """Turn a record to (ref, alt) by the definition; `known` is the catalogue's frequency of ALT."""
    single = len(effect) == len(other) == 1
    if single and COMPLEMENT[effect] == other:
        swapped = effect == ref
        frequency = 1 - eaf if swapped else eaf
        if rule == "drop" or (
            rule == "frequency" and not all(math.isnan(f) or f < 0.4 or f > 0.6 for f in (frequency, known))
        ):
            return Turned(None, None)
        if rule == "frequency" and math.isnan(frequency):
            return Turned(None, None)
        if rule == "frequency" and not math.isnan(known) and (frequency < 0.5) != (known < 0.5):
            swapped = not swapped
    else:
        if single and {effect, other} != {ref, alt}:
            effect, other = COMPLEMENT[effect], COMPLEMENT[other]
        assert {effect, other} == {ref, alt}
        swapped = effect == ref
    return Turned(-beta if swapped else beta, 1 - eaf if swapped else eaf)


def left_aligned(sequence: str, position: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Left-align as Tan, Abecasis and Kang (2015) write it down; `position` from 1."""
    changed = True
    while changed:
        changed = False
        if ref and alt and ref[-1] == alt[-1] and (position > 1 or min(len(ref), len(alt)) > 1):
            ref, alt, changed = ref[:-1], alt[:-1], True
        if (not ref or not alt) and position > 1:
            position -= 1
            ref, alt, changed = sequence[position - 1] + ref, sequence[position - 1] + alt, True
        if not ref or not alt:
            break
    while len(ref) > 1 and len(alt) > 1 and ref[0] == alt[0]:
        position, ref, alt = position + 1, ref[1:], alt[1:]
    return position, ref, alt


SSF = [
    "chromosome", "base_pair_location", "effect_allele", "other_allele", "beta", "standard_error",
    "effect_allele_frequency", "p_value", "rsid", "n",
]  # fmt: skip


def write_study(path: Path, rows: list[dict[str, object]], columns: list[str] | None = None, sep: str = "\t") -> Path:
    """Write a table of dicts; missing values are NA."""
    names = columns or SSF
    lines = [sep.join(names), *(sep.join(str(row.get(name, "NA")) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def random_rows(n: int, seed: int = 0, contigs: tuple[str, ...] = ("1", "2", "X")) -> list[dict[str, object]]:
    """Invent n records at different places in genome order: single bases, and indels at one in eight."""
    rng = np.random.default_rng(seed)
    rows = []
    places = sorted((int(rng.integers(len(contigs))), int(p)) for p in rng.choice(50 * n, n, replace=False) + 1)
    for i, (contig, position) in enumerate(places):
        a, b = rng.choice(list("ACGT"), 2, replace=False)
        if i % 8 == 0:
            b = a + "".join(rng.choice(list("ACGT"), int(rng.integers(1, 6))))
        eaf = round(float(rng.uniform(0.02, 0.98)), 3)
        se = round(float(rng.uniform(0.01, 0.2)), 4)
        beta = round(float(rng.normal(0, se)), 5)
        p = math.erfc(abs(beta / se) / math.sqrt(2))
        rows.append({"chromosome": contigs[contig], "base_pair_location": position, "effect_allele": b, "other_allele": a,
                     "beta": beta, "standard_error": se, "effect_allele_frequency": eaf, "p_value": f"{p:.6g}",
                     "rsid": f"rs{1000 + 7 * i}", "n": int(rng.integers(1000, 9000))})  # fmt: skip
    return rows


def mirrored(row: dict[str, object], *, swap: bool, complement: bool) -> dict[str, object]:
    """Write a record with the other allele as effect allele, or on the other strand (single bases)."""
    out = dict(row)
    effect, other = str(row["effect_allele"]), str(row["other_allele"])
    if complement and len(effect) == len(other) == 1:
        effect, other = COMPLEMENT[effect], COMPLEMENT[other]
    if swap:
        effect, other = other, effect
        out["beta"] = -float(str(row["beta"]))
        out["effect_allele_frequency"] = round(1 - float(str(row["effect_allele_frequency"])), 9)
    return out | {"effect_allele": effect, "other_allele": other}
