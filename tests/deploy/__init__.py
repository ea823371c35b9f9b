"""Tests of what is in deploy/: files that load, a chart that renders, a SLURM cluster that loses machines."""
