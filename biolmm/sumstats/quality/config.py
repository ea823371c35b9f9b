"""What quality control is asked for: filters, thresholds, and what is known of the studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from biolmm.errors import ParameterError

MAF_EDGES = (0.0, 0.001, 0.01, 0.05, 0.2, 0.5)
"""Bins of minor allele frequency in which λ is computed: above the lower edge, up to the upper."""

INFO_EDGES = (0.0, 0.3, 0.6, 0.8, 0.9, 2.0)
"""Bins of imputation quality."""

COMMON_MAF = 0.01
"""The scale of the trait, the slope of the standard errors and shapes of distributions are of variants this common."""

WINDOW_BP = 5_000_000
"""Windows in which variants are counted, to find what is missing of a genome."""


@dataclass(frozen=True)
class Filters:
    """Which variants of a study would be left out; counted and written as a plan, applied to nothing."""

    min_maf: float | None = None
    min_mac: float | None = None
    min_info: float | None = None
    min_n: float | None = None
    max_se: float | None = None
    max_abs_beta: float | None = None
    max_eaf_difference: float | None = None

    def __post_init__(self) -> None:
        """Refuse thresholds that cannot be.

        Raises
        ------
        ParameterError
            When one is below 0 or a frequency above 0.5.
        """
        for name, value in self.asked().items():
            top = {"min_maf": 0.5, "max_eaf_difference": 1.0}.get(name, float("inf"))
            if not 0 <= value <= top:
                option = "--" + name.replace("_", "-")
                raise ParameterError(
                    f"{option} is {value:g} but must be at least 0" + (f" and at most {top:g}." if top < 2 else ".")
                )

    def asked(self) -> dict[str, float]:
        """Give the thresholds that were set."""
        pairs = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: float(value) for name, value in pairs if value is not None}


@dataclass(frozen=True)
class QualityConfig:
    """What is known of the studies, and what to look at.

    Attributes
    ----------
    filters
        Counted for the plan.
    cases
        Cases and controls of studies of a binary trait, by the study's name: they tell which effective N a file gives.
    expected_sd
        Standard deviation of the trait that effects should be in units of; 1 for standardised traits. None: only compared
        between studies.
    max_eaf_difference
        A frequency further from the reference's is an outlier.
    """

    filters: Filters = field(default_factory=Filters)
    cases: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    expected_sd: float | None = None
    max_eaf_difference: float = 0.2

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be.

        Raises
        ------
        ParameterError
            When numbers of cases or controls, or the standard deviation, are not above 0.
        """
        for name, (n_cases, n_controls) in self.cases.items():
            if not (n_cases > 0 and n_controls > 0):
                raise ParameterError(f"{name} has {n_cases:g} cases and {n_controls:g} controls; both must be above 0.")
        if self.expected_sd is not None and not self.expected_sd > 0:
            raise ParameterError(f"--expected-sd is {self.expected_sd:g} but must be above 0.")
