"""The command line: parse options, call the pipeline, print what happened. One module a family of commands."""

from biolmm.cli import (
    analyses,
    cluster,
    components,
    exact,
    genotypes,
    heritability,
    ldsc,
    meta,
    pca,
    plots,
    prediction,
    quality,
    reanalyse,
    relatedness,
    simulation,
    sumstats,
    sumstats_quality,
)
from biolmm.cli.entry import main
from biolmm.cli.root import cli

__all__ = [
    "analyses",
    "cli",
    "cluster",
    "components",
    "exact",
    "genotypes",
    "heritability",
    "ldsc",
    "main",
    "meta",
    "pca",
    "plots",
    "prediction",
    "quality",
    "reanalyse",
    "relatedness",
    "simulation",
    "sumstats",
    "sumstats_quality",
]
