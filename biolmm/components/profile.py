"""Models with a range of their own: fit each candidate, and keep for every trait the likeliest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from biolmm.cohort import Cohort
from biolmm.components.build import Candidate
from biolmm.components.fit import ComponentConfig
from biolmm.components.parts import FinishedParts, fit_in_parts
from biolmm.components.results import ComponentFit, ComponentResults
from biolmm.covariance import Term

log = logging.getLogger(__name__)


def fit_candidates(
    candidates: Sequence[Candidate],
    cohort: Cohort,
    config: ComponentConfig | None = None,
    finished: FinishedParts | None = None,
) -> ComponentResults:
    """Fit every trait with each candidate, and return its fit with the likeliest; finished parts are taken as they are.

    Ranges that were chosen are in `settings["ranges"]`, by trait, with the log-likelihood of every one that was tried;
    each counts as a parameter in the AIC.

    Notes
    -----
    **Cost**: of a fit without tests for each candidate, and with them for those that win.
    """
    config = config or ComponentConfig()
    if len(candidates) == 1:
        return fit_in_parts(candidates[0].terms, cohort, config, None, finished)
    untested = replace(config, test=False, blup=False)
    shared = set.intersection(*(set(candidate.terms) for candidate in candidates))
    known: dict[Term, NDArray[np.float64]] = {}
    tried = []
    for candidate in candidates:
        known = {term: matrix for term, matrix in known.items() if term in shared}
        log.info(
            "components: %s", ", ".join(f"{name} with range {value:.4g}" for name, value in candidate.ranges.items())
        )
        tried.append(fit_in_parts(candidate.terms, cohort, untested, known, finished, candidate.ranges))
    likelihoods = np.array([[fit.log_likelihood for fit in results.fits] for results in tried])
    best = likelihoods.argmax(axis=0)
    if config.test or config.blup:
        tried = [
            fit_in_parts(candidate.terms, cohort, config, known, finished, candidate.ranges) if i in best else results
            for i, (candidate, results) in enumerate(zip(candidates, tried, strict=True))
        ]
    fits = [_with_range(tried[winner].fits[trait], candidates, int(winner)) for trait, winner in enumerate(best)]
    ranges = {
        fit.trait: {
            "chosen": candidates[winner].ranges,
            "log_likelihoods": {f"{_value(c):.6g}": float(likelihoods[i, trait]) for i, c in enumerate(candidates)},
        }
        for trait, (fit, winner) in enumerate(zip(fits, best, strict=True))
    }
    return ComponentResults(tuple(fits), {"ranges": ranges})


def _value(candidate: Candidate) -> float:
    return next(iter(candidate.ranges.values()))


def _with_range(fit: ComponentFit, candidates: Sequence[Candidate], winner: int) -> ComponentFit:
    """Count the range as a parameter, and say so where it is the first or the last that was tried."""
    ranges = candidates[winner].ranges
    warnings = list(fit.warnings)
    if winner in (0, len(candidates) - 1):
        name, value = next(iter(ranges.items()))
        side = "shortest" if winner == 0 else "longest"
        warnings.append(
            f"the likeliest range of {name}, {value:.4g}, is the {side} that was tried: try others with range="
        )
    return replace(fit, aic=fit.aic + 2 * len(ranges), warnings=tuple(warnings))
