"""A fitted model on disk, and the same model in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from biolmm.loco import solve_predictors
from biolmm.reml.fit import FitConfig, Solver, fit_null_model
from biolmm.reml.model import NullModel
from oracles.toy import Toy
from running import Disk, simulate, succeed

TRAITS = ("half", "gaps")
Fitter = Callable[[Solver, bool], NullModel]
"""Of solver and whether contigs are left out."""


@pytest.fixture(scope="session")
def fitted(toy: Toy) -> Fitter:
    """Fit two traits of the toy, one with missing values; the predictors are solved to 1e-6."""

    def fit(solver: Solver, loco: bool) -> NullModel:
        operator = toy.operator()
        model = fit_null_model(operator, toy.cohort(*TRAITS), FitConfig(solver=solver, loco=loco))
        return replace(model, loco=solve_predictors(operator, model, loco=loco, tolerance=1e-6))

    return fit


@pytest.fixture(scope="session", params=["exact", "stochastic"])
def model(request: pytest.FixtureRequest, fitted: Fitter) -> NullModel:
    """Give the model by either solver."""
    return fitted(request.param, True)


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Simulate a cohort and fit it: `toy.zarr`, `toy.bed` and `fit/`."""
    found = Disk(tmp_path_factory.mktemp("prediction"))
    simulate(found.folder, samples=200, variants=400)
    succeed("fit", *found.inputs(), "--out", found.folder / "fit")
    return found


@pytest.fixture
def fit_folder(disk: Disk) -> Path:
    """Give the folder of the fitted model."""
    return disk.folder / "fit"
