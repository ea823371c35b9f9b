"""The vocabulary: dimensions, store variables and result columns, written once as data.

The store follows VCF-Zarr and sgkit names where they exist. ALT is the effect allele everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

FORMAT_VERSION = 2
"""Version of the store layout; a reader refuses what it does not know."""

VCF_ZARR_VERSION = "0.4"

VARIANTS = "variants"
SAMPLES = "samples"
ALLELES = "alleles"
CONTIGS = "contigs"
CHUNKS = "chunks"

CALL_ALT_COUNT = "call_alt_count"
CALL_DOSAGE = "call_dosage"
VARIANT_CONTIG = "variant_contig"
VARIANT_POSITION = "variant_position"
VARIANT_ID = "variant_id"
VARIANT_ALLELE = "variant_allele"
VARIANT_ALT_COUNT = "variant_alt_count"
VARIANT_HET_COUNT = "variant_het_count"
VARIANT_MISSING_COUNT = "variant_missing_count"
VARIANT_DOSAGE_SUM = "variant_dosage_sum"
VARIANT_DOSAGE_SQUARES = "variant_dosage_squares"
VARIANT_INFO = "variant_info"
VARIANT_R2 = "variant_r2"
CONTIG_ID = "contig_id"
SAMPLE_ID = "sample_id"
SAMPLE_FAMILY_ID = "sample_family_id"
SAMPLE_SEX = "sample_sex"
CHUNK_CRC32C = "chunk_crc32c"

MISSING_CALL = 3
"""Value of `call_alt_count` for a missing call (also the fill value of padding)."""


@dataclass(frozen=True)
class Variable:
    """One array of the store: its dimensions, type and meaning."""

    dims: tuple[str, ...]
    dtype: str
    description: str


STORE_VARIABLES: dict[str, Variable] = {
    CALL_ALT_COUNT: Variable((VARIANTS, SAMPLES), "uint8", "copies of ALT: 0, 1, 2; 3 = missing"),
    CALL_DOSAGE: Variable(
        (VARIANTS, SAMPLES), "uint8", "copies of ALT in steps of scale_factor, uint8 or uint16; the largest is missing"
    ),
    VARIANT_CONTIG: Variable((VARIANTS,), "int32", "index into contig_id"),
    VARIANT_POSITION: Variable((VARIANTS,), "int64", "1-based position in base pairs"),
    VARIANT_ID: Variable((VARIANTS,), "str", "identifier as in the input, for example an rs number"),
    VARIANT_ALLELE: Variable((VARIANTS, ALLELES), "str", "REF, ALT; ALT is the effect allele"),
    VARIANT_ALT_COUNT: Variable((VARIANTS,), "int32", "copies of ALT among the called genotypes"),
    VARIANT_HET_COUNT: Variable((VARIANTS,), "int32", "samples with exactly one copy of ALT"),
    VARIANT_MISSING_COUNT: Variable((VARIANTS,), "int32", "samples without a genotype"),
    VARIANT_DOSAGE_SUM: Variable((VARIANTS,), "float64", "sum of the dosages of ALT"),
    VARIANT_DOSAGE_SQUARES: Variable((VARIANTS,), "float64", "sum of the squared dosages of ALT"),
    VARIANT_INFO: Variable((VARIANTS,), "float32", "IMPUTE's INFO; NaN where the input has no genotype probabilities"),
    VARIANT_R2: Variable((VARIANTS,), "float32", "Minimac's R²; NaN for variants that do not vary"),
    CONTIG_ID: Variable((CONTIGS,), "str", "contig names"),
    SAMPLE_ID: Variable((SAMPLES,), "str", "sample identifier (IID), unique"),
    SAMPLE_FAMILY_ID: Variable((SAMPLES,), "str", "family identifier (FID)"),
    SAMPLE_SEX: Variable((SAMPLES,), "int8", "0 unknown, 1 male, 2 female"),
    CHUNK_CRC32C: Variable((CHUNKS,), "uint32", "CRC-32C of each encoded chunk of genotypes"),
}

CALL_VARIABLES = (CALL_ALT_COUNT, VARIANT_ALT_COUNT, VARIANT_HET_COUNT)
"""Arrays that only stores of hard calls have."""

DOSAGE_VARIABLES = (CALL_DOSAGE, VARIANT_DOSAGE_SUM, VARIANT_DOSAGE_SQUARES, VARIANT_INFO, VARIANT_R2)
"""Arrays that only stores of dosages have."""


def stored_variables(dosages: bool) -> dict[str, Variable]:
    """Give the arrays of a store of dosages, or of hard calls.

    Examples
    --------
    >>> CALL_DOSAGE in stored_variables(True), CALL_DOSAGE in stored_variables(False)
    (True, False)
    """
    absent = CALL_VARIABLES if dosages else DOSAGE_VARIABLES
    return {name: variable for name, variable in STORE_VARIABLES.items() if name not in absent}


@dataclass(frozen=True)
class Column:
    """One column of a result table: its Arrow type, unit and meaning."""

    name: str
    arrow_type: str
    description: str


ASSOCIATION_COLUMNS: tuple[Column, ...] = (
    Column("chromosome", "string", "contig name"),
    Column("base_pair_location", "int64", "1-based position in base pairs"),
    Column("effect_allele", "string", "ALT"),
    Column("other_allele", "string", "REF"),
    Column("beta", "double", "effect of one copy of the effect allele, in units of the analysed trait"),
    Column("standard_error", "double", "standard error of beta"),
    Column("effect_allele_frequency", "double", "frequency of the effect allele in the trait's samples"),
    Column("neg_log_10_p_value", "double", "-log10 of the two-sided p-value"),
    Column("variant_id", "string", "chromosome_position_other_effect"),
    Column("rsid", "string", "variant identifier as in the input"),
    Column("n", "int32", "samples with the trait observed; missing calls count at the mean"),
    Column("info", "double", "imputation quality; empty for hard calls"),
    Column("chisq", "double", "test statistic, chi-squared with one degree of freedom under the null"),
    Column("exact", "bool", "true where the denominator is exact: every variant of the exact solver, "
           "lead variants of the stochastic one"),
)  # fmt: skip

EXACT_COLUMNS: tuple[Column, ...] = (
    Column("l_remle", "double", "ratio of variances sigma2_g / sigma2_e by REML with the variant"),
    Column("l_mle", "double", "the same by maximum likelihood"),
    Column("log_likelihood", "double", "of maximum likelihood with the variant"),
    Column("neg_log_10_p_lrt", "double", "-log10 of the p-value of the likelihood-ratio test"),
    Column("neg_log_10_p_score", "double", "-log10 of the p-value of the score test"),
)
"""Columns that the exact model adds to those of associations."""

H2_COLUMNS = ("trait", "n", "h2", "h2_se", "h2_mc_se", "sigma2_g", "sigma2_e", "lrt_p")

LEAD_COLUMNS = (
    "trait", "chromosome", "base_pair_location", "effect_allele", "other_allele", "rsid", "effect_allele_frequency",
    "beta", "standard_error", "neg_log_10_p_value", "chisq", "chisq_scan", "locus_start_bp", "locus_end_bp",
    "n_significant",
)  # fmt: skip
"""Columns of `leads.tsv`: one row a locus; `chisq` after the exact recomputation, `chisq_scan` before it."""
