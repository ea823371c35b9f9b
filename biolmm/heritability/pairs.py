"""Genetic correlation of every pair of traits from shared passes; each pair by the way that its samples allow.

| samples of the two traits | few people (dense) | many people (streaming) |
|---|---|---|
| the same | `eigen`: exact | `lanczos`: one block recursion for all pairs |
| overlap partly or not at all | `dense`: exact | `pcg`: average information, probes; Wald's tests |
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.cohort import Cohort
from biolmm.errors import ParameterError, TraitError, named
from biolmm.genotypes.dense import DenseRelatedness
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.heritability.bivariate import PairEstimate
from biolmm.heritability.config import DENSE_CONTRASTS, HeritabilityConfig
from biolmm.heritability.haseman_elston import CrossEstimates, cross_trait, equations
from biolmm.heritability.overlap import Contrasts, fit_dense
from biolmm.heritability.overlap_streaming import StreamingPair, fit_streaming, pair_probes
from biolmm.heritability.run import Moments
from biolmm.heritability.spectral import TraitMeasures, block_measures, fit_same_samples, start_values
from biolmm.linalg.operators import Restriction
from biolmm.linalg.probes import row_keys
from biolmm.reml.likelihood import TraceMeasure
from biolmm.reml.model import NullModel

log = logging.getLogger(__name__)

Pair = tuple[int, int]
MIN_PROBES = 32
"""Random columns of a pair on different samples: fewer would leave an error of a fifth of the standard error."""


def chosen_pairs(trait_names: Sequence[str], asked: Sequence[tuple[str, str]] = ()) -> list[Pair]:
    """Return the pairs of traits to analyse, all by default.

    Raises
    ------
    TraitError
        When there are fewer than two traits, or one that is asked for is not there.
    ParameterError
        When a trait is paired with itself.

    Examples
    --------
    >>> chosen_pairs(["a", "b", "c"])
    [(0, 1), (0, 2), (1, 2)]
    >>> chosen_pairs(["a", "b", "c"], [("c", "a")])
    [(2, 0)]
    """
    if len(trait_names) < 2:
        raise TraitError(f"a genetic correlation needs two traits: there is {named(trait_names)} alone.")
    if not asked:
        return list(combinations(range(len(trait_names)), 2))
    place = {name: i for i, name in enumerate(trait_names)}
    unknown = [name for pair in asked for name in pair if name not in place]
    if unknown:
        raise TraitError(f"--pair names {named(dict.fromkeys(unknown))}, not among the traits: {named(trait_names)}.")
    if any(a == b for a, b in asked):
        raise ParameterError("--pair names a trait with itself: name two.")
    return [(place[a], place[b]) for a, b in dict.fromkeys(asked)]


def fit_pairs(
    operator: GenotypeOperator, cohort: Cohort, model: NullModel, config: HeritabilityConfig, pairs: Sequence[Pair]
) -> dict[Pair, tuple[str, PairEstimate]]:
    """Estimate every pair by bivariate REML; the name of the way beside it."""
    exact = model.settings["solver"] == "exact"
    fits: _Exact | _Streaming = (_Exact if exact else _Streaming)(operator, cohort, model, config, pairs)
    found = {}
    for number, (one, other) in enumerate(pairs):
        found[one, other] = fits.fit(one, other)
        log.info("pair %d of %d: %s and %s", number + 1, len(pairs), cohort.trait_names[one], cohort.trait_names[other])
    return found


class _Exact:
    """K as a matrix; each trait's contrasts are rotated once."""

    def __init__(
        self, operator: GenotypeOperator, cohort: Cohort, model: NullModel, config: HeritabilityConfig,
        pairs: Sequence[Pair],
    ) -> None:  # fmt: skip
        self.K = DenseRelatedness(operator).left_out()
        self.cohort, self.model = cohort, model
        self._by_system: dict[int, Contrasts] = {}

    def contrasts(self, trait: int) -> Contrasts:
        system = int(self.model.system_of_trait[trait])
        y = self.cohort.y[:, trait]
        if system not in self._by_system:
            self._by_system[system] = Contrasts.of(self.K, y, self.model.restriction(system))
        known = self._by_system[system]
        return Contrasts(known.A, known.values, known.A.T @ np.nan_to_num(y))

    def fit(self, one: int, other: int) -> tuple[str, PairEstimate]:
        systems = self.model.system_of_trait[[one, other]]
        both = [self.contrasts(t) for t in (one, other)]
        if systems[0] == systems[1]:
            nothing = np.zeros((0, 0))
            trace = TraceMeasure(both[0].values, nothing, nothing, 0, 0.0)
            measures = TraitMeasures(both[0].values, np.stack([c.y for c in both], axis=1))
            return "eigen", fit_same_samples(trace, measures, 0, 1, len(both[0].values))
        restrictions = [self.model.restriction(int(s)) for s in systems]
        return "dense", fit_dense(self.K, [self.cohort.y[:, t] for t in (one, other)], restrictions, both)


