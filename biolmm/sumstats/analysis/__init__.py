"""Meta-analysis of a store: what is asked, what spans variants, the columns of each chunk, and the folder of results."""

from biolmm.sumstats.analysis.options import MetaOptions
from biolmm.sumstats.analysis.run import MetaResult, plan_meta, run_meta

__all__ = ["MetaOptions", "MetaResult", "plan_meta", "run_meta"]
