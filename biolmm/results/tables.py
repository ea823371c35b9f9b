"""The small tables beside the associations: tab-separated, every float with all its digits, NA where missing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from biolmm import schema
from biolmm.atomic import atomic_path
from biolmm.errors import InputFileError
from biolmm.places import place
from biolmm.results.paths import readable

MISSING = "NA"

EIGEN_COLUMNS = ("component", "eigenvalue", "residual")
GAMMA_COLUMNS = ("trait", "maf_class", "n_variants", "gamma", "gamma_se")
LOCO_COLUMNS = ("trait", "contig", "iterations", "relative_residual", "converged")
PCS_COLUMNS = ("sample_id",)
LDSC_COLUMNS = ("trait", "n_variants", "mean_chisq", "lambda_gc", "h2", "h2_se", "intercept", "intercept_se", "ratio",
                "ratio_se", "flags")  # fmt: skip

TABLES: dict[str, tuple[str, ...]] = {
    "h2": schema.H2_COLUMNS,
    "leads": schema.LEAD_COLUMNS,
    "gamma": GAMMA_COLUMNS,
    "loco": LOCO_COLUMNS,
    "eigen": EIGEN_COLUMNS,
    "pcs": PCS_COLUMNS,
    "ldsc": LDSC_COLUMNS,
}
"""Tables by name and their columns in order; `pcs` has PC1, PC2, … after its first."""

_TEXT = {"trait", "chromosome", "effect_allele", "other_allele", "rsid", "maf_class", "contig", "sample_id", "flags"}
_INTEGER = {
    "n", "base_pair_location", "locus_start_bp", "locus_end_bp", "n_significant", "n_variants", "iterations",
    "component",
}  # fmt: skip
_BOOLEAN = {"converged"}


def table_path(results_dir: Path, name: str) -> Path:
    """Path of a table, for example `results/h2.tsv`."""
    if name not in TABLES:
        raise ValueError(f"{name!r} is not one of {', '.join(TABLES)}")
    return place(results_dir) / f"{name}.tsv"


def write_result_table(results_dir: Path, name: str, frame: pd.DataFrame) -> Path:
    """Write one of `TABLES` atomically, columns in their fixed order, floats so that reading gives them back exactly.

    Raises
    ------
    ValueError
        When a column is missing or unknown.
    OutputError
        When the table cannot be written.
    """
    path = table_path(results_dir, name)
    columns = list(TABLES[name])
    extra = [column for column in frame.columns if column not in columns]
    missing = [column for column in columns if column not in frame.columns]
    if missing or (extra and name != "pcs"):
        raise ValueError(f"{path.name}: missing columns {missing}, unknown columns {extra}")
    with atomic_path(path) as aside:
        frame[columns + extra].to_csv(aside, sep="\t", index=False, na_rep=MISSING, lineterminator="\n")
    return path


def read_result_table(results_dir: Path, name: str) -> pd.DataFrame | None:
    """Read one of `TABLES`, or None when the run did not write it.

    Raises
    ------
    InputFileError
        When the file is there but is not this table.
    """
    path = table_path(results_dir, name)
    if not path.exists():
        return None
    try:
        raw = pd.read_csv(readable(path), sep="\t", dtype=str, keep_default_na=False)
        missing = [column for column in TABLES[name] if column not in raw.columns]
        if missing:
            raise InputFileError(f"{path} lacks the columns {', '.join(missing)}: it has {', '.join(raw.columns)}.")
        return raw.assign(**{str(column): _typed(str(column), raw[column]) for column in raw.columns})
    except (ValueError, KeyError) as error:
        raise InputFileError(f"{path} cannot be read: {error}.") from error


def _typed(column: str, text: pd.Series[str]) -> pd.Series[str] | pd.Series[int] | pd.Series[float] | pd.Series[bool]:
    if column in _TEXT:
        return text
    if column in _BOOLEAN:
        if not text.isin(["True", "False"]).all():
            raise ValueError(f"column {column} must hold True or False")
        return text == "True"
    if column in _INTEGER:
        return text.astype("int64")
    return text.where(text != MISSING, "nan").astype("float64")
