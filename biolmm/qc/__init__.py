"""Quality control: what one pass over the genotypes says of every variant and sample, and which to leave out."""

from __future__ import annotations

from biolmm.qc.config import QcConfig
from biolmm.qc.run import QcResult, measure_quality, plan_qc, run_qc

__all__ = ["QcConfig", "QcResult", "measure_quality", "plan_qc", "run_qc"]
