"""A fit in parts, traits after traits, so that what is finished survives a kill and memory does not grow with the traits.

A part depends on nothing but its own traits: the same parts give the same numbers, whichever of them were there before.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.atomic import remove, write_json
from biolmm.cohort import Cohort
from biolmm.components.fit import ComponentConfig, choose_solver, fit_components
from biolmm.components.problem import Problem
from biolmm.components.results import Component, ComponentFit, ComponentResults
from biolmm.covariance import Term
from biolmm.covariance.genetic import GenotypePanel
from biolmm.stages import Stages, content_hash
from biolmm.store.checkpoint import checkpointed

log = logging.getLogger(__name__)

TRAITS_AT_ONCE = {"exact": 1, "stochastic": 8}
"""Traits of a part. Passes are shared by those of a part: with eight, reading costs little beside computing."""
FITS, BLUP = "fits.json", "blup.npy"


@dataclass(frozen=True)
class FinishedParts:
    """Parts that are finished, in a folder.

    Attributes
    ----------
    folder
        Where they are.
    key
        What the whole analysis depends on.
    panel
        Genotypes whose long passes are kept while a part is made, so that a part that was killed goes on.
    """

    folder: Path
    key: str
    panel: GenotypePanel | None = None

    def fits(self, about: Any, build: Callable[[], tuple[ComponentFit, ...]]) -> tuple[ComponentFit, ...]:
        """Return the fits of a part, made by `build` unless they are there.

        Parameters
        ----------
        about
            What tells the part from others; plain values.
        build
            Makes it.
        """
        key = content_hash(self.key, about)
        stages = Stages(self.folder)

        def make(path: Path) -> None:
            with self.resuming(key):
                _write(path, build())

        for _ in range(2):
            path, resumed = stages.run(key, key, make)
            try:
                found = _read(path)
            except (OSError, EOFError, ValueError, KeyError, TypeError):
                if not resumed:
                    raise
                remove(path)  # damaged: it is made again
                continue
            if resumed:
                log.info("components: %s were done before", ", ".join(fit.trait for fit in found))
            return found
        raise RuntimeError("a part that was just made cannot be read")

    @contextmanager
    def resuming(self, name: str) -> Iterator[None]:
        """Keep the panel's long passes inside the block, so that the same block after a kill takes them up."""
        if self.panel is None:
            yield
            return
        folder = self.folder / f"{name}.checkpoint"
        with checkpointed(folder, self.key) as checkpoint, self.panel.resuming(checkpoint):
            yield


def fit_in_parts(
    terms: tuple[Term, ...],
    cohort: Cohort,
    config: ComponentConfig,
    known: dict[Term, NDArray[np.float64]] | None = None,
    finished: FinishedParts | None = None,
    about: Any = None,
) -> ComponentResults:
    """Fit every trait, some at a time, as `fit_components` does.

    Parameters
    ----------
    terms, cohort, config, known
        As there.
    finished
        Where finished parts are kept; None keeps nothing.
    about
        What tells this model from others of the same analysis; plain values.
    """
    solver = choose_solver(config, cohort.n_samples, len(terms), cohort.n_traits)
    config = replace(config, solver=solver)
    known = {} if known is None else known
    fits: list[ComponentFit] = []
    for part in _parts(cohort, TRAITS_AT_ONCE[solver]):

        def build(part: Cohort = part) -> tuple[ComponentFit, ...]:
            return fit_components(Problem.of(terms, part), config, known).fits

        identity = [about, part.trait_names, solver, config.test, config.blup]
        fits += build() if finished is None else finished.fits(identity, build)
    return ComponentResults(tuple(fits))


def _parts(cohort: Cohort, size: int) -> Iterator[Cohort]:
    """Yield the cohort with so many of its traits at a time."""
    for start in range(0, cohort.n_traits, size):
        chosen = slice(start, start + size)
        used, class_of_trait = np.unique(cohort.class_of_trait[chosen], return_inverse=True)
        yield replace(
            cohort,
            trait_names=cohort.trait_names[chosen],
            y=cohort.y[:, chosen],
            classes=tuple(cohort.classes[i] for i in used),
            class_of_trait=class_of_trait.astype(np.int64),
        )


def _write(path: Path, found: tuple[ComponentFit, ...]) -> None:
    """Write fits into a folder: JSON, every float with all its digits, and predictions as an array."""
    path.mkdir(parents=True)
    plain = [
        {
            **{field.name: getattr(fit, field.name) for field in fields(fit) if field.name != "blup"},
            "theta": fit.theta.tolist(),
            "covariance": fit.covariance.tolist(),
            "components": [vars(one) for one in fit.components],
        }
        for fit in found
    ]
    write_json(path / FITS, plain)
    predicted = [fit.blup for fit in found if fit.blup is not None]
    if predicted:
        np.save(path / BLUP, np.stack(predicted))


def _read(path: Path) -> tuple[ComponentFit, ...]:
    """Read fits as they were written."""
    plain = json.loads((path / FITS).read_text(encoding="utf-8"))
    predicted = np.load(path / BLUP, allow_pickle=False) if (path / BLUP).exists() else [None] * len(plain)
    return tuple(
        ComponentFit(
            **{
                **one,
                "components": tuple(Component(**component) for component in one["components"]),
                "theta": np.array(one["theta"]),
                "covariance": np.array(one["covariance"]),
                "fixed": {name: (float(effect), float(error)) for name, (effect, error) in one["fixed"].items()},
                "warnings": tuple(one["warnings"]),
                "terms": tuple(one["terms"]),
                "blup": blup,
            }
        )
        for one, blup in zip(plain, predicted, strict=True)
    )
