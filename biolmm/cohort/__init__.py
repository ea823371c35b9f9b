"""Who is analysed, in which order: samples aligned by id, traits transformed, covariates as orthonormal bases."""

from biolmm.cohort.align import align_cohort
from biolmm.cohort.basis import Basis, orthonormal_basis
from biolmm.cohort.config import CohortConfig
from biolmm.cohort.model import Cohort, MaskClass, build_classes
from biolmm.cohort.transforms import rank_inverse_normal

__all__ = [
    "Basis",
    "Cohort",
    "CohortConfig",
    "MaskClass",
    "align_cohort",
    "build_classes",
    "orthonormal_basis",
    "rank_inverse_normal",
]
