"""From a formula and tables to covariance terms: what every name means, settled before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.cohort.config import close_match
from biolmm.components.formula import Effect, Formula
from biolmm.components.matrices import UserMatrix
from biolmm.covariance import variant_sets
from biolmm.covariance.epistasis import epistasis_kernel
from biolmm.covariance.features import FeatureKernel
from biolmm.covariance.genetic import Code, GenotypePanel
from biolmm.covariance.groups import GroupKernel
from biolmm.covariance.interaction import InteractionKernel, category_columns, standardised_environment
from biolmm.covariance.noise import RESIDUAL, category_noise, common_noise, covariate_noise
from biolmm.covariance.pedigree import Pedigree, PedigreeKernel
from biolmm.covariance.spatial import SHAPES, Shape, SpatialKernel, globe_points, range_grid
from biolmm.covariance.terms import Kernel, Term
from biolmm.covariance.variant_sets import VariantSets
from biolmm.errors import ParameterError, named
from biolmm.files.genotypes import NO_FAMILY

BUILT_IN = ("genetic", "dominance", "epistasis", "pedigree", "spatial", RESIDUAL)
GENOTYPE_EFFECTS = ("genetic", "dominance", "epistasis")
FAMILY = "family"
PARTITIONS = ("annotations", "maf", "ld", "contigs")
MAX_LEVELS = 50

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Sources:
    """What names in a formula may refer to.

    Attributes
    ----------
    environment
        A table by sample: environments, coordinates, families, batches.
    features
        Tables by sample whose columns are features, by name.
    matrices
        Users' own matrices, by name.
    annotations
        A table by variant.
    regions
        UCSC BED files, by name: annotations too.
    pedigree
        Parents.
    family
        Family ids of the genotypes, by sample: what `family` means where the environment has no such column.
    categorical
        Columns of numbers that name categories.
    """

    environment: pd.DataFrame | None = None
    features: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    matrices: Mapping[str, UserMatrix] = field(default_factory=dict)
    annotations: pd.DataFrame | None = None
    regions: Mapping[str, Path] = field(default_factory=dict)
    pedigree: Pedigree | None = None
    family: Mapping[str, str] = field(default_factory=dict)
    categorical: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Columns of the environment."""
        return [] if self.environment is None else [str(name) for name in self.environment.columns]

    def is_categorical(self, column: str) -> bool:
        """Whether a column of the environment names categories, as text and truth values do."""
        if self.environment is None:
            return False
        values = self.environment[column]
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        return column in self.categorical or not is_number


def check_names(formula: Formula, sources: Sources) -> None:
    """Refuse names that nothing given explains.

    Raises
    ------
    ParameterError
        Naming them, what there is, and the option that would bring what is missing.
    """
    reserved = [name for name in (*sources.features, *sources.matrices) if name in BUILT_IN]
    if reserved:
        raise ParameterError(f"'{reserved[0]}' is a name of the formula's own: call the table something else.")
    known = [*BUILT_IN, FAMILY, *sources.features, *sources.matrices, *sources.columns]
    for effect in formula.effects:
        if effect.name not in known:
            raise ParameterError(
                f"the formula names '{effect.name}'{close_match(effect.name, known)}, but there is {named(known, 12)}. "
                f"Give a table with --features {effect.name}=FILE, a matrix with --matrix {effect.name}=FILE, or a column of "
                "--environment."
            )
        if effect.by is not None and effect.by not in sources.columns:
            raise ParameterError(
                f"'{effect}' needs the column '{effect.by}' of --environment{close_match(effect.by, sources.columns)}: "
                + (f"it has {named(sources.columns)}." if sources.columns else "no such table was given.")
            )
        if effect.name == "pedigree" and sources.pedigree is None:
            raise ParameterError(
                "'pedigree' needs parents: give --pedigree FILE, a .fam file or a table of IID, father, mother."
            )
        if effect.name == RESIDUAL and effect.by is None:
            raise ParameterError(
                f"'{effect}': write residual:COLUMN for noise that differs, nothing for the same noise."
            )
        if effect.options and effect.name != "spatial":
            raise ParameterError(f"'{effect}': only spatial terms take options.")
        if effect.items and effect.name not in ("spatial", "genetic", "dominance"):
            raise ParameterError(f"'{effect}' takes nothing between parentheses.")
        if effect.name == "spatial":
            _check_spatial(effect, sources)


