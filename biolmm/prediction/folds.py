"""Folds of a cross-validation: people in parts of equal size, families whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import ParameterError
from biolmm.files.genotypes import NO_FAMILY
from biolmm.linalg.probes import row_keys, uniform_bits

MAX_FOLDS = 100


def assign_folds(sample_id: Sequence[str], family_id: Sequence[str], n_folds: int, seed: int = 1) -> NDArray[np.int64]:
    """Deal people to folds at random, members of a family to one fold.

    Parameters
    ----------
    sample_id
        Ids of the people.
    family_id
        Theirs; `0`, `NA`, `.` and nothing mean that none is known.
    n_folds
        Folds.
    seed
        Of the order in which families are dealt.

    Returns
    -------
    NDArray[np.int64]
        (N,) fold of each, from 0; folds differ by no more people than the largest family has.

    Raises
    ------
    ParameterError
        When there are fewer families than folds, or one of them is more than half of everybody.

    Examples
    --------
    >>> folds = assign_folds(["a", "b", "c", "d"], ["F", "F", "0", "0"], 3)
    >>> bool(folds[0] == folds[1]), sorted(set(folds.tolist()))
    (True, [0, 1, 2])
    """
    if not 2 <= n_folds <= MAX_FOLDS:
        raise ParameterError(f"{n_folds} folds were asked for but must be between 2 and {MAX_FOLDS}.")
    units = [
        f"s/{person}" if family in NO_FAMILY else f"f/{family}"
        for person, family in zip(sample_id, family_id, strict=True)
    ]
    sizes = Counter(units)
    if len(sizes) < n_folds:
        raise ParameterError(
            f"{n_folds} folds were asked for, but {len(units):,} samples are in {len(sizes):,} families, which are kept "
            "whole: lower --folds, or pass --ignore-families where the family ids mean something else."
        )
    name, largest = sizes.most_common(1)[0]
    if 2 * largest > len(units) and len(units) > 2:
        raise ParameterError(
            f"family '{name[2:]}' has {largest:,} of {len(units):,} samples, and families are kept in one fold: pass "
            "--ignore-families where the family ids mean something else."
        )
    names = sorted(sizes)
    bits = uniform_bits(row_keys(names), f"{seed}/folds")
    order = sorted(range(len(names)), key=lambda i: (int(bits[i]), names[i]))
    filled = np.zeros(n_folds, dtype=np.int64)
    fold_of = {}
    for i in order:
        fold = int(filled.argmin())
        fold_of[names[i]] = fold
        filled[fold] += sizes[names[i]]
    return np.array([fold_of[unit] for unit in units], dtype=np.int64)
