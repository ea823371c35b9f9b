"""What a release depends on, as fingerprints: two releases with the same state have the same results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biolmm.cohort import Cohort
from biolmm.errors import TraitError
from biolmm.files.ldscore_files import SCORE_ENDINGS, find_files
from biolmm.pipeline.config import AnalysisConfig
from biolmm.pipeline.genotypes import AnalysisGenotypes
from biolmm.pipeline.inputs import Tables, align_tables, read_tables
from biolmm.pipeline.matrix import GivenMatrix
from biolmm.results.record import fingerprint_file, package_version
from biolmm.stages import content_hash
from biolmm.store.data import GenotypeData
from biolmm.store.earlier import as_of, variants_at

_LISTS = ("extract", "exclude", "model_extract", "sample_file")
"""Files whose content is a setting; those that choose people show in the people."""


@dataclass(frozen=True)
class GenotypeState:
    """Genotypes: where they were, and what they are."""

    path: str
    fingerprint: str
    n_variants: int
    n_samples: int
    chunk_variants: int

    @classmethod
    def of(cls, data: GenotypeData) -> GenotypeState:
        """Describe genotypes that are open."""
        return cls(str(data.path), data.fingerprint, data.n_variants, data.n_samples, data.chunk_variants)


@dataclass(frozen=True)
class State:
    """Everything that the results of a release depend on.

    Attributes
    ----------
    version
        Of biolmm.
    command
        What is run.
    settings
        Its options but for paths, names of traits and resources; hashes of lists of variants.
    n_samples, samples
        People analysed, and a hash of their ids in order.
    covariate_names, covariates
        Columns after categories are expanded, and a hash of their values.
    scan, model
        Genotypes that are scanned, and those of the model, as they were when it was made.
    traits
        A hash of the aligned values of each trait.
    failed
        Traits that cannot be analysed, and why.
    """

    version: str
    command: str
    settings: dict[str, Any]
    n_samples: int
    samples: str
    covariate_names: tuple[str, ...]
    covariates: str
    scan: GenotypeState
    model: GenotypeState
    traits: dict[str, str]
    failed: dict[str, str]

    @property
    def key(self) -> str:
        """Hash of it all but the places of the genotypes."""
        content = asdict(self)
        for name in ("scan", "model"):
            del content[name]["path"]
        return content_hash(content)

    @property
    def base(self) -> str:
        """Hash of what every trait's model depends on."""
        content = (self.version, self.settings, self.samples, self.covariate_names, self.covariates)
        return content_hash(*content, self.model.fingerprint, self.model.chunk_variants)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> State:
        """Return the state that `asdict` and JSON wrote down."""
        places = {name: GenotypeState(**content[name]) for name in ("scan", "model")}
        return cls(**{**content, **places, "covariate_names": tuple(content["covariate_names"])})


@dataclass(frozen=True, eq=False)
class Look:
    """The inputs as they are now: open genotypes, tables, the cohort of the traits that can be analysed, and the state."""

    genotypes: AnalysisGenotypes
    tables: Tables
    cohort: Cohort
    state: State

    def with_model_of(self, earlier: GenotypeState) -> Look:
        """Return the same with the model's store as it was earlier, where it was that store and has the same chunks."""
        data = self.genotypes.model
        if variants_at(data, earlier.fingerprint) is None or data.chunk_variants != earlier.chunk_variants:
            return self
        model = GenotypeState.of(as_of(data, earlier.fingerprint))
        return replace(self, state=replace(self.state, model=model))

    def snapshot(self) -> pd.DataFrame:
        """Return the tables' columns for the people analysed, `trait:NAME` and `covariate:NAME`, by sample id."""
        ids = self.cohort.sample_id.tolist()
        traits = self.tables.traits.loc[ids, list(self.cohort.trait_names)].add_prefix("trait:")
        columns = [traits]
        if self.tables.covariates is not None:
            columns.append(self.tables.covariates.loc[ids].add_prefix("covariate:"))
        found: pd.DataFrame = pd.concat(columns, axis=1)
        found.attrs = {}
        return found