def _check_spatial(effect: Effect, sources: Sources) -> None:
    allowed = {"kernel", "range", "metric"}
    unknown = sorted(set(effect.options) - allowed)
    if unknown:
        raise ParameterError(f"'{effect}' has no option '{unknown[0]}': there is {named(sorted(allowed))}.")
    if len(effect.items) != 2:
        raise ParameterError(f"'{effect}' names {len(effect.items)} columns of coordinates: write spatial(lat, lon).")
    absent = [name for name in effect.items if name not in sources.columns]
    if absent:
        raise ParameterError(
            f"'{effect}' needs the columns {named(absent)} of --environment: it has {named(sources.columns)}."
        )
    if effect.options.get("kernel", SHAPES[0]) not in SHAPES:
        raise ParameterError(f"'{effect}' has no kernel '{effect.options['kernel']}': use one of {named(SHAPES)}.")
    if effect.options.get("metric", "earth") not in ("earth", "euclidean"):
        raise ParameterError(f"'{effect}' has no metric '{effect.options['metric']}': use earth or euclidean.")
    try:
        known = 0 < float(effect.options.get("range", 1)) < np.inf
    except ValueError:
        known = False
    if not known:
        raise ParameterError(f"'{effect}' has no range '{effect.options['range']}': give a positive number, or none.")


def needed_columns(formula: Formula, sources: Sources) -> list[str]:
    """Return the columns of the environment that the formula uses."""
    used: list[str] = []
    for effect in formula.effects:
        used += effect.items if effect.name == "spatial" else []
        used += [effect.by] if effect.by else []
        used += [effect.name] if effect.name in sources.columns and effect.name not in BUILT_IN else []
    return list(dict.fromkeys(used))


def interacting_columns(formula: Formula) -> list[str]:
    """Return the environments that effects interact with: their own mean effect belongs among the covariates."""
    return list(dict.fromkeys(e.by for e in formula.effects if e.by is not None and e.name != RESIDUAL))


def complete_samples(formula: Formula, sources: Sources, sample_id: list[str]) -> list[str]:
    """Return the samples that every table and matrix of the formula has, in their order."""
    kept = set(sample_id)
    columns = needed_columns(formula, sources)
    if sources.environment is not None and columns:
        complete = sources.environment[columns].notna().all(axis=1)
        kept &= set(sources.environment.index[complete])
    for effect in formula.effects:
        if effect.name in sources.features:
            kept &= set(sources.features[effect.name].index)
        elif effect.name in sources.matrices:
            kept &= set(sources.matrices[effect.name].sample_id)
    return [name for name in sample_id if name in kept]


@dataclass(frozen=True, eq=False)
class Candidate:
    """Terms of a model, noise last, and the spatial ranges that they were made with.

    Attributes
    ----------
    terms
        The terms.
    ranges
        Ranges that were not given but are to be chosen by likelihood, by term.
    """

    terms: tuple[Term, ...]
    ranges: dict[str, float]


def build_terms(
    formula: Formula,
    sources: Sources,
    sample_id: list[str],
    panel: GenotypePanel | None,
    memory_bytes: int = 2**62,
) -> list[Candidate]:
    """Make the terms of a model.

    Parameters
    ----------
    formula, sources
        What is asked for, and what its names mean.
    sample_id
        (N,) the samples, all of which every table has, see `complete_samples`.
    panel
        Genotypes of the samples; None where the formula needs none.
    memory_bytes
        What a dense matrix may take.

    Returns
    -------
    list of Candidate
        One, or one for each range to be tried where a spatial term gives none.

    Raises
    ------
    ParameterError
        When a name is unknown, or a term is zero.
    UserError
        When a table does not fit.
    """
    check_names(formula, sources)
    _say_kinds(formula, sources)
    builder = _Builder(sources, sample_id, panel, memory_bytes)
    fixed: list[Term] = []
    noise: list[Term] = [common_noise(len(sample_id))]
    profiled: list[tuple[Effect, NDArray[np.float64]]] = []
    for effect in formula.effects:
        if effect.name == RESIDUAL:
            column = str(effect.by)
            if sources.is_categorical(column):
                noise = [*category_noise(column, *builder.categories(column)), *noise[1:]]
            else:
                noise.append(covariate_noise(column, builder.numbers(column)))
        elif effect.name == "spatial" and "range" not in effect.options:
            profiled.append((effect, range_grid(builder.points(effect))))
        else:
            fixed += builder.terms(effect)
    if len(profiled) > 1:
        raise ParameterError(
            "two spatial terms have no range: give all but one, for example spatial(lat, lon, range=50)."
        )
    if not profiled:
        return [Candidate((*fixed, *noise), {})]
    effect, grid = profiled[0]
    return [
        Candidate((*fixed, *builder.spatial(effect, float(value)), *noise), {str(effect): float(value)})
        for value in grid
    ]


