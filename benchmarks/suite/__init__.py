"""The benchmarks behind `run.py`, one module each."""