class _Streaming:
    """Passes: one block recursion a set of samples; pairs on different samples by explicit matrices while they are few."""

    def __init__(
        self, operator: GenotypeOperator, cohort: Cohort, model: NullModel, config: HeritabilityConfig,
        pairs: Sequence[Pair],
    ) -> None:  # fmt: skip
        self.operator, self.cohort, self.model, self.config = operator, cohort, model, config
        systems = model.system_of_trait
        wanted: dict[int, list[int]] = {}
        for pair in pairs:
            if systems[pair[0]] == systems[pair[1]]:
                mine = wanted.setdefault(int(systems[pair[0]]), [])
                mine += [t for t in pair if t not in mine]
        self.measures = {
            system: (traits, block_measures(operator, cohort.y[:, traits], model.spectrum(system)))
            for system, traits in wanted.items()
        }

    def fit(self, one: int, other: int) -> tuple[str, PairEstimate]:
        systems = [int(s) for s in self.model.system_of_trait[[one, other]]]
        if systems[0] == systems[1]:
            traits, measures = self.measures[systems[0]]
            spectrum = self.model.spectrum(systems[0])
            found = fit_same_samples(
                spectrum.measure, measures, traits.index(one), traits.index(other), spectrum.restriction.rank
            )
            return "lanczos", found
        restrictions = [self.model.restriction(s) for s in systems]
        y = [self.cohort.y[:, t] for t in (one, other)]
        if sum(r.rank for r in restrictions) <= DENSE_CONTRASTS and self.operator.n_samples <= DENSE_CONTRASTS:
            return "dense", fit_dense(self._dense, y, restrictions)
        return "pcg", self._stream(one, other, restrictions)

    def _stream(self, one: int, other: int, restrictions: Sequence[Restriction]) -> PairEstimate:
        model = self.model
        spectra = [model.spectrum(int(model.system_of_trait[t])) for t in (one, other)]
        projected = [model.projected_trait(t) for t in (one, other)]
        ranks = [r.rank for r in restrictions]
        scale = [float(np.sqrt(y @ y / n)) for y, n in zip(projected, ranks, strict=True)]
        shares = bool(np.any(restrictions[0].observed & restrictions[1].observed))
        y = np.concatenate([p / s for p, s in zip(projected, scale, strict=True)]).astype(np.float32)
        probes = pair_probes(
            row_keys(self.cohort.sample_id.tolist()),
            max(MIN_PROBES, self.config.n_probes),
            self.config.fit.spectrum.seed,
        )
        pair = StreamingPair(self.operator, (spectra[0], spectra[1]), y, probes, shares)
        both = restrictions[0].observed & restrictions[1].observed
        first, last = np.split(y.astype(np.float64), 2)
        correlation = float(first @ last / max(both.sum(), 1))
        components = [model.components(t) for t in (one, other)]
        start = start_values(
            [c.sigma2_g / s**2 for c, s in zip(components, scale, strict=True)],
            [c.sigma2_e / s**2 for c, s in zip(components, scale, strict=True)],
            correlation,
        )
        while not pair.positive(start):
            start[[1, 4]] /= 2
        return fit_streaming(pair, start).scaled(scale[0], scale[1], (ranks[0], ranks[1]))

    @cached_property
    def _dense(self) -> NDArray[np.float64]:
        return DenseRelatedness(self.operator).left_out()


