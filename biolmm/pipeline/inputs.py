"""From files to a store, a cohort and chosen variants, checked before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks
from biolmm.cohort import Cohort, align_cohort
from biolmm.errors import (
    InputFileError,
    OutputError,
    ParameterError,
    SampleMismatchError,
    VariantMismatchError,
    named,
)
from biolmm.files.lists import read_id_list, read_variant_list
from biolmm.files.tables import read_table
from biolmm.pipeline.config import AnalysisConfig, Inputs
from biolmm.reml.fit import FitConfig
from biolmm.reml.model import MODEL_FOLDER, NullModel, open_model
from biolmm.reml.spectrum import SpectrumConfig
from biolmm.results.record import RunRecord
from biolmm.store.convert import convert, read_bed_input
from biolmm.store.read import GenotypeStore

log = logging.getLogger(__name__)

STORE_NAME = "genotypes.zarr"


def bed_files(paths: tuple[Path, ...]) -> list[Path] | None:
    """Return the `.bed` files that are meant, or None when one store is given.

    A PLINK prefix stands for its `.bed`.

    Raises
    ------
    ParameterError
        When no path is given, or stores and PLINK files are mixed.
    InputFileError
        When a path does not exist.
    """
    if not paths:
        raise ParameterError("no genotypes were given: pass --genotypes with a store or a .bed file.")
    found = []
    for path in paths:
        bed = path if path.suffix == ".bed" else path.with_name(path.name + ".bed")
        if path.is_dir() or path.suffix == ".zarr":
            if len(paths) > 1:
                raise ParameterError(
                    f"'{path}' is not a .bed file: give one store, or one or several .bed files, not both."
                )
            return None
        if not bed.exists():
            if path.exists():
                raise InputFileError(
                    f"'{path}' is not a PLINK .bed file or a store: its name must end in .bed or .zarr."
                )
            raise InputFileError(f"'{path}' does not exist: give a store (NAME.zarr) or a PLINK file (NAME.bed).")
        found.append(bed)
    return found


@dataclass(frozen=True)
class Labels:
    """Who and what the genotypes are, read without reading any genotype.

    Attributes
    ----------
    sample_id, variant_id
        In the order of the store that there is, or that the files will be converted to.
    n_contigs
        Number of contigs.
    """

    sample_id: NDArray[np.str_]
    variant_id: NDArray[Any]
    n_contigs: int


def read_labels(inputs: Inputs) -> Labels:
    """Return the samples and variants of the genotypes."""
    beds = bed_files(inputs.genotypes)
    if beds is None:
        store = GenotypeStore.open(inputs.genotypes[0])
        return Labels(store.sample_id, store.variant_id, len(store.contig_id))
    given = read_bed_input(beds)
    ids = np.array(given.samples.sample_id.tolist(), dtype=np.str_)
    return Labels(ids, given.variants.variant_id, len(given.variants.contig_id))


def open_genotypes(inputs: Inputs, out: Path, *, overwrite: bool = False) -> tuple[GenotypeStore, bool]:
    """Open the store, or convert the PLINK files to `out/genotypes.zarr`; return it and whether it was converted.

    With `overwrite`, a store there that was made of other files is replaced.
    """
    beds = bed_files(inputs.genotypes)
    if beds is None:
        return GenotypeStore.open(inputs.genotypes[0]), False
    log.info("convert: %s", ", ".join(str(bed) for bed in beds))
    target = out / STORE_NAME
    try:
        return convert(beds, target, map_tasks=map_tasks), True
    except OutputError:
        if not (overwrite and target.exists()):
            raise
        return convert(beds, target, overwrite=True, map_tasks=map_tasks), True


def read_cohort(config: AnalysisConfig, sample_id: Sequence[str] | NDArray[np.str_]) -> Cohort:
    """Read the tables and lists and align them by sample id.

    Raises
    ------
    UserError
        When they cannot be read or do not fit, or when more components are asked for than samples can have.
    """
    inputs = config.inputs
    if inputs.traits is None:
        raise ParameterError("no traits were given: pass --traits with a table of traits.")
    traits = read_table(inputs.traits, missing_value=inputs.missing_value)
    covariates = None
    if inputs.covariates is not None:
        covariates = read_table(inputs.covariates, missing_value=inputs.missing_value, default_name="COVAR")
    chosen = replace(
        config.cohort,
        keep=read_id_list(inputs.keep) if inputs.keep else config.cohort.keep,
        remove=read_id_list(inputs.remove) if inputs.remove else config.cohort.remove,
    )
    cohort = align_cohort(sample_id, traits, covariates, chosen)
    spare = cohort.n_samples - 1 - len(cohort.covariate_names)
    if config.n_pcs >= spare:
        raise ParameterError(
            f"{config.n_pcs} principal components were asked for, but {cohort.n_samples:,} samples with "
            f"{len(cohort.covariate_names)} covariates allow at most {max(spare - 1, 0):,}: lower --pcs."
        )
    return cohort


def choose_variants(
    inputs: Inputs, variant_id: NDArray[Any], record: RunRecord
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the store indices of the variants to scan and of those of the model.

    `--exclude` holds for both, `--extract` for the scan, `--model-extract` for the model.

    Raises
    ------
    VariantMismatchError
        When a list matches no variant, or leaves none.
    """
    keep = np.ones(len(variant_id), dtype=bool)
    if inputs.exclude:
        keep &= ~_listed(variant_id, inputs.exclude, record, "exclude")
    scanned, model = keep.copy(), keep
    if inputs.extract:
        scanned &= _listed(variant_id, inputs.extract, record, "extract")
    if inputs.model_extract:
        model = model & _listed(variant_id, inputs.model_extract, record, "model_extract")
    for what, chosen in (("scan", scanned), ("model", model)):
        if not chosen.any():
            raise VariantMismatchError(
                f"No variant is left for the {what}: check --extract, --exclude, --model-extract."
            )
    dropped = variant_id[~scanned]
    record.add_dropped("variants", "not scanned: --extract or --exclude", dropped[:10].tolist(), n=len(dropped))
    not_in_model = int(np.count_nonzero(~model))
    record.add_dropped(
        "variants",
        "not in the model: --model-extract or --exclude",
        variant_id[~model][:10].tolist(),
        n=not_in_model,
    )
    return np.flatnonzero(scanned), np.flatnonzero(model)


