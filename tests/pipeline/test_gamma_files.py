"""γ in files: what is written is read, also as it was before variants were told apart by more than their frequency."""

from __future__ import annotations

import numpy as np
import pandas as pd

from biolmm.association.classes import CLASSES, MAF_CLASSES
from biolmm.association.gamma import GammaEstimate
from biolmm.pipeline.steps import gamma_dataset, gamma_estimate


def test_gamma_is_read_as_it_was_written() -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "trait": ["a", "b"],
            "maf_class": ["all", CLASSES[4]],
            "n_variants": [3, 4],
            "gamma": [1.0, 2.0],
            "gamma_se": 0.1,
        }
    )
    written = GammaEstimate(rng.random((2, len(CLASSES))), table)
    read = gamma_estimate(gamma_dataset(written))
    np.testing.assert_array_equal(read.gamma, written.gamma)
    pd.testing.assert_frame_equal(read.table, table, check_dtype=False)
    older = GammaEstimate(written.gamma[:, : len(MAF_CLASSES)], table)
    np.testing.assert_array_equal(gamma_estimate(gamma_dataset(older)).gamma, np.tile(older.gamma, 3))
