"""Studies as METAL's users have them, made up: swapped and complemented alleles, indels, gaps, repeats, broken fields."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy import special

COLUMNS = ("SNP", "CHR", "BP", "A1", "A2", "EAF", "BETA", "OR", "SE", "P", "N", "STRAND", "INFO", "CASES", "PANEL")
ROLES = {"marker": "SNP", "chromosome": "CHR", "position": "BP", "allele1": "A1", "allele2": "A2", "freq": "EAF", "effect": "BETA",
         "stderr": "SE", "pvalue": "P", "weight": "N", "strand": "STRAND"}  # fmt: skip

_PAIRS = ["A G", "C T", "T G", "C A", "A T", "G C", "AT A", "G GAC", "CT C", "D I", "a c", "G T"]
_COMPLEMENT = {"A": "T", "T": "A", "C": "G", "G": "C"}


def write_studies(folder: Path, n_studies: int = 3, n_markers: int = 400, seed: int = 1, separator: str = " ",
                  broken: bool = True) -> list[Path]:  # fmt: skip
    """Write studies that share most of their markers; fields that are no numbers where `broken`."""
    rng = np.random.default_rng(seed)
    pairs = [_PAIRS[i].split() for i in rng.integers(0, len(_PAIRS), n_markers)]
    maf, truth = rng.uniform(0.02, 0.98, n_markers), rng.normal(0, 0.02, n_markers)
    truth[::50] *= 60
    files = []
    for study in range(n_studies):
        n = int(rng.integers(800, 40_000))
        lines = [separator.join(COLUMNS), "# a comment of the file"]
        order = rng.permutation(n_markers) if study % 2 else np.arange(n_markers)
        for i in order[rng.random(n_markers) < 0.85]:
            line = _record(rng, f"rs{i}", pairs[i], float(maf[i]), float(truth[i]), n, int(i))
            if broken and rng.random() < 0.04:
                _damage(rng, line)
            lines.append(separator.join(line[name] for name in COLUMNS))
            if rng.random() < 0.02:  # twice, and then in another case
                line["SNP"] = line["SNP"].upper() if rng.random() < 0.5 else line["SNP"]
                lines.append(separator.join(line[name] for name in COLUMNS))
        lines.insert(5, separator.join(["short", "1", "5"]))
        files.append(folder / f"study{study + 1}.txt")
        files[-1].write_text("\n".join(lines) + "\n")
    return files


def _record(
    rng: np.random.Generator, name: str, pair: list[str], f: float, effect: float, n: int, i: int
) -> dict[str, str]:
    """Make one line: of either allele, on either strand, the pair now and then another."""
    f = min(max(f + rng.normal(0, 0.03), 0.001), 0.999)
    se = 1.0 / math.sqrt(2 * n * f * (1 - f)) * rng.uniform(0.9, 1.1)
    beta = effect + se * rng.standard_normal() * 1.2
    one, two = pair
    strand = "+"
    if rng.random() < 0.5:
        one, two, f, beta = two, one, 1 - f, -beta
    palindromic = _COMPLEMENT.get(one) == two
    if rng.random() < 0.3 and one in _COMPLEMENT and two in _COMPLEMENT and not palindromic:
        one, two, strand = _COMPLEMENT[one], _COMPLEMENT[two], "-"
    if rng.random() < 0.02:
        one = "T" if one != "T" and two != "T" else "C"
    if rng.random() < 0.1 and one in "ACGT" and two in "ACGT" and len(one + two) == 2:
        one, two = str("ACGT".index(one) + 1), str("ACGT".index(two) + 1)
    if rng.random() < 0.01:
        beta = 0.0
    beta, se = round(beta, 5), max(round(se, 6), 1e-6)
    log10_p = (float(special.log_ndtr(-abs(beta / se))) + math.log(2)) / math.log(10)
    exponent = math.floor(log10_p)
    p = f"{10 ** (log10_p - exponent):.5f}e{exponent}" if log10_p < -4 else f"{10**log10_p:.6g}"
    return {
        "SNP": name, "CHR": str(1 + i % 22), "BP": str(1000 + 37 * i + (1 if rng.random() < 0.02 else 0)), "A1": one, "A2": two,
        "EAF": f"{f:.4f}", "BETA": f"{beta:.5f}", "OR": f"{math.exp(beta):.6f}", "SE": f"{se:.6f}", "P": p,
        "N": str(n - int(rng.integers(0, 50))), "STRAND": strand, "INFO": f"{rng.uniform(0.2, 1):.3f}",
        "CASES": str(int(rng.integers(10, 500))), "PANEL": str(rng.choice(["a", "B", "c"])),
    }  # fmt: skip


def _damage(rng: np.random.Generator, line: dict[str, str]) -> None:
    """Spoil the statistic of a line so that it is left out."""
    name, text = [("P", "NA"), ("P", "0"), ("P", "1.2"), ("P", "x"), ("SE", "0"), ("SE", "-0.1"), ("SE", "NA")][
        rng.integers(7)
    ]
    line[name] = text
    if name == "P":
        line["SE"] = "NA"
    else:
        line["P"] = "NA"
