"""The fitted null model: an xarray Dataset with a face, saved as Zarr and opened again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from biolmm.cohort import Cohort, MaskClass
from biolmm.errors import DamagedStoreError, SampleMismatchError
from biolmm.linalg.krylov import Eigenpairs
from biolmm.linalg.operators import Restriction
from biolmm.places import place
from biolmm.reml.density import Density
from biolmm.reml.likelihood import VarianceComponents
from biolmm.reml.spectrum import Spectrum
from biolmm.schema import H2_COLUMNS
from biolmm.store.arrays import open_dataset, save_dataset
from biolmm.store.data import GenotypeData
from biolmm.store.earlier import as_of, variants_at
from biolmm.store.read import GenotypeStore

NULL_NAME, LOCO_NAME = "null.zarr", "loco.zarr"
MODEL_FOLDER = "model"
"""Where a results folder keeps its model."""
MODEL_FORMAT = 2


@dataclass(frozen=True)
class NullModel:
    """A null model: variance components, spectra and predictors of every trait.

    Attributes
    ----------
    dataset
        Dimensions samples, traits, systems (sets of observed samples), components, probes, steps. Variables:
        `y`, `system_of_trait`, `observed`, `basis`, `eigenvalue`, `eigenvector`, `eigen_residual`, `trace`,
        `probe_alpha`, `probe_beta`, `probe_norm`, `probe_steps`, `probe_moment` (see `Density`), `h2`, `h2_se`,
        `h2_mc_se`, `sigma2_g`, `sigma2_e`, `lrt`, `lrt_p`, `log_likelihood`, `n_steps`, `n_probes_used`, `solution`.
        Attributes: settings, counts, the store's path and fingerprint.
    loco
        Dimensions contigs, traits, samples: `predictor` V₋c⁻¹ P y in units of one over the trait, with
        `total_variance`, `relative_residual`, `iterations`, `converged`; the last contig is `*`, which leaves
        nothing out. None before the predictors are solved.
    folder
        Where it was opened from; None for a model that was fitted in this process.
    """

    dataset: xr.Dataset
    loco: xr.Dataset | None = None
    folder: Path | None = None

    @property
    def h2(self) -> pd.DataFrame:
        """Heritability of every trait: the columns of `h2.tsv`, a row a trait."""
        columns = {name: self.dataset[name].values for name in H2_COLUMNS if name not in ("trait", "n")}
        table = pd.DataFrame({"trait": self.trait_names, "n": self.n_observed, **columns})
        return table[list(H2_COLUMNS)]

    @property
    def pcs(self) -> pd.DataFrame:
        """Principal components of the cohort: eigenvectors of its relatedness matrix, indexed by sample."""
        vectors = self.spectrum(0).pairs.vectors
        names = [f"PC{i + 1}" for i in range(vectors.shape[1])]
        return pd.DataFrame(vectors, columns=names, index=pd.Index(self.sample_id, name="sample_id"))

    @property
    def settings(self) -> dict[str, Any]:
        """What the model was fitted with."""
        return dict(json.loads(self.dataset.attrs["settings"]))

    @property
    def sample_id(self) -> list[str]:
        """Samples of the cohort, in the order of every (samples, …) array."""
        return [str(name) for name in self.dataset["sample_id"].values]

    @property
    def trait_names(self) -> list[str]:
        """Traits, in the order of every (traits, …) array."""
        return [str(name) for name in self.dataset["trait"].values]

    @property
    def n_observed(self) -> NDArray[np.int64]:
        """(T,) samples with each trait observed."""
        counts = self.dataset["observed"].values.sum(axis=1)
        return np.asarray(counts[self.system_of_trait], dtype=np.int64)

    @property
    def system_of_trait(self) -> NDArray[np.int64]:
        """(T,) which set of observed samples each trait belongs to; system 0 is the whole cohort."""
        return np.asarray(self.dataset["system_of_trait"].values, dtype=np.int64)

    def projected_trait(self, trait: int) -> NDArray[np.float64]:
        """Return `P y` of one trait, (N,), zero where it is not observed."""
        y = np.nan_to_num(self.dataset["y"].values[trait])[:, None]
        return self.restriction(int(self.system_of_trait[trait])).project(y)[:, 0]

    @property
    def n_systems(self) -> int:
        """Sets of observed samples, the whole cohort included."""
        return int(self.dataset.sizes["systems"])

    def restriction(self, system: int) -> Restriction:
        """Return one system's samples and covariates."""
        basis = self.dataset["basis"].values[system]
        count = int(self.dataset["n_covariates"].values[system])
        return Restriction(self.dataset["observed"].values[system].astype(bool), basis[:, :count])

    def spectrum(self, system: int) -> Spectrum:
        """Return one system's spectrum as it was fitted."""
        data = self.dataset
        count = int(data["n_pairs"].values[system])
        pairs = Eigenpairs(
            data["eigenvalue"].values[system, :count],
            np.ascontiguousarray(data["eigenvector"].values[system][:, :count]),
            data["eigen_residual"].values[system, :count],
        )
        restriction, density = self.restriction(system), self.density(system)
        whole = self.density(0) if system else None
        trace = float(data["trace"].values[system])
        return Spectrum(restriction, pairs, density.measure(restriction, pairs, trace, whole), density)

    def density(self, system: int) -> Density:
        """Return what the probes of one system saw; empty with the exact solver."""
        data = self.dataset
        probes, moments = int(data["n_probes"].values[system]), int(data["n_moments"].values[system])
        steps = data["probe_steps"].values[system, :probes]
        most = int(steps.max(initial=0))
        return Density(
            data["probe_alpha"].values[system, :probes, :most],
            data["probe_beta"].values[system, :probes, :most],
            data["probe_norm"].values[system, :probes],
            steps,
            data["probe_moment"].values[system, :moments],
        )

    def cohort(self) -> Cohort:
        """Return the cohort that the model was fitted on."""
        data = self.dataset
        used = sorted({int(s) for s in self.system_of_trait})
        restrictions = [self.restriction(system) for system in used]
        return Cohort(
            sample_index=data["sample_index"].values.astype(np.int64),
            sample_id=np.array(self.sample_id, dtype=np.str_),
            trait_names=tuple(self.trait_names),
            y=data["y"].values.T,
            classes=tuple(MaskClass(r.observed, r.basis) for r in restrictions),
            class_of_trait=np.array([used.index(int(s)) for s in self.system_of_trait], dtype=np.int64),
            covariate_names=tuple(json.loads(data.attrs["covariates"])),
            covariates=data["covariate"].values,
            counts=json.loads(data.attrs["counts"]),
        )

    def components(self, trait: int) -> VarianceComponents:
        """Return one trait's variance components."""
        names = VarianceComponents.__dataclass_fields__
        return VarianceComponents(**{name: float(self.dataset[name].values[trait]) for name in names})

    @property
    def leaves_out(self) -> bool:
        """Whether the predictors leave contigs out."""
        return self.loco is not None and bool(self.loco.attrs["loco"])

    def without_loco(self) -> NullModel:
        """Return the model with the one predictor that leaves nothing out."""
        if self.loco is None:
            return self
        return replace(self, loco=self.loco.isel(contigs=slice(-1, None)).assign_attrs(loco=0))

    def save(self, folder: Path) -> None:
        """Write the model below `folder` as checksummed Zarr."""
        save_dataset(self.dataset, folder / NULL_NAME)
        if self.loco is not None:
            save_dataset(self.loco, folder / LOCO_NAME)


