"""sgkit's functions run on our stores and agree with our own counts."""

import warnings

import numpy as np

import biolmm
from biolmm.simulate import SimulateConfig, simulate


def test_sgkit_counts_as_the_store_does(tmp_path):
    simulate(SimulateConfig(n_samples=61, n_variants=130, n_contigs=2, missing_genotypes=0.1), tmp_path / "c.zarr")
    store = biolmm.open_store(tmp_path / "c.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sgkit warns about its own optional parts when imported
        import sgkit

        stats = sgkit.variant_stats(biolmm.to_sgkit(store), merge=False).compute()
    np.testing.assert_array_equal(stats.variant_allele_count.values[:, 1], store.variant_alt_count.values)
    np.testing.assert_array_equal(stats.variant_n_het.values, store.variant_het_count.values)
    np.testing.assert_array_equal(stats.variant_n_called.values, 61 - store.variant_missing_count.values)
