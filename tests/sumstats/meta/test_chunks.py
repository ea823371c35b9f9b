"""Every analysis works on each variant alone: chunks of a block give what the block gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

from biolmm.sumstats.meta.ancestry import ancestry_regression
from biolmm.sumstats.meta.binary_effects import binary_effects
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.fixed_effects import frequencies, inverse_variance, inverse_variance_weights, sample_size
from biolmm.sumstats.meta.groups import leave_one_out, subgroups
from biolmm.sumstats.meta.han_eskin import han_eskin
from biolmm.sumstats.meta.m_values import m_values
from biolmm.sumstats.meta.overlap import inverse_variance_with_overlap, sample_size_with_overlap
from biolmm.sumstats.meta.partition import partition_model
from biolmm.sumstats.meta.random_effects import random_effects
from biolmm.sumstats.meta.sexes import sex_tests
from oracles.meta import random_block

K = 6
R = 0.8 * np.eye(K) + 0.2
D = np.abs(np.subtract.outer(np.arange(K), np.arange(K))) ** 1.5
X = np.linspace(-1, 1, K)[:, None]

ANALYSES: dict[str, Callable[[StudyBlock], object]] = {
    "inverse_variance": inverse_variance,
    "sample_size": sample_size,
    "frequencies": lambda block: frequencies(block, inverse_variance_weights(block)),
    "dl": lambda block: random_effects(block, "dl"),
    "pm": lambda block: random_effects(block, "pm"),
    "reml": lambda block: random_effects(block, "reml", "modified"),
    "han_eskin": han_eskin,
    "m_values": m_values,
    "m_values by quadrature": lambda block: m_values(block, enumerate_up_to=0),
    "binary_effects": lambda block: binary_effects(block, n_samples=200),
    "ancestry": lambda block: ancestry_regression(block, X),
    "partition": lambda block: partition_model(block, D),
    "leave_one_out": leave_one_out,
    "subgroups": lambda block: subgroups(block, "aabbcc"),
    "sexes": lambda block: sex_tests(block, "MFMFMF"),
    "overlap, variance": lambda block: inverse_variance_with_overlap(block, R),
    "overlap, size": lambda block: sample_size_with_overlap(block, R),
}


def arrays(result: Any) -> Iterator[np.ndarray]:
    """List the arrays of a result and of what is in it."""
    if is_dataclass(result):
        for each in fields(result):
            yield from arrays(getattr(result, each.name))
    elif isinstance(result, dict):
        for value in result.values():
            yield from arrays(value)
    elif isinstance(result, np.ndarray):
        yield result


@pytest.mark.parametrize("name", ANALYSES)
@pytest.mark.parametrize("size", [1, 7])
def test_chunks_give_what_the_block_gives(name: str, size: int) -> None:
    block, analyse = random_block(23, K, seed=1), ANALYSES[name]
    whole = list(arrays(analyse(block)))
    parts = [list(arrays(analyse(block.rows(slice(at, at + size))))) for at in range(0, 23, size)]
    assert whole
    for i, expected in enumerate(whole):
        found = np.concatenate([part[i] for part in parts])
        if expected.dtype.kind == "f":
            # Products of matrices add up in another order for another number of rows.
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
        else:
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ANALYSES)
def test_no_variants_and_no_studies_with_one(name: str) -> None:
    block = random_block(5, K, seed=2)
    assert all(len(each) == 0 for each in arrays(ANALYSES[name](block.rows(slice(0, 0)))))
    nothing = StudyBlock(*(np.full((2, K), np.nan) for _ in range(4)))
    for each in arrays(ANALYSES[name](nothing)):
        if each.dtype.kind == "f":
            assert np.all(np.isnan(each) | (each == 0) | np.isinf(each))