def open_model(folder: Path | str) -> NullModel:
    """Open a model that `NullModel.save`, `biolmm fit` or `biolmm gwas` wrote.

    Raises
    ------
    DamagedStoreError
        When there is no model, or it is incomplete, damaged, or of another version.
    """
    root = place(folder)
    for candidate in (root, root / MODEL_FOLDER):
        if (candidate / NULL_NAME).is_dir():
            null = open_dataset(candidate / NULL_NAME).load()
            if null.attrs.get("biolmm_model_format") != MODEL_FORMAT:
                raise DamagedStoreError(
                    f"'{candidate}' holds a model of format {null.attrs.get('biolmm_model_format')!r} but this version "
                    f"reads {MODEL_FORMAT}: fit it again with `biolmm fit`."
                )
            loco = open_dataset(candidate / LOCO_NAME) if (candidate / LOCO_NAME).is_dir() else None
            return NullModel(null, loco, candidate)
    raise DamagedStoreError(f"'{folder}' holds no fitted model ({NULL_NAME} is not there): run `biolmm fit` first.")


def open_model_store(model: NullModel, *candidates: GenotypeData) -> GenotypeData:
    """Open the store that a model was fitted on, where it was, beside the model, or among genotypes that are open.

    Variants that were appended to it since are not seen.

    Raises
    ------
    SampleMismatchError
        When none of these is that store any more.
    """
    wanted = model.dataset.attrs["store_fingerprint"]
    recorded = place(model.dataset.attrs["store"])
    beside = [] if model.folder is None else [model.folder.parent / recorded.name]
    stores = (GenotypeStore.open(path) for path in (recorded, *beside) if path.is_dir())
    for data in (*candidates, *stores):
        if variants_at(data, wanted) is not None:
            return as_of(data, wanted)
    what = "it has changed since" if recorded.is_dir() else "it is not there any more"
    raise SampleMismatchError(
        f"'{recorded}' is not the store that the model was fitted on: {what}. Put it back, or fit the model again."
    )


def stacked(arrays: list[NDArray[Any]], fill: float = 0.0) -> NDArray[Any]:
    """Stack arrays of different shapes, padded with `fill`."""
    shape = np.max([array.shape for array in arrays], axis=0)
    out = np.full((len(arrays), *shape), fill, dtype=arrays[0].dtype)
    for target, array in zip(out, arrays, strict=True):
        target[tuple(slice(size) for size in array.shape)] = array
    return out
