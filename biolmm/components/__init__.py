"""Many variance components of one trait: average-information REML over composable covariance terms."""

from biolmm.components.build import Sources, build_terms
from biolmm.components.fit import ComponentConfig, fit_components
from biolmm.components.formula import Formula, parse_formula
from biolmm.components.problem import Problem
from biolmm.components.results import Component, ComponentFit, ComponentResults

__all__ = [
    "Component",
    "ComponentConfig",
    "ComponentFit",
    "ComponentResults",
    "Formula",
    "Problem",
    "Sources",
    "build_terms",
    "fit_components",
    "parse_formula",
]
