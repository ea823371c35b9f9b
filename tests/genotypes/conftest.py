"""A small store for the genotype tests."""

from __future__ import annotations

import pytest

from oracles.toy import Toy, make_toy


@pytest.fixture(scope="session")
def small_toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Give 300 variants on four contigs, 77 samples, chunks of 64 variants of which some hold two contigs."""
    return make_toy(tmp_path_factory.mktemp("small_toy"), n_variants=300, n_samples=77)
