"""Covariance matrices of random effects as operators: one family a module, one interface for all."""

from biolmm.covariance.composite import Covariance
from biolmm.covariance.terms import Kernel, Term

__all__ = ["Covariance", "Kernel", "Term"]
