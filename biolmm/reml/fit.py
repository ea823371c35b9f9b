"""Fit the null model of every trait from one set of passes."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from biolmm.cohort import Cohort
from biolmm.errors import ParameterError, UserError
from biolmm.genotypes.dense import DenseRelatedness
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.scaling import Scale
from biolmm.linalg.krylov import Eigenpairs
from biolmm.linalg.operators import Restriction
from biolmm.reml.density import Density
from biolmm.reml.joint import JointEstimation
from biolmm.reml.likelihood import QuadraticMeasure, TraceMeasure, VarianceComponents
from biolmm.reml.model import MODEL_FORMAT, NullModel, stacked
from biolmm.reml.spectrum import Spectrum, SpectrumConfig
from biolmm.reml.traits import TraitFit, fit_exactly
from biolmm.stages import content_hash

log = logging.getLogger(__name__)

Solver = Literal["auto", "exact", "stochastic"]

EXACT_FLOP = 2e12
"""`auto` takes the exact solver up to about this much work (half a minute or so on two cores)."""


@dataclass(frozen=True)
class FitConfig:
    """How the null model is fitted.

    Attributes
    ----------
    solver
        `exact`: dense eigendecomposition and Cholesky factors; `stochastic`: streaming passes; `auto`: by cost.
    loco
        Leave the tested variant's contig out of the relatedness matrix.
    alpha, scale
        Standardisation of genotypes, see `scaling_from_counts`.
    spectrum
        Eigenpairs and probes.
    loco_tolerance
        Relative residual of the left-out predictors.
    fixed_h2
        Use this h² for every trait instead of estimating it.
    """

    solver: Solver = "auto"
    loco: bool = True
    alpha: float = -1.0
    scale: Scale = "hwe"
    spectrum: SpectrumConfig = field(default_factory=SpectrumConfig)
    loco_tolerance: float = 5e-3
    fixed_h2: float | None = None

    def __post_init__(self) -> None:
        if self.fixed_h2 is not None and not 0 <= self.fixed_h2 < 1:
            raise ParameterError(f"h2 is fixed at {self.fixed_h2} but must be at least 0 and below 1.")
        if not 1e-7 <= self.loco_tolerance <= 0.1:
            raise ParameterError(f"loco_tolerance is {self.loco_tolerance} but must be between 1e-7 and 0.1.")
        if not -2 <= self.alpha <= 1:
            raise ParameterError(f"alpha is {self.alpha} but must be between -2 and 1 (-1 is usual).")
        if not 1 <= self.spectrum.n_pairs <= 500:
            raise ParameterError(f"{self.spectrum.n_pairs} eigenpairs were asked for but must be between 1 and 500.")


def choose_solver(config: FitConfig, n_samples: int, n_variants: int, n_classes: int, n_traits: int) -> Solver:
    """Decide between the exact and the stochastic solver by counting operations.

    Examples
    --------
    >>> choose_solver(FitConfig(), n_samples=1_000, n_variants=10_000, n_classes=1, n_traits=1)
    'exact'
    >>> choose_solver(FitConfig(), n_samples=50_000, n_variants=100_000, n_classes=1, n_traits=1)
    'stochastic'
    """
    if config.solver != "auto":
        return config.solver
    n = float(n_samples)
    n_contigs = 22 if config.loco else 1
    flop = 12 * n**3 * n_classes + n_contigs * n_traits * n**3 + n**2 * n_variants * (1 + n_traits)
    return "exact" if flop < EXACT_FLOP else "stochastic"


def fit_null_model(
    operator: GenotypeOperator, cohort: Cohort, config: FitConfig, known: NullModel | None = None
) -> NullModel:
    """Estimate the variance components of every trait: `y = Xβ + u + e`, u ~ N(0, σ²_g K), e ~ N(0, σ²_e I).

    Parameters
    ----------
    operator
        K of the cohort's samples and the model's variants.
    cohort
        Traits and covariates.
    config
        How.
    known
        A model of the same genotypes, samples and settings: its spectra are reused where a trait has the same
        observed samples and covariates, and only the new traits' recursions are run.

    Returns
    -------
    NullModel
        Without left-out predictors; `loco.solve_predictors` adds them.

    Notes
    -----
    Cost: 3 to 6 passes of 12 columns for the eigenpairs, 1 to 3 more where traits have missing values, 1 for the
    traces, and 4 to 30 of probes and traits together: 4 or 5 at an h² of 0.3, 9 at 0.8. The first of these has 32
    columns for the cohort and 6 or more for each further set of samples, the others 6 for each set that traits have;
    all have one for each trait that has not settled. Exact solver: one pass, then 12·n³ flop for each set of samples.

    Randomness: probes are drawn from `config.spectrum.seed` and the sample ids; `h2_mc_se` says how far ĥ² moves
    between seeds.
    """
    solver = choose_solver(config, cohort.n_samples, operator.n_variants, len(cohort.classes), cohort.n_traits)
    if operator.n_variants == 0:
        raise UserError("no variant of the model varies among the cohort's samples: check --model-extract and --keep.")
    whole = whole_restriction(cohort)
    restrictions, system_of_class = _systems(whole, cohort)
    system_of_trait = system_of_class[cohort.class_of_trait]
    log.info("fit: %s solver, %d sets of observed samples", solver, len(restrictions))
    if solver == "exact":
        if known is not None:
            log.warning("the known model's spectra are not reused: the exact solver makes its own.")
        K = DenseRelatedness(operator).left_out()
        spectra, fits = fit_exactly(
            K, cohort.y, restrictions, system_of_trait, config.spectrum.n_pairs, config.fixed_h2
        )
    else:
        estimation = JointEstimation(operator, cohort.sample_id.tolist(), cohort.y, config.spectrum, config.fixed_h2)
        spectra, fits = estimation.run(restrictions, system_of_trait, _reusable(known, config, operator))
    return NullModel(_dataset(operator, cohort, config, solver, spectra, system_of_trait, fits))


def plain_model(operator: GenotypeOperator, cohort: Cohort) -> NullModel:
    """Return a model without random effect (h² = 0) for the plain regression: samples, traits and covariates only."""
    whole = whole_restriction(cohort)
    restrictions, system_of_class = _systems(whole, cohort)
    system_of_trait = system_of_class[cohort.class_of_trait]
    nothing = np.zeros((0, 0))
    empty = Eigenpairs(np.zeros(0), np.zeros((cohort.n_samples, 0), np.float32), np.zeros(0))
    spectra = [Spectrum(r, empty, TraceMeasure(np.zeros(0), nothing, nothing, r.rank, 0.0)) for r in restrictions]
    fits = []
    for trait, system in enumerate(system_of_trait):
        restriction = restrictions[system]
        residual = restriction.project(np.nan_to_num(cohort.y[:, [trait]]))[:, 0]
        measure = QuadraticMeasure(np.zeros(1), np.array([residual @ residual]))
        variance = float(measure.weights[0] / restriction.rank)
        nan = float("nan")
        components = VarianceComponents(0.0, nan, nan, 0.0, variance, nan, nan, nan)
        fits.append(TraitFit(components, measure, residual.astype(np.float32), 0))
    return NullModel(_dataset(operator, cohort, FitConfig(), "exact", spectra, system_of_trait, fits))


def whole_restriction(cohort: Cohort) -> Restriction:
    """Return the restriction to everyone, with an orthonormal basis of intercept and covariates."""
    design = np.column_stack([np.ones(cohort.n_samples), cohort.covariates])
    return Restriction(np.ones(cohort.n_samples, dtype=bool), np.asarray(np.linalg.qr(design)[0]))


def _systems(whole: Restriction, cohort: Cohort) -> tuple[list[Restriction], NDArray[np.int64]]:
    """Return the whole cohort first, then every mask class that lacks some samples, and the system of each class."""
    restrictions = [whole]
    system_of_class = np.zeros(len(cohort.classes), dtype=np.int64)
    for index, mask in enumerate(cohort.classes):
        if not mask.observed.all():
            system_of_class[index] = len(restrictions)
            restrictions.append(Restriction(mask.observed, mask.basis))
    return restrictions, system_of_class


def _identity(config: FitConfig, operator: GenotypeOperator) -> str:
    """Name what a spectrum depends on apart from its restriction."""
    arithmetic = operator.arithmetic.name
    return content_hash(operator.source.reader.key, config.alpha, config.scale, asdict(config.spectrum), arithmetic)


def _reusable(known: NullModel | None, config: FitConfig, operator: GenotypeOperator) -> list[Spectrum]:
    if known is None:
        return []
    if known.dataset.attrs.get("spectrum_identity") != _identity(config, operator):
        log.warning(
            "the known model's spectra are not reused: it has other genotypes, samples, variants, settings, "
            "precision or seed."
        )
        return []
    spectra = [known.spectrum(system) for system in range(known.n_systems)]
    return spectra if known.settings["solver"] == "stochastic" else []


def _dataset(
    operator: GenotypeOperator, cohort: Cohort, config: FitConfig, solver: Solver, spectra: Sequence[Spectrum],
    system_of_trait: NDArray[np.int64], fits: Sequence[TraitFit],
) -> xr.Dataset:  # fmt: skip
    """Gather everything under names."""
    pairs = [spectrum.pairs for spectrum in spectra]
    densities = [spectrum.density or Density.empty() for spectrum in spectra]
    components = {
        name: ("traits", np.array([getattr(fit.components, name) for fit in fits]))
        for name in VarianceComponents.__dataclass_fields__
    }
    store = operator.source.store
    return xr.Dataset(
        {
            **components,
            "n_steps": ("traits", np.array([fit.n_steps for fit in fits])),
            "n_probes_used": ("traits", np.array([fit.n_probes for fit in fits])),
            "solution": (("traits", "samples"), np.array([fit.solution for fit in fits])),
            "y": (("traits", "samples"), cohort.y.T),
            "system_of_trait": ("traits", system_of_trait),
            "observed": (("systems", "samples"), np.array([s.restriction.observed for s in spectra])),
            "basis": (("systems", "samples", "covariates"), stacked([s.restriction.basis for s in spectra])),
            "n_covariates": ("systems", np.array([s.restriction.basis.shape[1] for s in spectra])),
            "eigenvalue": (("systems", "components"), stacked([p.values for p in pairs])),
            "eigen_residual": (("systems", "components"), stacked([p.residuals for p in pairs])),
            "eigenvector": (("systems", "samples", "components"), stacked([p.vectors for p in pairs])),
            "n_pairs": ("systems", np.array([len(p.values) for p in pairs])),
            "trace": ("systems", np.array([spectrum.whole_trace for spectrum in spectra])),
            "probe_alpha": (("systems", "probes", "steps"), stacked([d.alpha for d in densities])),
            "probe_beta": (("systems", "probes", "steps"), stacked([d.beta for d in densities])),
            "probe_norm": (("systems", "probes"), stacked([d.norms for d in densities])),
            "probe_steps": (("systems", "probes"), stacked([d.steps for d in densities])),
            "n_probes": ("systems", np.array([d.n_probes for d in densities])),
            "probe_moment": (("systems", "moment_probes", "powers"), stacked([d.moments for d in densities])),
            "n_moments": ("systems", np.array([len(d.moments) for d in densities])),
            "covariate": (("samples", "covariate_columns"), cohort.covariates),
            "model_variant_index": ("model_variants", operator.source.variants),
        },
        coords={
            "sample_id": ("samples", cohort.sample_id.astype(str)),
            "trait": ("traits", np.array(cohort.trait_names, dtype=str)),
            "sample_index": ("samples", cohort.sample_index),
        },
        attrs={
            "biolmm_model_format": MODEL_FORMAT,
            "settings": json.dumps({**asdict(config), "solver": solver}),
            "counts": json.dumps(cohort.counts),
            "covariates": json.dumps(list(cohort.covariate_names)),
            "store": str(store.path),
            "store_fingerprint": store.fingerprint,
            "spectrum_identity": _identity(config, operator),
        },
    )
