"""Genotypes in memory, and what quality control says of them written out from its definitions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding, Rows, rows_from_dosages
from biolmm.files.genotypes import as_strings
from biolmm.store.data import Quality


@dataclass(frozen=True, eq=False)
class MemoryGenotypes:
    """Dosages (M, N), NaN = missing, as `GenotypeData`; the contig of each variant by name."""

    dosages: NDArray[np.float64]
    sex: NDArray[np.int8]
    contigs: tuple[str, ...]
    encoding: Encoding = Encoding.CALLS
    chunk_variants: int = 7
    path: Path = Path("memory")
    fingerprint: str = "memory"
    info: NDArray[np.float32] | None = None

    @property
    def n_variants(self) -> int:
        return len(self.dosages)

    @property
    def n_samples(self) -> int:
        return self.dosages.shape[1]

    @property
    def sample_id(self) -> NDArray[np.str_]:
        return np.array([f"S{i}" for i in range(self.n_samples)])

    @property
    def family_id(self) -> NDArray[np.str_]:
        return self.sample_id

    @property
    def contig_id(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.contigs))

    @property
    def variant_contig(self) -> NDArray[np.int32]:
        return np.array([self.contig_id.index(name) for name in self.contigs], np.int32)

    @property
    def variant_position(self) -> NDArray[np.int64]:
        return 10_000_000 + np.arange(self.n_variants)

    @property
    def variant_id(self) -> Any:
        return as_strings([f"v{i}" for i in range(self.n_variants)])

    @property
    def ref(self) -> Any:
        return as_strings(["G"] * self.n_variants)

    @property
    def alt(self) -> Any:
        return as_strings(["A"] * self.n_variants)

    def chunk_range(self, chunk: int) -> tuple[int, int]:
        return chunk * self.chunk_variants, min((chunk + 1) * self.chunk_variants, self.n_variants)

    def read_rows(self, chunk: int) -> Rows:
        return rows_from_dosages(self.dosages[slice(*self.chunk_range(chunk))], self.encoding)

    def read_quality(self, variants: NDArray[np.int64]) -> Quality | None:
        if self.info is None:
            return None
        return Quality(self.info[variants], self.info[variants] / 2)


def hwe_definition(hom_ref: int, het: int, hom_alt: int, midp: bool) -> float:
    """Add up the exact probabilities of all counts of heterozygotes that are at most as probable as the observed."""
    n, rare = hom_ref + het + hom_alt, het + 2 * min(hom_ref, hom_alt)
    weight = {}
    for h in range(rare % 2, rare + 1, 2):
        a, c = (rare - h) // 2, n - h - (rare - h) // 2
        weight[h] = Fraction(2**h, math.factorial(a) * math.factorial(h) * math.factorial(c))
    seen = weight[het]
    tail = sum(w / 2 if midp and w == seen else w for w in weight.values() if w <= seen)
    return float(tail / sum(weight.values()))


def variant_definition(g: NDArray[np.float64], sex: NDArray[np.int8], contig: str) -> dict[str, float]:
    """Give one variant's numbers, sample by sample; 1 copy of a haploid is half an allele."""
    ref = het = alt = hap = n = missing = 0
    copies, alleles = 0.0, 0
    hwe = [0, 0, 0]
    for dose, who in zip(g.tolist(), sex.tolist(), strict=True):
        if contig == "Y" and who != 1:
            continue
        n += 1
        if np.isnan(dose):
            missing += 1
            continue
        haploid = contig in ("Y", "MT") or (contig == "X" and who == 1)
        copies, alleles = copies + (dose / 2 if haploid else dose), alleles + (1 if haploid else 2)
        call = round(dose) if abs(dose - round(dose)) <= 0.1 else None
        ref += not haploid and call == 0
        het += not haploid and call == 1
        alt += not haploid and call == 2
        hap += haploid and call == 2
        if call is not None and not haploid and (contig != "X" or who == 2):
            hwe[call] += 1
    p = copies / alleles if alleles else math.nan
    return {
        "n": n, "n_missing": missing, "call_rate": (n - missing) / n if n else math.nan, "n_hom_ref": ref, "n_het": het,
        "n_hom_alt": alt, "n_hap_alt": hap, "effect_allele_frequency": p, "maf": min(p, 1 - p),
        "mac": min(copies, alleles - copies) if alleles else math.nan,
        "hwe_p": hwe_definition(*hwe, midp=True) if sum(hwe) else math.nan,
    }  # fmt: skip


def sample_f(calls: NDArray[np.float64], sex: NDArray[np.int8], on_x: bool) -> NDArray[np.float64]:
    """F = (O − E) / (N − E) of homozygotes over called variants (M, N), E = 1 − 2p(1−p)·n/(n−1)."""
    haploid = (sex == 1) if on_x else np.zeros(len(sex), bool)
    observed, expected, n_called = (np.zeros(calls.shape[1]) for _ in range(3))
    for g in calls:
        called = ~np.isnan(g)
        alleles = 2 * np.sum(called & ~haploid) + np.sum(called & haploid)
        n_called += called
        observed += called & (g != 1)
        if alleles < 2:  # nothing to differ from: no heterozygote is expected
            expected += called
            continue
        p = (np.sum(g[called & ~haploid]) + np.sum(g[called & haploid]) / 2) / alleles
        expected += called * (1 - 2 * p * (1 - p) * alleles / (alleles - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (observed - expected) / np.where(n_called - expected > 1e-9, n_called - expected, np.nan)
