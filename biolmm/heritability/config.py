"""What is asked of an analysis of heritability, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from biolmm.chunks import n_threads
from biolmm.errors import ParameterError
from biolmm.memory import Need, StagePlan
from biolmm.reml.fit import FitConfig
from biolmm.reml.spectrum import MAX_STEPS

HeritabilityMethod = Literal["both", "reml", "rhe"]
METHODS: tuple[HeritabilityMethod, ...] = ("both", "reml", "rhe")
DENSE_CONTRASTS = 6_000
"""Pairs of traits on different samples are fitted with explicit matrices up to so many observations together."""


@dataclass(frozen=True)
class HeritabilityConfig:
    """Choices of `biolmm h2` and `biolmm rg`.

    Attributes
    ----------
    fit
        How REML is done; nothing is left out.
    method
        REML with Haseman–Elston as a check, or either alone.
    n_blocks
        Blocks of the jackknife.
    n_probes
        Random columns of Haseman–Elston.
    prevalences
        Of binary traits in the population.
    memory_bytes
        For the columns of Haseman–Elston and of the bivariate systems.
    """

    fit: FitConfig = field(default_factory=lambda: FitConfig(loco=False))
    method: HeritabilityMethod = "both"
    n_blocks: int = 100
    n_probes: int = 16
    prevalences: Mapping[str, float] = field(default_factory=dict)
    memory_bytes: int = 2**31

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ParameterError(f"There is no method {self.method!r}: use one of {', '.join(METHODS)}.")
        if not 2 <= self.n_blocks <= 10_000:
            raise ParameterError(f"{self.n_blocks} jackknife blocks were asked for but must be between 2 and 10,000.")
        if not 2 <= self.n_probes <= 1_000:
            raise ParameterError(f"{self.n_probes} random columns were asked for but must be between 2 and 1,000.")


@dataclass(frozen=True)
class Size:
    """What decides the cost."""

    n_samples: int
    n_variants: int
    n_traits: int
    n_systems: int
    pass_bytes: int


def plan_rhe(config: HeritabilityConfig, size: Size, n_components: int) -> StagePlan:
    """Plan the two passes of Haseman–Elston."""
    k = config.fit.spectrum.n_pairs if config.method == "both" else 0
    columns = size.n_systems * (k + config.n_probes)
    held = 4 * size.n_samples * columns * n_components * (n_threads() + 4)
    panels = max(1, -(-held // config.memory_bytes))
    return StagePlan(
        stage="haseman-elston", n_passes=2 * panels, read_bytes=2 * panels * size.pass_bytes,
        flop=4.0 * size.n_samples * size.n_variants * columns * (1 + n_components),
        needs=(
            Need("columns and their products", min(held, config.memory_bytes) + 8 * size.n_samples * columns),
            Need("sums by block", 8 * (config.n_blocks + 100) * size.n_traits * (size.n_traits + n_components) * 8),
        ),
    )  # fmt: skip


def plan_rg(config: HeritabilityConfig, size: Size, *, exact: bool) -> StagePlan:
    """Plan the bivariate likelihoods: one block recursion, or explicit matrices."""
    n, T = size.n_samples, size.n_traits
    if exact:
        return StagePlan(
            stage="pairs of traits", n_passes=1, read_bytes=size.pass_bytes, flop=10.0 * n**3 * size.n_systems,
            needs=(
                Need("relatedness and eigenvectors", (4 + size.n_systems) * n * n * 8),
                Need("matrices between the samples of a pair", 7 * n * n * 8 if size.n_systems > 1 else 0),
            ),
        )  # fmt: skip
    return StagePlan(
        stage="pairs of traits", n_passes=12, read_bytes=12 * size.pass_bytes, flop=48.0 * n * size.n_variants * T,
        needs=(Need("block Lanczos vectors of the traits", (MAX_STEPS * 4 + 6 * 8) * n * T),),
    )  # fmt: skip
