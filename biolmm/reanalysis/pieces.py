"""The pieces that a release needs: which are there, which are computed, and with what."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from biolmm.atomic import saving
from biolmm.errors import Stopped, VariantMismatchError
from biolmm.pipeline.config import AnalysisConfig, Inputs
from biolmm.pipeline.genotypes import STORE_NAME
from biolmm.pipeline.run import run_fit, run_gwas, run_scan_only
from biolmm.pipeline.variants import scan_variants
from biolmm.reanalysis.decide import Decision
from biolmm.reanalysis.inventory import PIECE_JSON, discard, finish, is_finished
from biolmm.reanalysis.release import PIECES, Release, TraitRecord
from biolmm.reanalysis.state import Look
from biolmm.reml.model import MODEL_FOLDER, NULL_NAME
from biolmm.results.folder import OtherAnalysisError
from biolmm.results.record import RunRecord
from biolmm.stages import content_hash
from biolmm.store.arrays import open_dataset

log = logging.getLogger(__name__)

_MIXED = ("mixed", "linear")
"""Methods whose models scan further variants later and have a spectrum to reuse; the others have none."""


@dataclass(frozen=True)
class Piece:
    """Results of some traits on some variants, in a folder of their own.

    Attributes
    ----------
    name
        A hash of what they depend on.
    label
        For people.
    traits
        Whose.
    config
        What is run.
    command
        `gwas`, `fit` or `scan`.
    model
        Folder of the model that is scanned with.
    """

    name: str
    label: str
    traits: tuple[str, ...]
    config: AnalysisConfig
    command: str
    model: Path | None = None

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.config.out

    @property
    def is_finished(self) -> bool:
        """Whether it is there."""
        return is_finished(self.folder)

    def run(self, changed: Callable[[], str]) -> None:
        """Compute it, or what is left of it.

        Parameters
        ----------
        changed
            Says which inputs are not those any more that the piece is named after; empty where all are.

        Raises
        ------
        Stopped
            When some have changed: what was computed, of one or of the other, is removed.
        """
        log.info("piece %s: %s, %d traits", self.name, self.label, len(self.traits))
        if (self.folder / PIECE_JSON).exists():
            log.warning("piece %s has lost files: it is computed again", self.name)
            discard(self.folder)
        try:
            self._compute(overwrite=False)
        except OtherAnalysisError:  # by a process that was killed before it saw that they had changed
            log.warning("piece %s was begun with other inputs: it is begun again", self.name)
            self._compute(overwrite=True)
        what = changed()
        if what:
            discard(self.folder)
            raise Stopped(
                f"{what} changed while results were computed from them; the same command begins again with them"
            )
        finish(self.folder, label=self.label, traits=self.traits, model=self.model)

    def _compute(self, *, overwrite: bool) -> None:
        self._take_components()
        if self.command == "scan" and self.model is not None:
            run_scan_only(self.config, self.model, overwrite=overwrite)
        else:
            (run_fit if self.command == "fit" else run_gwas)(self.config, overwrite=overwrite)

    def _take_components(self) -> None:
        """Link the principal components of the known model, which depend on people, covariates and variants alone."""
        known = self.config.known_model
        if known is None or not self.config.n_pcs:
            return
        source, target = known / MODEL_FOLDER / "pcs.zarr", self.folder / MODEL_FOLDER / "pcs.zarr"
        marker = source.with_name("pcs.zarr.done.json")
        if source.is_dir() and marker.is_file() and not target.exists():
            link(source, target)
            link(marker, target.with_name(marker.name))


def link(source: Path, target: Path) -> None:
    """Make a file or folder appear in another place: by a hard link, or a copy of a file that can have no more.

    Files of results are never changed in place, but replaced, so that what one name sees is not changed through the other.
    """
    with saving(target):
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            for each in source.iterdir():
                link(each, target / each.name)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)


@dataclass(frozen=True)
class Work:
    """The pieces of a release, in the order in which they are computed, and what each trait is made of."""

    pieces: tuple[Piece, ...]
    traits: dict[str, TraitRecord]


def plan_work(config: AnalysisConfig, seen: Look, decision: Decision, previous: Release | None, out: Path) -> Work:
    """Lay out the pieces of a release.

    Parameters
    ----------
    config
        The analysis as the plan has it; its `out` does not matter.
    seen, decision
        The inputs, and what is done about each trait.
    previous
        The release before.
    out
        Folder of the releases.
    """
    maker = _Maker(replace(config, ssf=False, ld_scores=None, report=False), seen, out)
    records: dict[str, TraitRecord] = {}
    pieces: list[Piece] = []
    if previous is not None and not decision.everything:
        maker = maker.reusing(previous, decision.computed)
        for group in _by_model(decision.kept, previous):
            piece = maker.scan(group, previous, decision)
            pieces += [] if piece is None else [piece]
            records |= {name: _kept_record(previous.traits[name], decision, previous, piece) for name in group}
    if decision.computed:
        piece = maker.fit(decision.computed, "everything" if decision.everything else "new and changed traits")
        pieces.append(piece)
        scans = () if piece.command == "fit" else (piece.name,)
        for name in decision.computed:
            records[name] = TraitRecord("computed", decision.traits[name].why, piece.name, scans)
    records |= {name: TraitRecord("failed", why) for name, why in seen.state.failed.items()}
    order = config.cohort.trait_names or [str(name) for name in seen.tables.traits.columns]
    return Work(tuple(pieces), {name: records[name] for name in order})


def _by_model(names: Iterable[str], previous: Release) -> list[list[str]]:
    groups: dict[tuple[str | None, tuple[str, ...]], list[str]] = {}
    for name in names:
        record = previous.traits[name]
        groups.setdefault((record.model, record.scans[:1]), []).append(name)  # γ is that of the first scan
    return list(groups.values())


def _kept_record(record: TraitRecord, decision: Decision, previous: Release, piece: Piece | None) -> TraitRecord:
    if piece is None:
        return replace(record, status="taken over", why=f"unchanged since {previous.name}")
    if decision.scan == "other":
        why = f"other genotypes, scanned with the model of {previous.name}"
        return replace(record, status="computed", why=why, scans=(piece.name,))
    why = f"{decision.n_appended:,} variants appended since {previous.name}"
    return replace(record, status="extended", why=why, scans=(*record.scans, piece.name))


@dataclass(frozen=True)
class _Maker:
    """Makes pieces of one analysis."""

    config: AnalysisConfig
    seen: Look
    out: Path
    known: Path | None = None
    """Piece whose spectra are reused."""

    def reusing(self, previous: Release, new: Sequence[str]) -> _Maker:
        """Return the same with the solver of the release before, and its spectra and store for the new traits."""
        folders = [self.out / PIECES / name for name in sorted(_models(previous))]
        folders = [folder for folder in folders if is_finished(folder)]
        if not folders:
            return self
        config, known = self.config, None
        if config.method in _MIXED:
            solver = json.loads(_null(folders[0]).attrs["settings"])["solver"]
            config = replace(config, fit=replace(config.fit, solver=solver))
            if solver == "stochastic" and new:
                known = max(folders, key=lambda folder: self._n_masks(_null(folder), new))
        return replace(self, config=_with_store(config, folders), known=known)

    def _n_masks(self, null: xr.Dataset, traits: Sequence[str]) -> int:
        """Count the traits whose set of people has a spectral density in a model."""
        cohort = self.seen.cohort
        observed = null["observed"].values[null["n_probes"].values > 0].astype(bool)
        masks = {np.packbits(row).tobytes() for row in observed}
        wanted = [cohort.classes[cohort.class_of_trait[cohort.trait_names.index(name)]].observed for name in traits]
        return sum(np.packbits(observed).tobytes() in masks for observed in wanted)

    def fit(self, traits: Sequence[str], label: str) -> Piece:
        """Return the piece in which traits are fitted, and scanned where the plan says so."""
        state = self.seen.state
        config = replace(self.config, known_model=self.known, inputs=self._inputs())
        scanned = (state.scan.fingerprint, state.scan.chunk_variants) if state.command == "gwas" else None
        return self._piece(
            state.command, label, traits, config, scanned, None if self.known is None else self.known.name
        )

    def scan(self, traits: Sequence[str], previous: Release, decision: Decision) -> Piece | None:
        """Return the piece in which traits that have a model are scanned on; None where there is nothing to scan."""
        if decision.scan not in ("appended", "other"):
            return None
        since = previous.state.scan.fingerprint if decision.scan == "appended" else None
        inputs = replace(self._inputs(), scan_since=since)
        if since is not None and not self._any_variant(inputs):
            return None
        label = "appended variants" if since is not None else "other genotypes"
        scanned = (self.seen.state.scan.fingerprint, self.seen.state.scan.chunk_variants, since)
        if self.config.method not in _MIXED:
            return self._piece("gwas", label, traits, replace(self.config, inputs=inputs), scanned)
        record = previous.traits[traits[0]]
        model, first = self.out / PIECES / str(record.model), self.out / PIECES / record.scans[0]
        has_gamma = since is not None and (first / MODEL_FOLDER / "gamma.zarr").is_dir()
        config = replace(self.config, inputs=inputs, known_gamma=first if has_gamma else None)
        return self._piece("scan", label, traits, config, scanned, first.name if has_gamma else None, model=model)

    def _piece(
        self, command: str, label: str, traits: Sequence[str], config: AnalysisConfig, *parts: object,
        model: Path | None = None,
    ) -> Piece:  # fmt: skip
        state = self.seen.state
        hashes = [(name, state.traits[name]) for name in traits]
        arithmetic = config.arithmetic().name  # what one machine has begun another cannot always continue
        name = content_hash(state.base, command, hashes, None if model is None else model.name, arithmetic, *parts)[:16]
        cohort = replace(config.cohort, trait_names=tuple(traits))
        return Piece(
            name=name,
            label=label,
            traits=tuple(traits),
            config=replace(config, out=self.out / PIECES / name, cohort=cohort),
            command=command,
            model=model,
        )

    def _inputs(self) -> Inputs:
        """Return the inputs with the model's store as it was, where variants were appended to it since."""
        model = self.seen.state.model.fingerprint
        if self.seen.genotypes.model.fingerprint == model:
            return self.config.inputs
        return replace(self.config.inputs, model_as_of=model)

    def _any_variant(self, inputs: Inputs) -> bool:
        try:
            scan_variants(self.seen.genotypes.scan, inputs, RunRecord.start(""))
        except VariantMismatchError:
            return False
        return True


def _null(piece: Path) -> xr.Dataset:
    """Open the null model of a piece; what is looked at is read."""
    return open_dataset(piece / MODEL_FOLDER / NULL_NAME)


def _models(release: Release) -> set[str]:
    return {record.model for record in release.traits.values() if record.model is not None}


def _with_store(config: AnalysisConfig, pieces: Sequence[Path]) -> AnalysisConfig:
    """Take the store that an earlier piece made of the model's files instead of converting them again."""
    stores = [store for folder in pieces if (store := folder / STORE_NAME).is_dir()]
    if not stores:
        return config
    scanned = config.inputs.genotypes if config.inputs.model_genotypes else (stores[0],)
    has_bgen = any(path.suffix.lower() == ".bgen" for path in scanned)
    sample_file = config.inputs.sample_file if has_bgen else None
    inputs = replace(config.inputs, genotypes=scanned, model_genotypes=(stores[0],), sample_file=sample_file)
    return replace(config, inputs=inputs)
