"""The exact mixed model of small cohorts: each variant with its own variance components, from one eigendecomposition."""

from __future__ import annotations

from biolmm.exact.eigenbasis import Eigenbasis, decompose
from biolmm.exact.plan import MAX_SAMPLES, check_size, plan_exact
from biolmm.exact.run import ExactConfig, ExactScan, run_exact
from biolmm.exact.variant_tests import ExactStatistics, TraitModel, exact_tests

__all__ = [
    "MAX_SAMPLES",
    "Eigenbasis",
    "ExactConfig",
    "ExactScan",
    "ExactStatistics",
    "TraitModel",
    "check_size",
    "decompose",
    "exact_tests",
    "plan_exact",
    "run_exact",
]
