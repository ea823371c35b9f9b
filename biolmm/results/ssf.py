"""Export to GWAS-SSF v1, the exchange format of the GWAS Catalog: a gzip TSV and its metadata in YAML."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biolmm.atomic import atomic_path, write_text
from biolmm.results.associations import read_part
from biolmm.results.paths import list_parts
from biolmm.results.record import RUN_JSON, read_record

MANDATORY_COLUMNS = (
    "chromosome", "base_pair_location", "effect_allele", "other_allele", "beta", "standard_error",
    "effect_allele_frequency", "neg_log_10_p_value",
)  # fmt: skip
SSF_COLUMNS = (*MANDATORY_COLUMNS, "variant_id", "rsid", "n", "info")
MISSING = "#NA"
LONG_ALLELE = "LONG_STRING"

# PLINK's numbers: 23 X, 24 Y, 25 the pseudo-autosomal part of X, 26 mitochondria. GWAS-SSF's: X 23, Y 24, MT 25.
_CHROMOSOMES = {str(number): number for number in range(1, 25)} | {
    "X": 23, "Y": 24, "XY": 23, "PAR": 23, "PAR1": 23, "PAR2": 23, "25": 23, "MT": 25, "M": 25, "26": 25,
}  # fmt: skip


@dataclass(frozen=True)
class SsfSummary:
    """What was exported, and how many rows were left out because GWAS-SSF has no place for them."""

    path: Path
    metadata_path: Path
    n_rows: int
    n_without_statistics: int
    n_other_contig: int
    n_other_allele: int
    is_sorted: bool


def ssf_chromosome(contig: str) -> int | None:
    """Number of a contig in GWAS-SSF, or None when it has none (a scaffold).

    Examples
    --------
    >>> [ssf_chromosome(name) for name in ("chr7", "X", "MT", "GL000192.1")]
    [7, 23, 25, None]
    """
    return _CHROMOSOMES.get(contig.removeprefix("chr").upper())


def write_ssf(results_dir: Path, trait: str, out: Path) -> SsfSummary:
    """Write one trait's associations as gzip TSV, part by part, and `<out>-meta.yaml` beside it.

    Rows that the standard cannot hold are left out and counted: without statistics (monomorphic variants),
    on contigs other than 1–22, X, Y and MT, and with alleles that are not known. Alleles that are not written in
    A, C, G, T (symbolic ones) become `LONG_STRING`; identifiers that are no rs number become `#NA`.

    Parameters
    ----------
    results_dir
        The directory that `gwas` wrote.
    trait
        The trait.
    out
        The file to write, for example `results/ssf/height.tsv.gz`.

    Raises
    ------
    InputFileError
        When there are no results for the trait.
    OutputError
        When the files cannot be written.

    Notes
    -----
    Cost: reads the trait's results once; memory for one part at a time.
    """
    results_dir, out = Path(results_dir), Path(out)
    parts = sorted(list_parts(results_dir, trait), key=lambda part: ssf_chromosome(part[1]) or 99)
    dropped = np.zeros(3, dtype=np.int64)
    n_rows, largest_n, last, is_sorted = 0, 0, (0, 0), True
    with atomic_path(out) as aside:
        with aside.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed, _text(packed) as text:
            text.write("\t".join(SSF_COLUMNS) + "\n")
            for _, contig, path in parts:
                frame, lost = ssf_rows(read_part(path).to_pandas(), contig)
                dropped += lost
                if frame.empty:
                    continue
                frame.to_csv(text, sep="\t", index=False, header=False, na_rep=MISSING, lineterminator="\n")
                place = frame["base_pair_location"]
                first, final = (int(frame["chromosome"].iloc[0]), int(place.iloc[0])), int(place.iloc[-1])
                is_sorted &= bool(place.is_monotonic_increasing) and first >= last
                last = (first[0], final)
                n_rows += len(frame)
                largest_n = max(largest_n, int(frame["n"].max()))
        md5 = file_md5(aside)
    metadata = _metadata(results_dir, trait, out.name, md5) | {"is_sorted": is_sorted}
    metadata["samples"] = [{"sample_size": largest_n}]
    metadata_path = write_text(out.with_name(out.name + "-meta.yaml"), to_yaml(metadata))
    return SsfSummary(out, metadata_path, n_rows, int(dropped[0]), int(dropped[1]), int(dropped[2]), is_sorted)


def _text(handle: gzip.GzipFile) -> io.TextIOWrapper:
    return io.TextIOWrapper(handle, encoding="utf-8", newline="")


def ssf_rows(frame: pd.DataFrame, contig: str) -> tuple[pd.DataFrame, tuple[int, int, int]]:
    """Give the rows that GWAS-SSF can hold, in its columns; how many have no statistics, no chromosome, no allele."""
    number = ssf_chromosome(contig)
    statistics = frame[["beta", "standard_error", "effect_allele_frequency", "neg_log_10_p_value"]].notna().all(axis=1)
    if number is None:
        return frame.iloc[:0], (0, len(frame), 0)
    alleles = frame[["effect_allele", "other_allele"]].apply(lambda column: column.str.upper())
    known = ~alleles.isin(["", "0", ".", "N", "*"]).any(axis=1) & alleles.notna().all(axis=1)
    keep = statistics & known
    alleles = alleles.loc[keep]  # a column longer than an empty frame would fill it
    rows = frame.loc[keep].assign(
        chromosome=number,
        **{name: alleles[name].where(alleles[name].str.fullmatch("[ACGT]+"), LONG_ALLELE) for name in alleles},
    )
    rows["rsid"] = rows["rsid"].where(rows["rsid"].str.fullmatch(r"rs[0-9]+"))
    rows["variant_id"] = rows["variant_id"].where(rows["variant_id"].str.fullmatch(r"[A-Za-z0-9_]+"))
    return rows[list(SSF_COLUMNS)], (int((~statistics).sum()), 0, int((statistics & ~known).sum()))


def file_md5(path: Path) -> str:
    """Compute the MD5 sum that metadata have."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _metadata(results_dir: Path, trait: str, file_name: str, md5: str) -> dict[str, Any]:
    record = read_record(results_dir) if (results_dir / RUN_JSON).exists() else {}
    parameters: Mapping[str, Any] = record.get("parameters", {})
    covariates = parameters.get("covariate_names") or parameters.get("covariates") or []
    return {
        "date_metadata_last_modified": datetime.now(UTC).date(),
        "trait_description": [trait],
        "genome_assembly": str(parameters.get("genome_assembly") or "NR"),
        "coordinate_system": "1-based",
        "data_file_name": file_name,
        "file_type": "GWAS-SSF v1.0",
        "data_file_md5sum": md5,
        "analysis_software": f"biolmm {record.get('biolmm_version', 'unknown')}",
        "adjusted_covariates": [str(name) for name in covariates] if isinstance(covariates, list) else [],
        "is_harmonised": False,
    }


def to_yaml(values: Mapping[str, Any]) -> str:
    """Write a mapping of scalars, lists and lists of mappings as YAML; text is quoted, so it is read as text.

    Examples
    --------
    >>> print(to_yaml({"a": [1, "x: y"], "b": [{"c": True}], "d": []}), end="")
    a:
      - 1
      - "x: y"
    b:
      - c: true
    d: []
    """
    lines: list[str] = []
    for key, value in values.items():
        if not isinstance(value, list) or not value:
            lines.append(f"{key}: {_scalar(value)}")
            continue
        lines.append(f"{key}:")
        for item in value:
            if isinstance(item, Mapping):
                pairs = [f"{name}: {_scalar(inner)}" for name, inner in item.items()]
                lines.extend(("  - " if index == 0 else "    ") + pair for index, pair in enumerate(pairs))
            else:
                lines.append(f"  - {_scalar(item)}")
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9 ._/-]*[A-Za-z0-9]", value)
        reserved = value.lower() in {"true", "false", "null", "yes", "no", "on", "off", "na"}
        return value if plain and not reserved else json.dumps(value)
    if value is None or isinstance(value, bool | int | float | list):
        return json.dumps(value)
    return str(value)
