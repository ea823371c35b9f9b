"""What to simulate: one frozen configuration, checked where it is made, and the contigs that follow from it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import ParameterError

WORD = 64
"""Variants in a word: the unit in which haplotypes are made. Everything random is keyed by (seed, contig, word)."""

CM_PER_BP = 1.2e-6
"""Genetic distance per base pair; uniform along the genome."""

AUTOSOME_BP = (
    248_956_422, 242_193_529, 198_295_559, 190_214_555, 181_538_259, 170_805_979, 159_345_973, 145_138_636,
    138_394_717, 133_797_422, 135_086_622, 133_275_309, 114_364_328, 107_043_718, 101_991_189, 90_338_345,
    83_257_441, 80_373_285, 58_617_616, 64_444_167, 46_709_983, 50_818_468,
)  # fmt: skip
"""Lengths of the human autosomes in GRCh38."""

# Bounds of the numeric options: name -> (lowest, highest, highest itself allowed).
_BOUNDS: dict[str, tuple[float, float, bool]] = {
    "n_samples": (2, 2**30, True),
    "n_traits": (1, 100_000, True),
    "n_contigs": (1, len(AUTOSOME_BP), True),
    "n_populations": (1, 64, True),
    "n_founders": (2, 65_536, True),
    "fst": (0, 0.5, True),
    "admixed_fraction": (0, 1, True),
    "segment_cm": (0.001, 1000, True),
    "maf_min": (1e-5, 0.4, True),
    "family_fraction": (0, 1, True),
    "missing_genotypes": (0, 0.5, True),
    "missing_traits": (0, 1, False),
    "large_share": (0, 1, False),
    "alpha": (-2, 2, True),
    "stratification": (0, 100, True),
    "shared_environment": (0, 1, False),
    "covariate_variance": (0, 100, True),
    "seed": (0, 2**63, False),
}


@dataclass(frozen=True)
class SimulateConfig:
    """A cohort to simulate. The same configuration gives the same cohort, whatever the chunks and workers.

    Parameters
    ----------
    n_samples, n_variants, n_traits
        Size of the cohort.
    h2
        Share of the genetic values in the variance that covariates and ancestry leave; one number, or one per trait.
    n_contigs
        The first so many human autosomes; variants are shared out in proportion to their lengths.
    n_populations, population_weights, fst
        Ancestral populations, their shares (halving from one to the next by default) and their drift (Balding–Nichols).
    admixed_fraction
        Share of the individuals whose ancestry comes from two populations.
    n_founders, segment_cm, ld_bp
        Founder haplotypes per population; mean length of a copied segment; distance over which founder alleles lose
        their correlation (by default 50 kb, or three variants where these are sparser).
    maf_min
        Lowest minor allele frequency, averaged over populations, that the ideal frequencies may have.
    family_fraction
        Share of the individuals with relatives in the cohort (siblings, parents and offspring).
    missing_genotypes, missing_traits
        Mean share of missing calls (varying from variant to variant) and of missing trait values.
    n_causal
        Causal variants per trait; all of them by default.
    n_large, large_share
        So many further variants per trait with large effects and the share of genetic variance expected from them.
    alpha
        Effects are proportional to [2p(1−p)]^(alpha/2); −1: every variant explains the same variance.
    causal_contigs
        `"odd"` leaves contigs 2, 4, 6 … without any effect: null variants in a cohort with structure and families.
    stratification, covariate_variance, shared_environment
        Variance of the environment that follows ancestry, and of age, sex and batch, both on top of the unit variance
        of genetic values and residual; share of that unit which families have in common.
    bed
        Write PLINK's .bed, .bim and .fam as well.
    chunk_variants
        Variants per chunk of the store; the store's own choice by default.

    Raises
    ------
    ParameterError
        When a value cannot be used.

    Examples
    --------
    >>> config = SimulateConfig(n_samples=100, n_variants=1000, n_traits=2, h2=(0.2, 0.5))
    >>> config.h2_of_traits
    (0.2, 0.5)
    >>> config.trait_names
    ('trait1', 'trait2')
    """

    n_samples: int
    n_variants: int
    n_traits: int = 1
    h2: float | tuple[float, ...] = 0.25
    n_contigs: int = 22
    n_populations: int = 3
    population_weights: tuple[float, ...] | None = None
    fst: float = 0.05
    admixed_fraction: float = 0.05
    n_founders: int = 512
    segment_cm: float = 2.0
    ld_bp: float | None = None
    maf_min: float = 0.01
    family_fraction: float = 0.3
    missing_genotypes: float = 0.005
    missing_traits: float = 0.02
    n_causal: int | None = None
    n_large: int = 0
    large_share: float = 0.2
    alpha: float = -1.0
    causal_contigs: Literal["all", "odd"] = "all"
    stratification: float = 0.1
    covariate_variance: float = 0.1
    shared_environment: float = 0.0
    bed: bool = False
    chunk_variants: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        for name, (low, high, closed) in _BOUNDS.items():
            value = getattr(self, name)
            if not (low <= value <= high if closed else low <= value < high):
                bracket = "]" if closed else ")"
                raise ParameterError(f"{name} is {value}: it must lie in [{low:g}, {high:g}{bracket}.")
        if self.n_variants < self.n_contigs:
            raise ParameterError(
                f"{self.n_variants:,} variants cannot fill {self.n_contigs} contigs: "
                f"ask for {self.n_contigs} variants or more, or for fewer contigs."
            )
        self._check_h2()
        self._check_causal()
        self._check_rest()

    def _check_h2(self) -> None:
        if isinstance(self.h2, tuple) and len(self.h2) not in (1, self.n_traits):
            raise ParameterError(
                f"h2 has {len(self.h2)} values for {self.n_traits} traits: give one value, or one per trait."
            )
        for name, h2 in zip(self.trait_names, self.h2_of_traits, strict=True):
            if not 0 <= h2 < 1:
                raise ParameterError(f"h2 of {name} is {h2:g}: it must lie in [0, 1).")
            if h2 + self.shared_environment >= 1:
                raise ParameterError(
                    f"h2 of {name} and the shared environment are {h2:g} + {self.shared_environment:g}: "
                    "together they must leave something for the residual (sum below 1)."
                )

    def _check_causal(self) -> None:
        if self.causal_contigs not in ("all", "odd"):
            raise ParameterError(f"causal_contigs is {self.causal_contigs!r}: it must be 'all' or 'odd'.")
        eligible = self.n_causal_eligible
        for name, lowest in (("n_causal", 1), ("n_large", 0)):
            value = getattr(self, name)
            if value is not None and not lowest <= value <= eligible:
                raise ParameterError(
                    f"{name} is {value:,}: it must lie in [{lowest}, {eligible:,}], the variants that may be causal."
                )

    def _check_rest(self) -> None:
        weights = self.population_weights
        if weights is not None and (len(weights) != self.n_populations or not min(weights) > 0):
            raise ParameterError(
                f"population_weights has the values {weights}: "
                f"give {self.n_populations} positive numbers, one per population."
            )
        if self.ld_bp is not None and not 1 <= self.ld_bp < math.inf:
            raise ParameterError(f"ld_bp is {self.ld_bp:g}: it must be at least one base pair.")
        if self.chunk_variants is not None and self.chunk_variants < 1:
            raise ParameterError(f"chunk_variants is {self.chunk_variants}: it must be at least 1.")

    @property
    def trait_names(self) -> tuple[str, ...]:
        """`trait1`, `trait2`, …"""
        return tuple(f"trait{i + 1}" for i in range(self.n_traits))

    @property
    def h2_of_traits(self) -> tuple[float, ...]:
        """One h² per trait."""
        values = self.h2 if isinstance(self.h2, tuple) else (self.h2,)
        return values * self.n_traits if len(values) == 1 else values

    @property
    def weights(self) -> NDArray[np.float64]:
        """Shares of the populations; they sum to one."""
        default = tuple(0.5**i for i in range(self.n_populations))
        weights = np.asarray(self.population_weights or default, dtype=np.float64)
        return np.asarray(weights / weights.sum())

    @property
    def contigs(self) -> tuple[Contig, ...]:
        """The contigs and the runs of variants on them."""
        return _contigs(self.n_contigs, self.n_variants)

    @property
    def n_causal_eligible(self) -> int:
        """Variants on contigs that may carry effects."""
        return sum(contig.n_variants for contig in self.contigs if self.may_be_causal(contig))

    def may_be_causal(self, contig: Contig) -> bool:
        """Whether variants of the contig may have effects."""
        return self.causal_contigs == "all" or contig.index % 2 == 0

    @property
    def ld_length_bp(self) -> float:
        """Distance over which founder alleles lose their correlation."""
        spacing = sum(contig.length_bp for contig in self.contigs) / self.n_variants
        return self.ld_bp if self.ld_bp is not None else max(50_000.0, 3 * spacing)

    def as_dict(self) -> dict[str, Any]:
        """Everything that decides the simulated data (not how it is stored), ready for JSON."""
        values = asdict(self)
        del values["bed"], values["chunk_variants"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def digest(self) -> str:
        """Twelve hexadecimal digits that name these data."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Contig:
    """One chromosome and its run of variants, `first … first + n_variants − 1` of the cohort."""

    index: int
    name: str
    length_bp: int
    first: int
    n_variants: int

    @property
    def stop(self) -> int:
        """One past the last variant."""
        return self.first + self.n_variants

    def segment_words(self, segment_cm: float) -> int:
        """Words per copied segment: at least one, about `segment_cm` long."""
        word_cm = self.length_bp * CM_PER_BP * WORD / max(self.n_variants, WORD)
        return max(1, round(segment_cm / word_cm))


def _contigs(n_contigs: int, n_variants: int) -> tuple[Contig, ...]:
    """Share out variants in proportion to length; whole words per contig where that shifts little."""
    lengths = np.asarray(AUTOSOME_BP[:n_contigs], dtype=np.float64)
    edges = np.rint(np.concatenate([[0.0], np.cumsum(lengths)]) / lengths.sum() * n_variants).astype(np.int64)
    if n_variants >= 16 * WORD * n_contigs:
        edges[1:-1] = edges[1:-1] // WORD * WORD
    else:
        steps = np.arange(n_contigs + 1)
        edges = np.minimum(np.maximum.accumulate(edges - steps) + steps, n_variants - n_contigs + steps)
    return tuple(
        Contig(i, str(i + 1), AUTOSOME_BP[i], int(edges[i]), int(edges[i + 1] - edges[i])) for i in range(n_contigs)
    )
