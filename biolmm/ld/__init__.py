"""Linkage disequilibrium: which variants say the same, and which of them to keep."""

from biolmm.ld.lists import PruneRequest, PruneSummary, prune_to_files
from biolmm.ld.prune import PruneConfig, plan_prune, prune
from biolmm.ld.window import Window

__all__ = ["PruneConfig", "PruneRequest", "PruneSummary", "Window", "plan_prune", "prune", "prune_to_files"]
