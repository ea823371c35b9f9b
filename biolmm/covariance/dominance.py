"""Dominance deviations: what heterozygotes differ by from the middle of the homozygotes.

0, 1 and 2 copies of ALT count −2p², 2pq, −2q², divided by 2pq: orthogonal to the additive code and of variance 1 under
Hardy–Weinberg proportions (Vitezica, Varona & Legarra 2013, doi 10.1534/genetics.113.155176; Zhu et al. 2015, GCTA,
doi 10.1016/j.ajhg.2015.01.001). A dosage in between counts what lies between on the two straight lines.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.scaling import Scaling


def dominance_tables(scaling: Scaling) -> NDArray[np.float32]:
    """Return (M, 4): the code of dosages 0, 1 and 2 and of a missing one; zero for variants that do not vary.

    Examples
    --------
    >>> one = Scaling(np.array([1.0]), np.array([1.0]), np.array([1.0]))
    >>> dominance_tables(one).tolist()
    [[-1.0, 1.0, -1.0, 0.0]]
    """
    p = scaling.mean / 2
    q = 1 - p
    expected = np.where(scaling.scale > 0, 2 * p * q, 1.0)
    tables = np.column_stack([-2 * p * p, 2 * p * q, -2 * q * q, np.zeros(len(p))]) / expected[:, None]
    return np.where(scaling.scale[:, None] > 0, tables, 0.0).astype(np.float32)


@numba.njit(nogil=True, cache=True, fastmath=True)
def standardise_bent(rows, tables, steps, missing, tile):  # type: ignore[no-untyped-def]
    """Write the function of every dosage that is `tables[i, :3]` at 0, 1 and 2 and straight between into `tile`."""
    for i in range(tile.shape[0]):
        at_zero, at_one, at_two, absent = tables[i, 0], tables[i, 1], tables[i, 2], tables[i, 3]
        first = (at_one - at_zero) / np.float32(steps)
        second = (at_two - at_one) / np.float32(steps)
        row, out = rows[i], tile[i]
        for j in range(tile.shape[1]):
            code = row[j]
            if code == missing:
                out[j] = absent
            elif code <= steps:
                out[j] = at_zero + first * np.float32(code)
            else:
                out[j] = at_one + second * np.float32(code - steps)
