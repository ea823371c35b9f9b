"""The association scan: score statistics, denominators, lead variants."""

from biolmm.association.run import run_scan
from biolmm.association.setup import ScanConfig, prepare_scan

__all__ = ["ScanConfig", "prepare_scan", "run_scan"]
