"""Fit the null model of every trait from one set of passes."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
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
from biolmm.linalg.lanczos import Quadrature
from biolmm.linalg.operators import Restriction
from biolmm.linalg.probes import row_keys
from biolmm.reml.likelihood import QuadraticMeasure, RestrictedLikelihood, TraceMeasure, VarianceComponents
from biolmm.reml.model import MODEL_FORMAT, NullModel, stacked
from biolmm.reml.spectrum import (
    MAX_PROBES,
    MIN_PROBES,
    DensityRecursion,
    Spectrum,
    SpectrumConfig,
    leading_pairs,
)
from biolmm.reml.traits import TraitFit, fit_exactly, fit_traits
from biolmm.stages import content_hash

log = logging.getLogger(__name__)

Solver = Literal["auto", "exact", "stochastic"]

EXACT_FLOP = 2e12
"""`auto` takes the exact solver up to about this much work (half a minute or so on two cores)."""
MC_SHARE = 0.1
"""Probes are added until the Monte-Carlo error is below this share of the standard error."""


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
    Cost: about 6 passes for the eigenpairs (twice 3 more where traits have missing values), 1 for the traces, and
    6 to 30 each for probes and traits. Exact solver: one pass, then 12·n³ flop for each set of observed samples.

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
        probes_used = [0] * cohort.n_traits
    else:
        estimation = _Estimation(operator, cohort, config)
        spectra, fits, probes_used = estimation.run(restrictions, system_of_trait, _reusable(known, config, operator))
    traces = [float(s.measure.trace + s.measure.values.sum()) for s in spectra]
    return NullModel(
        _dataset(operator, cohort, config, solver, spectra, np.array(traces), system_of_trait, fits, probes_used)
    )


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
    traces = np.zeros(len(spectra))
    return NullModel(
        _dataset(operator, cohort, FitConfig(), "exact", spectra, traces, system_of_trait, fits, [0] * cohort.n_traits)
    )


class _Estimation:
    """The stochastic estimate: eigenpairs, probes, traits, and more probes where a trait needs them."""

    def __init__(self, operator: GenotypeOperator, cohort: Cohort, config: FitConfig) -> None:
        self.operator = operator
        self.cohort = cohort
        self.config = config
        self.keys = row_keys(cohort.sample_id.tolist())

    def run(
        self, restrictions: Sequence[Restriction], system_of_trait: NDArray[np.int64], reusable: list[Spectrum]
    ) -> tuple[list[Spectrum], list[TraitFit], list[int]]:
        """Return the spectra, the fits of all traits and the probes that each trait used."""
        used = set(system_of_trait.tolist())  # the whole cohort's density is wanted only where a trait has it
        known: dict[int, Spectrum] = {}
        for i, restriction in enumerate(restrictions):
            same = [spectrum for spectrum in reusable if same_restriction(restriction, spectrum.restriction)]
            if same and (same[0].measure.n_probes or i not in used):
                known[i] = same[0]
        new = [i for i in range(len(restrictions)) if i not in known]
        wanted = [i for i, position in enumerate(new) if position in used]
        estimated = self._spectra([restrictions[i] for i in new], wanted, known.get(0)) if new else []
        spectra = [known[i] if i in known else estimated[new.index(i)] for i in range(len(restrictions))]
        first = [_with_probes(spectrum, MIN_PROBES) for spectrum in spectra]
        fits = fit_traits(self.operator, self.cohort.y, first, system_of_trait, self.config.fixed_h2)
        return self._add_probes(spectra, fits, system_of_trait)

    def _spectra(self, restrictions: list[Restriction], which: list[int], whole: Spectrum | None) -> list[Spectrum]:
        """Estimate eigenpairs and traces under new restrictions, and the first probes of some of them (`which`).

        Unless the spectrum of the whole cohort is known, it is the first.
        """
        config = self.config.spectrum
        if whole is None:
            pairs = leading_pairs(self.operator, self.keys, restrictions[:1], config)
            log.info("fit: %d eigenpairs of the cohort after %d passes", len(pairs[0].values), self._passes())
            rest = restrictions[1:]
            warm = pairs[0]
        else:
            pairs, rest, warm = [], restrictions, whole.pairs
        if rest:
            pairs += leading_pairs(self.operator, self.keys, rest, config, warm=warm)
        traces = self.operator.traces(restrictions)
        recursion = DensityRecursion(self.operator, restrictions, pairs, traces)
        found = recursion.run_probes(self.keys, which, range(MIN_PROBES), config.seed)
        log.info("fit: spectral densities after %d passes", self._passes())
        probes = dict(zip(which, found, strict=True))
        none = Quadrature(np.zeros((0, 0)), np.zeros((0, 0)))
        measures = [recursion.measure(i, probes.get(i, none)) for i in range(len(restrictions))]
        return [Spectrum(*known) for known in zip(restrictions, pairs, measures, strict=True)]

    def _add_probes(
        self, spectra: list[Spectrum], fits: list[TraitFit], system_of_trait: NDArray[np.int64]
    ) -> tuple[list[Spectrum], list[TraitFit], list[int]]:
        """Double the probes of the traits whose Monte-Carlo error is too large, and evaluate those again."""
        used = [MIN_PROBES] * len(fits)
        while used:
            wanting = [
                trait
                for trait, fit in enumerate(fits)
                if fit.components.h2_mc_se > MC_SHARE * fit.components.h2_se and used[trait] < MAX_PROBES
            ]
            if not wanting or self.config.fixed_h2 is not None:
                break
            systems = sorted({int(system_of_trait[trait]) for trait in wanting})
            target = 2 * max(used[trait] for trait in wanting)
            self._more_probes(spectra, [s for s in systems if spectra[s].measure.n_probes < target], target)
            for trait in wanting:
                used[trait] *= 2
                spectrum = _with_probes(spectra[system_of_trait[trait]], used[trait])
                likelihood = RestrictedLikelihood(spectrum.measure, fits[trait].measure, spectrum.restriction.rank)
                fits[trait] = self._moved(fits[trait], likelihood.fit())
        return spectra, fits, used

    def _more_probes(self, spectra: list[Spectrum], systems: list[int], target: int) -> None:
        """Bring the probes of some systems up to `target`, those that have equally many in the same passes."""
        for count in sorted({spectra[s].measure.n_probes for s in systems}):
            chosen = [s for s in systems if spectra[s].measure.n_probes == count]
            recursion = DensityRecursion(
                self.operator,
                [spectra[s].restriction for s in chosen],
                [spectra[s].pairs for s in chosen],
                np.array([spectra[s].measure.trace + spectra[s].measure.values.sum() for s in chosen]),
            )
            probes = range(count, target)
            found = recursion.run_probes(self.keys, range(len(chosen)), probes, self.config.spectrum.seed)
            for i, (s, fresh) in enumerate(zip(chosen, found, strict=True)):
                known = spectra[s].measure
                both = Quadrature(
                    np.concatenate(list(stacked([known.nodes, fresh.nodes]))),
                    np.concatenate(list(stacked([known.weights, fresh.weights]))),
                )
                spectra[s] = replace(spectra[s], measure=recursion.measure(i, both))
            log.info("fit: %d probes for %d spectra after %d passes", target, len(chosen), self._passes())

    @staticmethod
    def _moved(fit: TraitFit, components: VarianceComponents) -> TraitFit:
        """Keep the solution of the earlier estimate as a start: the two differ by a fraction of a standard error."""
        return TraitFit(components, fit.measure, fit.solution, fit.n_steps)

    def _passes(self) -> int:
        return self.operator.counter.passes


def _with_probes(spectrum: Spectrum, n_probes: int) -> Spectrum:
    """Return the spectrum as the first `n_probes` probes see it."""
    measure = spectrum.measure
    first = TraceMeasure(
        measure.values, measure.nodes[:n_probes], measure.weights[:n_probes], measure.dimension, measure.trace
    )
    return Spectrum(spectrum.restriction, spectrum.pairs, first)


def same_restriction(one: Restriction, other: Restriction) -> bool:
    """Whether two restrictions have the same samples and span the same covariates, whatever the basis."""
    if one.basis.shape != other.basis.shape or not np.array_equal(one.observed, other.observed):
        return False
    outside = one.basis - other.basis @ (other.basis.T @ one.basis)
    return bool(np.linalg.norm(outside) < 1e-6)


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
    return content_hash(operator.source.reader.key, config.alpha, config.scale, asdict(config.spectrum))


def _reusable(known: NullModel | None, config: FitConfig, operator: GenotypeOperator) -> list[Spectrum]:
    if known is None:
        return []
    if known.dataset.attrs.get("spectrum_identity") != _identity(config, operator):
        log.warning(
            "the known model's spectra are not reused: it has other genotypes, samples, variants, settings or seed."
        )
        return []
    spectra = [known.spectrum(system) for system in range(known.n_systems)]
    return spectra if known.settings["solver"] == "stochastic" else []


def _dataset(
    operator: GenotypeOperator, cohort: Cohort, config: FitConfig, solver: Solver, spectra: Sequence[Spectrum],
    traces: NDArray[np.float64], system_of_trait: NDArray[np.int64], fits: Sequence[TraitFit], probes_used: list[int],
) -> xr.Dataset:  # fmt: skip
    """Gather everything under names."""
    pairs = [spectrum.pairs for spectrum in spectra]
    measures = [spectrum.measure for spectrum in spectra]
    components = {
        name: ("traits", np.array([getattr(fit.components, name) for fit in fits]))
        for name in VarianceComponents.__dataclass_fields__
    }
    store = operator.source.store
    return xr.Dataset(
        {
            **components,
            "n_steps": ("traits", np.array([fit.n_steps for fit in fits])),
            "n_probes_used": ("traits", np.array(probes_used)),
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
            "trace": ("systems", traces),
            "probe_node": (("systems", "probes", "nodes"), stacked([m.nodes for m in measures])),
            "probe_weight": (("systems", "probes", "nodes"), stacked([m.weights for m in measures])),
            "n_probes": ("systems", np.array([m.nodes.shape[0] for m in measures])),
            "covariate": (("samples", "covariate_columns"), cohort.covariates),
            "model_variant_index": ("model_variants", operator.source.variants),
            "n_nodes": ("systems", np.array([m.nodes.shape[1] for m in measures])),
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
