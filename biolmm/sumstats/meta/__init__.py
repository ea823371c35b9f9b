"""Meta-analysis of aligned studies: arrays in, frozen dataclasses out; no files, no lazy arrays.

Every analysis takes a `StudyBlock` of any number of variants and works on each alone, so that chunks make no difference.
What spans variants (λ, distances between ancestries, overlap of samples) comes from sums of chunks that add up.
"""

from biolmm.sumstats.meta.ancestry import ancestry_axes, ancestry_regression, distance_sums
from biolmm.sumstats.meta.binary_effects import binary_effects
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.fixed_effects import frequencies, inverse_variance, sample_size
from biolmm.sumstats.meta.genomic_control import chisq_medians, control_result, lambda_1000
from biolmm.sumstats.meta.groups import leave_one_out, subgroups
from biolmm.sumstats.meta.han_eskin import han_eskin
from biolmm.sumstats.meta.m_values import EffectPrior, m_values
from biolmm.sumstats.meta.metal_overlap import metal_overlap
from biolmm.sumstats.meta.overlap import (
    estimate_overlap,
    inverse_variance_with_overlap,
    overlap_sums,
    sample_size_with_overlap,
)
from biolmm.sumstats.meta.partition import PartitionPrior, partition_model
from biolmm.sumstats.meta.random_effects import random_effects
from biolmm.sumstats.meta.sexes import sex_tests

__all__ = [
    "EffectPrior",
    "PartitionPrior",
    "StudyBlock",
    "ancestry_axes",
    "ancestry_regression",
    "binary_effects",
    "chisq_medians",
    "control_result",
    "distance_sums",
    "estimate_overlap",
    "frequencies",
    "han_eskin",
    "inverse_variance",
    "inverse_variance_with_overlap",
    "lambda_1000",
    "leave_one_out",
    "m_values",
    "metal_overlap",
    "overlap_sums",
    "partition_model",
    "random_effects",
    "sample_size",
    "sample_size_with_overlap",
    "sex_tests",
    "subgroups",
]
