"""Realistic cohorts of any size: genotypes, families, ancestries, traits, and the truth about them."""

from __future__ import annotations

from biolmm.simulate.config import SimulateConfig
from biolmm.simulate.generate import generate_calls
from biolmm.simulate.run import plan_simulate, simulate
from biolmm.simulate.tables import SimulatedFiles

__all__ = ["SimulateConfig", "SimulatedFiles", "generate_calls", "plan_simulate", "simulate"]
