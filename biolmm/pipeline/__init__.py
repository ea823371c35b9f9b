"""The one place that knows the order of stages: genotypes → cohort → null model → predictors → scan → report."""

from biolmm.pipeline.config import AnalysisConfig, Inputs, Resources
from biolmm.pipeline.run import run_fit, run_gwas, run_scan_only

__all__ = ["AnalysisConfig", "Inputs", "Resources", "run_fit", "run_gwas", "run_scan_only"]
