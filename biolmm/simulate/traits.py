"""Traits: genetic values at the heritability asked for, environments, covariates, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.errors import ParameterError
from biolmm.simulate.config import SimulateConfig
from biolmm.simulate.people import People
from biolmm.simulate.streams import Stream, generator

N_BATCHES = 4


@dataclass(frozen=True, eq=False)
class Traits:
    """Simulated traits, samples × traits, and what they are made of.

    Attributes
    ----------
    values
        The traits as they will be written; NaN = missing.
    genetic
        Genetic values, centred, in the units of the trait.
    scale
        What the unscaled effects have to be multiplied with to act in these units.
    h2
        Realised share of the genetic values: var(g) / (var(g) + var(shared environment) + var(residual)).
    h2_within
        The same for what of the genetic values ancestry does not predict.
    """

    values: NDArray[np.float64]
    genetic: NDArray[np.float64]
    scale: NDArray[np.float64]
    h2: NDArray[np.float64]
    h2_within: NDArray[np.float64]


def make_covariates(config: SimulateConfig, people: People) -> pd.DataFrame:
    """Age in years, sex (1 male, 2 female) and batch (`b1` …) of every sample."""
    rng = generator(config.seed, Stream.COVARIATES)
    age = np.round(np.clip(rng.normal(57, 8, size=people.n), 40, 75), 1)
    batch = [f"b{i + 1}" for i in rng.integers(N_BATCHES, size=people.n).tolist()]
    return pd.DataFrame({"age": age, "sex": people.sex, "batch": batch})


def make_traits(
    config: SimulateConfig, people: People, covariates: pd.DataFrame, unscaled: NDArray[np.float64]
) -> Traits:
    """y = g + shared environment + residual (variances h², c², 1 − h² − c²) + ancestry's environment + covariates.

    Variances are those of this very sample.

    Parameters
    ----------
    unscaled
        Genetic values before scaling, samples × traits.

    Raises
    ------
    ParameterError
        When a trait is to be heritable but its causal variants do not vary.
    """
    h2 = np.asarray(config.h2_of_traits)
    spread = unscaled.std(axis=0)
    for name, wanted, found in zip(config.trait_names, h2, spread, strict=True):
        if wanted > 0 and found == 0:
            raise ParameterError(
                f"h2 of {name} is {wanted:g} but none of its causal variants varies among the {people.n:,} samples: "
                "ask for more causal variants or samples, or for h2 = 0."
            )
    scale = np.divide(np.sqrt(h2), spread, out=np.zeros(len(h2)), where=(h2 > 0) & (spread > 0))
    genetic = unscaled - unscaled.mean(axis=0)
    genetic *= scale
    values = np.empty_like(genetic)
    realised, within = np.empty(len(h2)), np.empty(len(h2))
    for t, share in enumerate(h2):
        rng = generator(config.seed, Stream.TRAITS, t)
        noise = _environment(config, people, 1 - share - config.shared_environment, rng)
        total = genetic[:, t].var() + noise.var()
        realised[t] = genetic[:, t].var() / total
        within[t] = _residual_variance(genetic[:, t], people.ancestry) / total
        values[:, t] = genetic[:, t] + noise + _fixed(config, people, covariates, rng)
        values[rng.random(people.n) < config.missing_traits, t] = np.nan
    return Traits(values=values, genetic=genetic, scale=scale, h2=realised, h2_within=within)


def _environment(
    config: SimulateConfig, people: People, residual: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw what families share and what each has alone."""
    noise = _with_variance(rng.standard_normal(people.n), residual)
    if config.shared_environment > 0:
        home = np.where(people.family < 0, people.n_families + np.arange(people.n), people.family)
        shared = rng.standard_normal(people.n_families + people.n)[home]
        noise += _with_variance(shared, config.shared_environment)
    return noise


def _fixed(
    config: SimulateConfig, people: People, covariates: pd.DataFrame, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the environment that follows ancestry, and the effects of age, sex and batch."""
    batch = pd.factorize(covariates["batch"], sort=True)[0]
    parts = (
        covariates["age"].to_numpy(dtype=np.float64),
        covariates["sex"].to_numpy(dtype=np.float64),
        rng.standard_normal(N_BATCHES)[batch],
    )
    weights = rng.choice([-1.0, 1.0], size=len(parts)) * rng.uniform(0.5, 1.5, size=len(parts))
    effect = sum((w * _with_variance(part, 1.0) for w, part in zip(weights, parts, strict=True)), np.zeros(people.n))
    shift = people.ancestry @ rng.standard_normal(config.n_populations)
    return _with_variance(effect, config.covariate_variance) + _with_variance(shift, config.stratification)


def _with_variance(x: NDArray[np.float64], variance: float) -> NDArray[np.float64]:
    """Centre and scale to a sample variance; what does not vary becomes zero."""
    spread = float(x.std())
    if spread <= 1e-12 * float(np.abs(x).max(initial=1.0)):
        return np.zeros_like(x)
    return np.asarray((x - x.mean()) * (np.sqrt(variance) / spread))


def _residual_variance(x: NDArray[np.float64], ancestry: NDArray[np.float64]) -> float:
    """Variance that the expected shares of the populations (they sum to one) leave."""
    fitted = ancestry @ np.linalg.lstsq(ancestry, x, rcond=None)[0]
    return float((x - fitted).var())
