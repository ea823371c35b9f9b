"""What an analysis is made of, as frozen data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from biolmm.association.setup import ScanConfig
from biolmm.cohort import CohortConfig
from biolmm.errors import ParameterError
from biolmm.genotypes.arithmetic import PRECISIONS, Arithmetic, Precision, arithmetic_of
from biolmm.genotypes.coding import MaleX
from biolmm.genotypes.filters import VariantFilters
from biolmm.memory import default_budget_bytes
from biolmm.reml.fit import FitConfig
from biolmm.store.collection import AskedEncoding
from biolmm.store.samples import Which

Method = Literal["mixed", "linear", "linear-only", "exact", "exact-p3d"]
METHODS: tuple[Method, ...] = ("mixed", "linear", "linear-only", "exact", "exact-p3d")
EXACT_METHODS = ("exact", "exact-p3d")


@dataclass(frozen=True)
class Inputs:
    """Files of an analysis, and what is taken of them.

    Attributes
    ----------
    genotypes
        What is scanned: one store, or genotype files (BED, PGEN, BGEN, VCF, BCF, VCF Zarr), for example one a chromosome.
    model_genotypes
        What the relatedness matrix is made of, in the same forms; empty takes `genotypes`.
    sample_file
        The `.sample` file of BGEN files that name no samples.
    encoding
        How files are read: `calls`, `dosage8`, `dosage16`, or `auto`, dosages where the files have any.
    samples
        Of files that hold different people: those in all of them (`intersection`), or everybody (`union`).
    traits, covariates
        Tables with a column of sample ids.
    keep, remove
        Lists of sample ids.
    extract
        List of the variants to scan.
    exclude
        List of variants that are neither scanned nor in the model.
    model_extract
        List of the variants that the relatedness matrix is made of.
    regions
        Scan only here, such as `6:25mb-34mb`.
    exclude_regions, model_exclude_regions
        Neither scan nor model, and not in the model: regions, or the names `mhc` and `long-range-ld`.
    build
        Reference build, `GRCh37` or `GRCh38`: where the pseudo-autosomal regions and the named regions are.
    male_x
        How males count on X outside the pseudo-autosomal regions: `0/2` or `0/1`.
    missing_value
        A number that means missing in the tables, such as -9.
    model_as_of
        Fingerprint of the model's store before variants were appended to it: the model is made of those that it had.
    scan_since
        Fingerprint of the scanned store before variants were appended to it: only those behind are scanned.
    """

    genotypes: tuple[Path, ...]
    model_genotypes: tuple[Path, ...] = ()
    sample_file: Path | None = None
    encoding: AskedEncoding = "auto"
    samples: Which = "intersection"
    traits: Path | None = None
    covariates: Path | None = None
    keep: Path | None = None
    remove: Path | None = None
    extract: Path | None = None
    exclude: Path | None = None
    model_extract: Path | None = None
    regions: tuple[str, ...] = ()
    exclude_regions: tuple[str, ...] = ()
    model_exclude_regions: tuple[str, ...] = ()
    build: str | None = None
    male_x: MaleX = "0/2"
    missing_value: str | None = None
    model_as_of: str | None = None
    scan_since: str | None = None

    def files(self) -> dict[str, Path]:
        """Return the tables and lists that are given, by name."""
        names = ("traits", "covariates", "keep", "remove", "extract", "exclude", "model_extract", "sample_file")
        return {name: path for name in names if (path := getattr(self, name)) is not None}

    def parameters(self) -> dict[str, Any]:
        """Return what `run.json` records beside the files."""
        names = ("encoding", "samples", "regions", "exclude_regions", "model_exclude_regions", "build", "male_x")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Resources:
    """What an analysis may use; none of it changes a result.

    Attributes
    ----------
    threads
        Threads; None takes every available processor.
    memory_bytes
        Budget of the whole process.
    scratch
        Where results that go to an object store are kept while the work runs; by default in the user's cache.
    """

    threads: int | None = None
    memory_bytes: int = field(default_factory=default_budget_bytes)
    scratch: Path | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ParameterError(f"threads is {self.threads} but must be at least 1.")


@dataclass(frozen=True)
class AnalysisConfig:
    """Everything that an analysis depends on.

    Attributes
    ----------
    method
        `mixed`; `linear` runs the plain regression beside the mixed model; `linear-only` runs it alone; `exact` gives
        every variant its own variance components, `exact-p3d` those of the null model, from an eigendecomposition.
    n_pcs
        Principal components added as covariates.
    ssf
        Write GWAS-SSF files too.
    model_filters
        Thresholds for the variants of the model; those for the scan are in `scan`.
    known_model
        Folder of a model of the same samples, covariates and settings, whose spectra are reused.
    grm
        With the exact methods, a relatedness matrix of biolmm, GCTA or PLINK instead of that of the genotypes.
    ld_scores
        Prefix of LD scores, on which the statistics are regressed for the report.
    precision
        Of the products with the relatedness matrix: `auto`, `float32`, `int8` or `bfloat16`; see `arithmetic_of`.
    device
        Where PyTorch computes them, such as `cuda`; by default this processor does, without PyTorch.
    known_gamma
        Results of the same model whose γ is taken over instead of being measured on the variants that are scanned.
    report
        Write `report.html`.
    """

    inputs: Inputs
    out: Path
    cohort: CohortConfig = field(default_factory=CohortConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    scan: ScanConfig = field(default_factory=ScanConfig)
    resources: Resources = field(default_factory=Resources)
    method: Method = "mixed"
    n_pcs: int = 0
    ssf: bool = False
    model_filters: VariantFilters = field(default_factory=VariantFilters)
    known_model: Path | None = None
    grm: Path | None = None
    ld_scores: str | None = None
    precision: Precision = "auto"
    device: str | None = None
    known_gamma: Path | None = None
    report: bool = True
    command: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.n_pcs <= 100:
            raise ParameterError(f"{self.n_pcs} principal components were asked for but must be between 0 and 100.")
        if self.method not in METHODS:
            raise ParameterError(f"There is no method {self.method!r}: use one of {', '.join(METHODS)}.")
        if self.precision not in PRECISIONS:
            raise ParameterError(f"There is no precision {self.precision!r}: use one of {', '.join(PRECISIONS)}.")
        if self.grm is not None and self.method not in EXACT_METHODS:
            raise ParameterError(
                f"--grm is for --method exact and exact-p3d: --method {self.method} makes its matrix of genotypes, see "
                "--model-genotypes."
            )

    def arithmetic(self) -> Arithmetic:
        """Return what computes the products with the relatedness matrix on this machine.

        Raises
        ------
        ParameterError
            When the machine cannot do what is asked for.
        """
        return arithmetic_of(self.precision, self.device)

    def parameters(self) -> dict[str, Any]:
        """Return what `run.json` records."""
        cohort = {k: v for k, v in asdict(self.cohort).items() if k not in ("keep", "remove")}
        return {
            "method": self.method,
            "n_pcs": self.n_pcs,
            "grm": None if self.grm is None else str(self.grm),
            "ssf": self.ssf,
            "ld_scores": self.ld_scores,
            "precision": self.precision,
            "device": self.device,
            "fit": asdict(self.fit),
            "scan": asdict(self.scan),
            "cohort": cohort,
            "model_filters": asdict(self.model_filters),
            "genotypes": self.inputs.parameters(),
            "covariate_names": list(self.cohort.covariate_names or ()),
        }
