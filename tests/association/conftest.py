"""Fitted toy cohorts to scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.genotypes.operator import GenotypeOperator
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.reml.model import NullModel
from biolmm.reml.spectrum import SpectrumConfig
from oracles import dense
from oracles.scan import with_predictors
from oracles.toy import Toy, make_toy

EXACT = FitConfig(solver="exact", spectrum=SpectrumConfig(n_pairs=5))
STOCHASTIC = FitConfig(solver="stochastic", spectrum=SpectrumConfig(n_pairs=5))


@dataclass(frozen=True)
class Fitted:
    """A toy cohort with its model and predictors."""

    toy: Toy
    operator: GenotypeOperator
    model: NullModel

    def left_out_V(self, trait: int, contig: int) -> NDArray[np.float64]:
        """Return V₋c of a trait by definition, at the whole genome's h²; −1 leaves nothing out."""
        toy, h2 = self.toy, self.model.components(trait).h2
        return dense.covariance(h2, toy.left_out_K[contig], toy.y(self.model.trait_names[trait]), toy.design)


def fit(toy: Toy, config: FitConfig, *trait_names: str, **options: float) -> Fitted:
    """Fit some traits of a toy cohort and solve their predictors."""
    operator = toy.operator()
    model = fit_null_model(operator, toy.cohort(*trait_names), config)
    return Fitted(toy, operator, with_predictors(operator, model, **options))


@pytest.fixture(scope="session")
def exact(toy: Toy) -> Fitted:
    return fit(toy, EXACT)


@pytest.fixture(scope="session")
def stochastic(toy: Toy) -> Fitted:
    return fit(toy, STOCHASTIC)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """Give a cohort of 120 samples and 300 variants on four contigs, several parts each."""
    return fit(make_toy(tmp_path_factory.mktemp("small"), 300, 120, chunk_variants=64), STOCHASTIC)


@pytest.fixture
def markers(tmp_path: Path) -> Path:
    return tmp_path / "markers"