def look(config: AnalysisConfig, command: str) -> Look:
    """Open genotypes and tables, and find the traits that can be analysed.

    Raises
    ------
    UserError
        For every mistake in the inputs but those of single traits; of these when no trait is left.

    Notes
    -----
    **Cost**: the tables are read once; a trait that cannot be analysed costs a few alignments. No genotypes are read.
    """
    genotypes = AnalysisGenotypes.open(config.inputs)
    tables = read_tables(config.inputs)
    names = config.cohort.trait_names or tuple(str(name) for name in tables.traits.columns)

    def align(chosen: Sequence[str]) -> Cohort:
        cohort = replace(config.cohort, trait_names=tuple(chosen))
        return align_tables(replace(config, cohort=cohort), genotypes, tables)

    failed = _failing(names, align)
    sound = [name for name in names if name not in failed]
    cohort = align(sound or names)  # with none left it raises
    failed |= _too_few(cohort, config.n_pcs)
    sound = [name for name in names if name not in failed]
    if not sound:
        raise TraitError("; ".join(failed.values()))
    cohort = align(sound) if len(sound) < cohort.n_traits else cohort
    hashes = {name: content_hash(cohort.y[:, t].tobytes()) for t, name in enumerate(cohort.trait_names)}
    state = State(
        version=package_version("biolmm"),
        command=command,
        settings=_settings(config),
        n_samples=cohort.n_samples,
        samples=content_hash(cohort.sample_id.tolist()),
        covariate_names=cohort.covariate_names,
        covariates=content_hash(cohort.covariates.tobytes()),
        scan=GenotypeState.of(genotypes.scan),
        model=GenotypeState.of(genotypes.model),
        traits=hashes,
        failed=failed,
    )
    if tables.covariates is not None and config.cohort.covariate_names:
        tables = Tables(tables.traits, tables.covariates[list(config.cohort.covariate_names)])
    return Look(genotypes, tables, cohort, state)


def _failing(names: Sequence[str], align: Callable[[Sequence[str]], Cohort]) -> dict[str, str]:
    """Find the traits that cannot be aligned, by halves."""
    try:
        align(names)
    except TraitError as error:
        if len(names) == 1:
            return {names[0]: str(error)}
        half = len(names) // 2
        return _failing(names[:half], align) | _failing(names[half:], align)
    return {}


def _too_few(cohort: Cohort, n_pcs: int) -> dict[str, str]:
    """Find the traits that have too few people once principal components are covariates too."""
    failed = {}
    for t, name in enumerate(cohort.trait_names):
        part = cohort.classes[cohort.class_of_trait[t]]
        if part.n_observed < part.n_covariates + n_pcs + 2:
            failed[name] = (
                f"Too few samples for the covariates: '{name}' ({part.n_observed:,} observed, {part.n_covariates:,} "
                f"covariates with the intercept, {n_pcs:,} principal components)."
            )
    return failed


def _settings(config: AnalysisConfig) -> dict[str, Any]:
    """Return the options as flat plain values: `fit.alpha`, `scan.filters.min_maf`."""
    found = _flat(config.parameters())
    found = {name: value for name, value in found.items() if name not in ("cohort.trait_names", "grm")}
    for name in _LISTS:
        path = getattr(config.inputs, name)
        found[f"list.{name}"] = None if path is None else fingerprint_file(path)
    found["ld_scores"] = None if config.ld_scores is None else _ld_scores(config.ld_scores)
    found["grm"] = None if config.grm is None else GivenMatrix.open(config.grm, loco=config.fit.loco).fingerprint
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


def _ld_scores(prefixes: str) -> str:
    """Hash the contents of the files of LD scores."""
    files = [
        path
        for prefix in prefixes.split(",")
        for part, scores in find_files(prefix.strip(), SCORE_ENDINGS)
        for path in (scores, *(Path(part + ending) for ending in (".l2.M_5_50", ".l2.M")))
    ]
    return content_hash([fingerprint_file(path) if path.is_file() else None for path in files])


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in content.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def values_differ(one: pd.Series, other: pd.Series) -> int:
    """Count the places where two columns of the same people differ; missing values are alike.

    Examples
    --------
    >>> values_differ(pd.Series([1.0, None, 3.0]), pd.Series([1.0, None, 4.0]))
    1
    """
    a, b = one.to_numpy(dtype=object), other.to_numpy(dtype=object)
    missing = pd.isna(a) & pd.isna(b)
    return int(np.sum((a != b) & ~missing))
