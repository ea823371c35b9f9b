"""The association scan: score statistics, denominators, lead variants."""

from biolmm.scan.lazy import scan_lazily
from biolmm.scan.run import run_scan
from biolmm.scan.setup import ScanConfig, prepare_scan

__all__ = ["ScanConfig", "prepare_scan", "run_scan", "scan_lazily"]
