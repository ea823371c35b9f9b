"""Alleles and identifiers of stores as text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.sumstats.ingest.alleles import BASES, LONG, Alleles


def spell_alleles(alleles: Alleles, side: int) -> NDArray[Any]:
    """Spell one side of many variants."""
    codes = alleles.codes[:, side]
    letters = np.array([chr(base) for base in BASES[:4]], dtype=object)
    out = letters[np.minimum(codes, 3)]
    for row in np.flatnonzero(codes >= LONG):
        out[row] = alleles.text(int(row), side)
    return out


def rsids(numbers: NDArray[np.int64]) -> NDArray[Any]:
    """Spell rs numbers; None where there is none."""
    return np.array([f"rs{number}" if number > 0 else None for number in numbers.tolist()], dtype=object)
