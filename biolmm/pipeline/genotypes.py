"""Genotypes of an analysis: a store, files as they are, or files converted to a store first."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks, n_threads
from biolmm.errors import OutputError, ParameterError, SampleMismatchError, named
from biolmm.memory import StagePlan
from biolmm.pipeline.config import Inputs
from biolmm.store.collection import Collection
from biolmm.store.convert import convert_collection, plan_convert
from biolmm.store.data import GenotypeData
from biolmm.store.earlier import as_of
from biolmm.store.read import GenotypeStore, is_store
from biolmm.store.vcz import is_vcz

log = logging.getLogger(__name__)

STORE_NAME = "genotypes.zarr"


def open_data(paths: Sequence[Path], inputs: Inputs) -> GenotypeData:
    """Open a store, or genotype files as they are.

    Raises
    ------
    ParameterError
        When no path is given, or a store among others.
    UserError
        When something cannot be read or does not fit together.
    """
    if not paths:
        raise ParameterError("no genotypes were given: pass --genotypes with a store or genotype files.")
    stores = [path for path in paths if is_store(path) or (path.suffix == ".zarr" and not is_vcz(path))]
    if stores and len(paths) > 1:
        raise ParameterError(f"'{stores[0]}' is a store: give one store, or genotype files, not both.")
    if stores:
        return GenotypeStore.open(stores[0])
    # It may belong to the other genotypes of the analysis.
    sample_file = inputs.sample_file if any(_is_bgen(path) for path in paths) else None
    return Collection.open(paths, sample_file=sample_file, encoding=inputs.encoding, samples=inputs.samples)


def _is_bgen(path: Path) -> bool:
    return path.suffix.lower() == ".bgen"


@dataclass(frozen=True)
class AnalysisGenotypes:
    """What is scanned and what the model is made of, opened, nothing converted.

    Attributes
    ----------
    scan, model
        The same object where they are the same.
    """

    scan: GenotypeData
    model: GenotypeData

    @classmethod
    def open(cls, inputs: Inputs) -> AnalysisGenotypes:
        """Open both.

        Raises
        ------
        ParameterError
            When there is a `.sample` file that belongs to nothing.
        """
        every = (*inputs.genotypes, *inputs.model_genotypes)
        if inputs.sample_file is not None and not any(_is_bgen(path) for path in every):
            raise ParameterError(
                f"a .sample file was given, {inputs.sample_file}, but no .bgen file that it could belong to."
            )
        scan = open_data(inputs.genotypes, inputs)
        model = open_data(inputs.model_genotypes, inputs) if inputs.model_genotypes else scan
        return cls(scan, model if inputs.model_as_of is None else as_of(model, inputs.model_as_of))

    @property
    def needs_conversion(self) -> bool:
        """Whether the model's genotypes are not a store yet: many passes over them need one."""
        return isinstance(self.model, Collection)

    def converted(self, out: Path, *, overwrite: bool = False) -> AnalysisGenotypes:
        """Convert the model's files to `out/genotypes.zarr`, or find that they are; open both again.

        With `overwrite`, a store there that was made of other files is replaced.
        """
        if not isinstance(self.model, Collection):
            return self
        target = out / STORE_NAME
        log.info("convert: %s", named(self.model.files))
        try:
            store = convert_collection(self.model, target, map_tasks=map_tasks)
        except OutputError:
            if not (overwrite and target.exists()):
                raise
            store = convert_collection(self.model, target, overwrite=True, map_tasks=map_tasks)
        return AnalysisGenotypes(store if self.scan is self.model else self.scan, store)

    def plan(self) -> list[StagePlan]:
        """Return the plan of the conversion where one is needed."""
        return [plan_convert(self.model, n_workers=n_threads())] if isinstance(self.model, Collection) else []

    def shared_samples(self) -> NDArray[np.bool_]:
        """Say which of the model's samples are in the genotypes that are scanned.

        Raises
        ------
        SampleMismatchError
            When none is.
        """
        if self.scan is self.model:
            return np.ones(self.model.n_samples, dtype=bool)
        shared = np.isin(self.model.sample_id, self.scan.sample_id)
        if not shared.any():
            raise SampleMismatchError(
                f"None of the {self.model.n_samples:,} samples of '{self.model.path}' is in '{self.scan.path}' "
                f"({self.scan.n_samples:,} samples): '{self.model.sample_id[0]}' there, '{self.scan.sample_id[0]}' here. "
                "The sample ids (IID) must be spelled alike in both."
            )
        return shared


def cohort_sex(
    data: GenotypeData, index: NDArray[np.int64], other: GenotypeData, ids: NDArray[np.str_]
) -> NDArray[np.int8]:
    """Return the sex of the cohort's samples, (N,): as the genotypes say, else as other genotypes of them do."""
    sex = data.sex[index].copy()
    if other is data or sex.all():
        return sex
    place = {name: i for i, name in enumerate(other.sample_id.tolist())}
    for row in np.flatnonzero(sex == 0):
        if ids[row] in place:
            sex[row] = other.sex[place[ids[row]]]
    return sex
