"""Hashes that say whether two stores, or two runs, are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding
from biolmm.files.genotypes import SampleTable, VariantTable
from biolmm.schema import FORMAT_VERSION

ATTRIBUTES_CRC32C = "attributes_crc32c"
"""Attribute with the CRC-32C of all others."""


def biolmm_version() -> str:
    """Version of the installed package; `unknown` in a checkout that is not installed."""
    try:
        return version("biolmm")
    except PackageNotFoundError:
        return "unknown"


def table_digest(samples: SampleTable, variants: VariantTable) -> str:
    """Hash who the samples and what the variants are, in their order."""
    columns = (samples.sample_id, samples.family_id, samples.sex, variants.contig, np.array(variants.contig_id),
               variants.position, variants.variant_id, variants.ref, variants.alt)  # fmt: skip
    digest = hashlib.sha256()
    for column in columns:
        values = np.asarray(column)
        digest.update(b"%d\n" % len(values))
        is_number = values.dtype.kind in "iu"
        digest.update(values.astype("<i8").tobytes() if is_number else "\n".join(values.tolist()).encode())
    return digest.hexdigest()


def content_key(
    samples: SampleTable,
    variants: VariantTable,
    *,
    provenance: Mapping[str, Any],
    chunk_variants: int,
    encoding: Encoding = Encoding.CALLS,
) -> str:
    """Hash what decides the content of a store; two runs with the same key write the same store."""
    settings = {
        "format": FORMAT_VERSION,
        "encoding": encoding.value,
        "chunk_variants": chunk_variants,
        "provenance": dict(provenance),
    }
    text = json.dumps(settings, sort_keys=True) + table_digest(samples, variants)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(tables: str, chunk_crc32c: Sequence[int] | NDArray[np.uint32]) -> str:
    """Hash the content of a store: its tables, through their digest, and the CRC-32C of every chunk of genotypes."""
    return hashlib.sha256(tables.encode() + np.array(chunk_crc32c, "<u4").tobytes()).hexdigest()


def file_identity(path: Path) -> dict[str, Any]:
    """Say which file a path names now: its absolute path, its size, and when it was changed."""
    status = path.stat()
    return {"path": str(path.absolute()), "n_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def attributes_crc32c(attributes: Mapping[str, Any]) -> int:
    """Sum up all attributes of a store but this sum itself."""
    others = {name: value for name, value in attributes.items() if name != ATTRIBUTES_CRC32C}
    others = json.loads(json.dumps(others))  # as a reader finds them: names of numbers have become text
    return int(google_crc32c.value(json.dumps(others, sort_keys=True).encode()))