def cross_estimates(moments: Moments) -> CrossEstimates:
    """Return the genetic correlations of all pairs by moments."""
    return cross_trait(moments.sums, equations(moments.sums, [0]))


def rg_table(
    cohort: Cohort,
    pairs: Sequence[Pair],
    fits: dict[Pair, tuple[str, PairEstimate]],
    crossed: CrossEstimates | None,
) -> pd.DataFrame:
    """Return `rg.tsv`: a row a pair; what REML or Haseman–Elston did not give is NA."""
    observed = ~np.isnan(cohort.y)
    rows = []
    for one, other in pairs:
        row: dict[str, object] = {
            "trait_1": cohort.trait_names[one], "trait_2": cohort.trait_names[other],
            "n_1": int(observed[:, one].sum()), "n_2": int(observed[:, other].sum()),
            "n_both": int((observed[:, one] & observed[:, other]).sum()),
            "rg_rhe": np.nan if crossed is None else crossed.rg[one, other],
            "rg_rhe_se": np.nan if crossed is None else crossed.rg_se[one, other],
        }  # fmt: skip
        rows.append(row | (_fit_columns(*fits[one, other]) if (one, other) in fits else _no_fit(crossed, one, other)))
    return pd.DataFrame(rows)


_THETA = ("sigma2_g_1", "cov_g", "sigma2_g_2", "sigma2_e_1", "cov_e", "sigma2_e_2")
_FITTED = ("rg", "rg_se", "rg_mc_se", "rg_bounded", "rg0_lrt", "rg0_p", "rg1_lrt", "rg1_p", "log_likelihood")


def _fit_columns(method: str, found: PairEstimate) -> dict[str, object]:
    errors = np.sqrt(np.maximum(np.diag(found.covariance), 0.0))
    columns: dict[str, object] = {"method": method, "flag": found.flag}
    columns |= {name: getattr(found, name) for name in _FITTED}
    columns |= dict(zip(_THETA, found.theta, strict=True))
    columns |= {f"{name}_se": error for name, error in zip(_THETA, errors, strict=True)}
    columns["re"], columns["re_se"] = found.correlation("e")
    columns["h2_1"], columns["h2_1_se"] = found.h2(0)
    columns["h2_2"], columns["h2_2_se"] = found.h2(1)
    return columns


def _no_fit(crossed: CrossEstimates | None, one: int, other: int) -> dict[str, object]:
    """Fill a row that has only Haseman–Elston."""
    nan = float("nan")
    names = [*_FITTED, *_THETA, *(f"{name}_se" for name in _THETA), "re", "re_se", "h2_1", "h2_1_se", "h2_2", "h2_2_se"]
    row: dict[str, object] = dict.fromkeys(names, nan)
    row |= {"method": "rhe", "flag": ""}
    if crossed is not None:
        row |= {"cov_g": crossed.cov_g[one, other], "cov_e": crossed.cov_e[one, other],
                "sigma2_g_1": crossed.cov_g[one, one], "sigma2_g_2": crossed.cov_g[other, other],
                "sigma2_e_1": crossed.cov_e[one, one], "sigma2_e_2": crossed.cov_e[other, other]}  # fmt: skip
        if not np.isfinite(crossed.rg[one, other]):
            row["flag"] = "a genetic variance is not above 0"
        elif abs(crossed.rg[one, other]) > 1:
            row["flag"] = "the estimate is beyond ±1"
    return row
