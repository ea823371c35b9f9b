"""Estimates of variance components with their errors, as values and as tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.cohort import Cohort

COMPONENT_COLUMNS = (
    "trait", "component", "kind", "n", "variance", "variance_se", "share", "share_se", "share_mc_se", "at_boundary", "lrt",
    "lrt_mc_se", "lrt_p", "effective_df",
)  # fmt: skip
FIXED_COLUMNS = ("trait", "covariate", "effect", "effect_se")


@dataclass(frozen=True)
class Component:
    """One variance component, or the sum of several.

    Attributes
    ----------
    name
        Of the term, the group, or `total`.
    kind
        `component`, `residual`, `group` (the sum of a group's components) or `total` (of all but the residual ones).
    variance, variance_se
        In squared units of the trait: the mean variance over samples, as terms have mean diagonal 1.
    share, share_se
        Of the sum of all components; error by the delta method.
    share_mc_se
        Error from the random probes alone; 0 where there are none.
    at_boundary
        Whether the estimate is the lowest value that it may have: 0, and for noise 10⁻⁴ of the trait's variance.
    lrt, lrt_mc_se, lrt_p
        Likelihood ratio against a model without it, its error from the probes, and its p-value; NaN where not tested.
    effective_df
        `tr V⁻¹ θ K` with covariates taken out: degrees of freedom that the effect takes up.
    """

    name: str
    kind: str
    variance: float
    variance_se: float
    share: float
    share_se: float
    share_mc_se: float
    at_boundary: bool
    lrt: float
    lrt_mc_se: float
    lrt_p: float
    effective_df: float


@dataclass(frozen=True)
class ComponentFit:
    """What was found for one trait.

    Attributes
    ----------
    trait, n
        Its name, and samples that have it.
    components
        One a term, then one a group of several, then `total`.
    theta, covariance
        (q,) components in the order of the terms, and the covariance of their errors.
    fixed
        Effects of covariates with their standard errors, by name.
    log_likelihood
        Restricted, with the constant −(n−C) log(2π) / 2.
    aic
        −2ℓ + 2q, for comparing models with the same covariates.
    conditional_aic
        −2 log p(y | effects) + 2 (effective degrees of freedom + residual components) (Vaida & Blanchard 2005).
    effective_df
        Of covariates and random effects together.
    iterations, converged, n_probes, solver
        How it was found.
    warnings
        What to know about it.
    terms
        Names of the terms, noise included: of the rows of theta, of its covariance and of `blup`.
    blup
        (q, N) `θ_i K_i P_V y`: the predicted effect of every term on everybody in the cohort, in the trait's units; None
        where it was not asked for.
    """

    trait: str
    n: int
    components: tuple[Component, ...]
    theta: NDArray[np.float64]
    covariance: NDArray[np.float64]
    fixed: dict[str, tuple[float, float]]
    log_likelihood: float
    aic: float
    conditional_aic: float
    effective_df: float
    iterations: int
    converged: bool
    n_probes: int
    solver: str
    warnings: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    blup: NDArray[np.float64] | None = None

    def component(self, name: str) -> Component:
        """Return a component, a group or `total` by name."""
        for each in self.components:
            if each.name == name:
                return each
        raise KeyError(f"there is no component '{name}': there are {', '.join(each.name for each in self.components)}")


@dataclass(frozen=True)
class ComponentResults:
    """What was found for all traits with one model.

    Attributes
    ----------
    fits
        One a trait.
    settings
        What the model was made of; plain values for JSON.
    """

    fits: tuple[ComponentFit, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def fit(self, trait: str) -> ComponentFit:
        """Return one trait's results by name."""
        return next(fit for fit in self.fits if fit.trait == trait)

    @property
    def table(self) -> pd.DataFrame:
        """One row a trait and component, as in `components.tsv`."""
        rows = [
            {
                "trait": fit.trait,
                "component": one.name,
                "n": fit.n,
                **{k: v for k, v in vars(one).items() if k != "name"},
            }
            for fit in self.fits
            for one in fit.components
        ]
        return pd.DataFrame(rows, columns=list(COMPONENT_COLUMNS))

    @property
    def fixed(self) -> pd.DataFrame:
        """One row a trait and covariate, as in `fixed.tsv`: effects per standard deviation."""
        rows = [
            {"trait": fit.trait, "covariate": name, "effect": effect, "effect_se": error}
            for fit in self.fits
            for name, (effect, error) in fit.fixed.items()
        ]
        return pd.DataFrame(rows, columns=list(FIXED_COLUMNS))

    def predictions(self, cohort: Cohort) -> pd.DataFrame:
        """Return a row a trait and person, as in `blup.tsv`: predicted effects of all terms but noise, and their sum.

        Empty where none were asked for. People without the trait are predicted from those whom they are related to.
        """
        tables = []
        for fit in self.fits:
            if fit.blup is None:
                continue
            noise = {one.name for one in fit.components if one.kind == "residual"}
            effects = {name: fit.blup[i] for i, name in enumerate(fit.terms) if name not in noise}
            observed = ~np.isnan(cohort.y[:, cohort.trait_names.index(fit.trait)])
            columns = {"trait": fit.trait, "sample_id": cohort.sample_id.tolist(), "observed": observed, **effects}
            total = np.sum(list(effects.values()), axis=0)
            tables.append(pd.DataFrame({**columns, "total": total}))
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def record(self) -> dict[str, Any]:
        """Return what `fit.json` holds: everything that is not in the tables."""
        names = (
            "n", "log_likelihood", "aic", "conditional_aic", "effective_df", "iterations", "converged", "n_probes", "solver",
            "warnings",
        )  # fmt: skip
        traits = {
            fit.trait: {name: getattr(fit, name) for name in names}
            | {"theta": fit.theta.tolist(), "theta_covariance": fit.covariance.tolist()}
            for fit in self.fits
        }
        return {**self.settings, "traits": traits}


def results_text(results: ComponentResults) -> str:
    """Return the results for a terminal: a table, and a few lines about each trait."""
    rows = [["trait", "component", "variance", "share", "se", "lrt", "p"]]
    for one in results.table.itertuples():
        note = " (at its bound)" if one.at_boundary and one.kind in ("component", "residual") else ""
        tested = not np.isnan(float(one.lrt))  # type: ignore[arg-type]
        numbers = [f"{one.variance:.4g}", f"{one.share:.4f}", f"{one.share_se:.4f}"]
        test = [f"{one.lrt:.2f}", f"{one.lrt_p:.2g}"] if tested else ["", ""]
        rows.append([str(one.trait), f"{one.component}{note}", *numbers, *test])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines = [line.rstrip() for line in lines] + [""]
    for fit in results.fits:
        lines.append(
            f"{fit.trait}: {fit.n:,} samples, log-likelihood {fit.log_likelihood:.4f}, AIC {fit.aic:.2f}, conditional AIC "
            f"{fit.conditional_aic:.2f} with {fit.effective_df:.1f} effective degrees of freedom"
        )
        lines += [f"warning: {fit.trait}: {message}" for message in fit.warnings]
    return "\n".join(lines)
