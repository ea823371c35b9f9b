"""Independent random streams, named by what they are for; any one can be drawn without the others."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream of random numbers is for."""

    PEOPLE = 1
    VARIANTS = 2
    HAPLOTYPES = 3
    MEIOSES = 4
    FOUNDERS = 5
    CALLS = 6
    EFFECTS = 7
    CAUSAL = 8
    COVARIATES = 9
    TRAITS = 10


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """Random generator of one stream and key.

    Examples
    --------
    >>> draw = generator(1, Stream.PEOPLE, 5).integers(100, size=3)
    >>> bool((draw == generator(1, Stream.PEOPLE, 5).integers(100, size=3)).all())
    True
    """
    return np.random.default_rng(_sequence(seed, stream, key))


def hash_key(seed: int, stream: Stream, *key: int) -> np.uint64:
    """Key of a stream for the counter-based hashes of the kernels."""
    return np.uint64(_sequence(seed, stream, key).generate_state(1, np.uint64)[0])


def _sequence(seed: int, stream: Stream, key: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(entropy=seed, spawn_key=(int(stream), *key))
