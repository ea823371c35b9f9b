"""The kernels under pytest-benchmark, to see regressions: keep the figures of one commit, compare another with them.

    pytest benchmarks/kernel_regressions.py --benchmark-autosave
    pytest benchmarks/kernel_regressions.py --benchmark-compare --benchmark-compare-fail=median:15%

CPU-seconds of one thread, so other programs on the machine disturb little. `BIOLMM_KERNEL_SAMPLES` changes the size.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from suite.common import Settings
from suite.kernels import KERNELS, Kernels

SAMPLES = int(os.environ.get("BIOLMM_KERNEL_SAMPLES", "20000"))


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """Rows of a simulated cohort."""
    work = tmp_path_factory.mktemp("kernels")
    return Kernels.of(Settings(work=work, samples=SAMPLES, variants=min(4_096, SAMPLES), threads=1))


@pytest.mark.benchmark(timer=time.process_time, warmup=True, max_time=1.0)
@pytest.mark.parametrize("name", KERNELS)
def test_kernel(name, kernels, benchmark):
    genotypes, call = kernels.calls()[name]
    benchmark.extra_info["genotypes"] = genotypes
    benchmark(call)