def _listed(variant_id: NDArray[Any], path: Path, record: RunRecord, option: str) -> NDArray[np.bool_]:
    wanted = read_variant_list(path)
    ids = np.array(wanted, dtype=variant_id.dtype)
    found = np.isin(variant_id, ids)
    if not found.any():
        raise VariantMismatchError(
            f"None of the {len(wanted):,} variants in '{path}' is in the genotypes: it lists {named(wanted, 3)}, "
            f"the genotypes have {named(variant_id[:3].tolist(), 3)}. Check the spelling of the ids."
        )
    absent = ids[~np.isin(ids, variant_id)]
    record.add_dropped("listed variants", f"--{option.replace('_', '-')}: not in the genotypes", absent.tolist())
    return np.asarray(found)


def open_fitted(config: AnalysisConfig, folder: Path, loco: bool | None = None) -> tuple[AnalysisConfig, NullModel]:
    """Open a fitted model to scan with, and take over the settings that it was fitted with.

    Parameters
    ----------
    config
        What is scanned, and where to.
    folder
        The model's.
    loco
        False uses the predictor that leaves nothing out for every contig; None does as the model was fitted.

    Raises
    ------
    ParameterError
        When the model has no predictors, or none that leave contigs out where they are asked for.
    """
    model = open_model(folder)
    if model.loco is None:
        raise ParameterError(f"the model in '{folder}' has no predictors: run `biolmm fit` to its end.")
    if loco and not model.leaves_out:
        raise ParameterError(
            f"the model in '{folder}' was fitted with --no-loco, so no predictor leaves a contig out: scan with --no-loco, "
            "or fit it with --loco."
        )
    if loco is False:
        model = model.without_loco()
    settings = {**model.settings, "loco": model.leaves_out}
    fit = FitConfig(**{**settings, "spectrum": SpectrumConfig(**settings["spectrum"])})
    return replace(config, fit=fit), model


def refuse_inside(out: Path, model_folder: Path) -> None:
    """Refuse results in the folder of the model that they need.

    Raises
    ------
    OutputError
        When the folders are the same.
    """
    used = model_folder.resolve()
    if out.resolve() == (used.parent if used.name == MODEL_FOLDER else used):
        raise OutputError(f"'{out}' holds the model that is used: choose another --out.")


def match_samples(sample_id: Sequence[str], cohort: Cohort, source: Path) -> NDArray[np.int64]:
    """Return where each of the cohort's samples is in another store.

    Raises
    ------
    SampleMismatchError
        When some are not there.
    """
    place = {name: i for i, name in enumerate(sample_id)}
    absent = [name for name in cohort.sample_id.tolist() if name not in place]
    if absent:
        raise SampleMismatchError(
            f"{len(absent):,} of {cohort.n_samples:,} samples of the model are not in '{source}': {named(absent)}. "
            "Scan genotypes that hold every sample of the model, or fit again with --keep."
        )
    return np.array([place[name] for name in cohort.sample_id.tolist()], dtype=np.int64)