def _say_kinds(formula: Formula, sources: Sources) -> None:
    """Log which columns of the environment are taken as categories, and which as numbers."""
    columns = list(dict.fromkeys(effect.by for effect in formula.effects if effect.by is not None))
    for kind, wanted in (("categories", True), ("numbers", False)):
        chosen = [name for name in columns if sources.is_categorical(name) == wanted]
        if chosen:
            log.info("environment: %s as %s", named(chosen, 12), kind)


class _Builder:
    """Makes the terms of one effect after the other."""

    def __init__(self, sources: Sources, sample_id: list[str], panel: GenotypePanel | None, memory_bytes: int) -> None:
        self.sources, self.sample_id, self.panel, self.memory_bytes = sources, sample_id, panel, memory_bytes

    def terms(self, effect: Effect) -> list[Term]:
        """Make an effect's terms: one, or one for each set of variants."""
        name = effect.name
        if name in ("genetic", "dominance"):
            return self._genetic(effect)
        if name == "spatial":
            return self.spatial(effect, float(effect.options["range"]))
        makers: dict[str, Callable[[], Kernel]] = {
            "epistasis": lambda: epistasis_kernel(self._panel(effect).kernel(), self.memory_bytes),
            "pedigree": lambda: PedigreeKernel.among(self._pedigree(), self.sample_id),
        }
        if name in makers:
            kernel = makers[name]()
        elif name in self.sources.features:
            table = self.sources.features[name].loc[self.sample_id]
            kernel = FeatureKernel.standardised(_numbers(table, name), f"the features '{name}'")
        elif name in self.sources.matrices:
            kernel = self.sources.matrices[name].kernel(self.sample_id)
        else:
            kernel = GroupKernel(self._groups(name))
        return [Term.normalised(str(effect), self._with_environment(kernel, effect))]

    def spatial(self, effect: Effect, range_: float) -> list[Term]:
        """Make a spatial term of a given range."""
        shape: Shape = next((s for s in SHAPES if s == effect.options.get("kernel", "matern32")), "matern32")
        kernel = SpatialKernel(self.points(effect), range_, shape)
        return [Term.normalised(str(effect), self._with_environment(kernel, effect))]

    def points(self, effect: Effect) -> NDArray[np.float64]:
        """Return the coordinates of a spatial term; on the globe where the columns are called so."""
        first, second = (self.numbers(column) for column in effect.items)
        a, b = (column.lower() for column in effect.items)
        geographic = a.startswith("lat") and b.startswith(("lon", "lng"))
        if effect.options.get("metric", "earth" if geographic else "euclidean") == "earth":
            return globe_points(first, second)
        return np.column_stack([first, second])

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Return a column of the environment as numbers."""
        values = self._column(column)
        if not pd.api.types.is_numeric_dtype(values):
            raise ParameterError(f"the column '{column}' of --environment holds text where numbers are needed.")
        return values.to_numpy(np.float64)

    def categories(self, column: str) -> tuple[NDArray[np.int64], list[str]]:
        """Return the category of every sample, and the names of the categories."""
        codes, levels = pd.factorize(self._column(column), sort=True)
        if len(levels) > MAX_LEVELS:
            raise ParameterError(
                f"the column '{column}' of --environment has {len(levels):,} categories; at most {MAX_LEVELS} are supported here."
            )
        return codes.astype(np.int64), [f"{level:g}" if isinstance(level, float) else str(level) for level in levels]

    def _column(self, column: str) -> pd.Series:
        table = self.sources.environment
        if table is None or column not in table.columns:
            raise ParameterError(f"there is no column '{column}': give it with --environment.")
        return table.loc[self.sample_id, column]

    def _groups(self, column: str) -> NDArray[np.int64]:
        """Return the group of every sample."""
        if column in self.sources.columns:
            values = self._column(column)
        else:
            families = [self.sources.family.get(name, "0") for name in self.sample_id]
            # Who has no family is alone, even where an id is spelled as that of a family.
            values = pd.Series(
                [
                    f"s/{name}" if family in NO_FAMILY else f"f/{family}"
                    for name, family in zip(self.sample_id, families, strict=True)
                ]
            )
        codes, levels = pd.factorize(values)
        if len(levels) == len(codes):
            raise ParameterError(f"'{column}' has no two samples in one group: its effect is noise. Leave it out.")
        if len(levels) == 1:
            raise ParameterError(f"'{column}' has everybody in one group: its effect is the intercept. Leave it out.")
        return codes.astype(np.int64)

    def _with_environment(self, kernel: Kernel, effect: Effect) -> Kernel:
        if effect.by is None:
            return kernel
        if self.sources.is_categorical(effect.by):
            return InteractionKernel(kernel, category_columns(self.categories(effect.by)[0]))
        return InteractionKernel(kernel, standardised_environment(self.numbers(effect.by)))

    def _genetic(self, effect: Effect) -> list[Term]:
        panel = self._panel(effect)
        code: Code = "dominance" if effect.name == "dominance" else "additive"
        if not effect.items:
            return [Term.normalised(str(effect), self._with_environment(panel.kernel(code=code), effect))]
        sets = self._sets(effect, panel).without_empty()
        by = f":{effect.by}" if effect.by else ""
        return [
            Term.normalised(
                f"{effect.name}[{name}]{by}",
                self._with_environment(panel.kernel(sets.weights[:, i], code), effect),
                group=str(effect),
            )
            for i, name in enumerate(sets.names)
        ]

    def _sets(self, effect: Effect, panel: GenotypePanel) -> VariantSets:
        """Return the sets of variants that an effect is partitioned by; several partitions are crossed."""
        genotypes = panel.genotypes
        data, variants = genotypes.source.store, genotypes.source.variants
        varies = genotypes.scaling.scale > 0
        frequency = genotypes.scaling.mean / 2
        found: list[VariantSets] = []
        named_sets: list[VariantSets] = []
        for item in effect.items:
            if item == "maf":
                found.append(variant_sets.maf_sets(np.minimum(frequency, 1 - frequency)))
            elif item == "ld":
                found.append(variant_sets.ld_sets(self._ld_score(data.variant_id[variants]), varies=varies))
            elif item == "contigs":
                found.append(variant_sets.contig_sets(tuple(data.contig_id), data.variant_contig[variants]))
            else:
                place = (tuple(data.contig_id), data.variant_contig[variants], data.variant_position[variants])
                named_sets += self._annotated(effect, item, data.variant_id[variants], place)
        if named_sets:
            names = tuple(name for one in named_sets for name in one.names)
            found.append(VariantSets(names, np.column_stack([one.weights for one in named_sets])).with_rest())
        sets = found[0]
        for other in found[1:]:
            sets = variant_sets.crossed(sets, other)
        return VariantSets(sets.names, sets.weights * varies[:, None])

    def _annotated(
        self,
        effect: Effect,
        item: str,
        variant_id: NDArray[np.str_],
        place: tuple[tuple[str, ...], NDArray[np.integer], NDArray[np.integer]],
    ) -> list[VariantSets]:
        """Return the annotation of a name, or all of them."""
        table = self.sources.annotations
        columns = [] if table is None else [c for c in table.columns if str(c).lower() not in variant_sets.LD_COLUMNS]
        known = [*columns, *self.sources.regions]
        wanted = known if item == "annotations" else [item]
        if item not in (*known, "annotations") or not wanted:
            raise ParameterError(
                f"'{effect}': there is no annotation '{item}'{close_match(item, known)}; there is "
                f"{named([*PARTITIONS[1:], *known], 12)}. Give a table or NAME=FILE.bed with --annotations."
            )
        found = []
        chosen = tuple(str(name) for name in wanted if name in columns)
        if table is not None and chosen:
            found.append(variant_sets.table_sets(table, chosen, variant_id))
        found += [variant_sets.bed_set(self.sources.regions[n], n, *place) for n in wanted if n in self.sources.regions]
        return found

    def _ld_score(self, variant_id: NDArray[np.str_]) -> NDArray[np.float64]:
        table = self.sources.annotations
        columns = [] if table is None else [c for c in table.columns if str(c).lower() in variant_sets.LD_COLUMNS]
        if table is None or not columns:
            raise ParameterError(
                "genetic(ld) needs LD scores: give --annotations with a table of variant ids and a column LDSCORE or L2."
            )
        return variant_sets.ld_scores(table, str(columns[0]), variant_id)

    def _panel(self, effect: Effect) -> GenotypePanel:
        if self.panel is None:
            raise ParameterError(f"'{effect}' needs genotypes.")
        return self.panel

    def _pedigree(self) -> Pedigree:
        if self.sources.pedigree is None:
            raise ParameterError("'pedigree' needs parents: give --pedigree FILE.")
        return self.sources.pedigree


def _numbers(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Return a table of features as numbers."""
    wrong = [str(column) for column in table.columns if not pd.api.types.is_numeric_dtype(table[column])]
    if wrong:
        raise ParameterError(
            f"the features '{name}' have columns of text ({named(wrong)}): every feature must be a number."
        )
    return table.to_numpy(np.float64)
