"""Predictors that leave one contig out, so that a tested variant does not compete with its own neighbours."""

from biolmm.loco.predictors import ALL_CONTIGS, solve_predictors

__all__ = ["ALL_CONTIGS", "solve_predictors"]
