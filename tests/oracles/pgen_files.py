"""Small PLINK 2 filesets, written with pgenlib's writer, which is not the code that reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pgenlib
from numpy.typing import NDArray


def related_calls(n_variants: int, n_samples: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Draw calls (−9 = missing) of rare and common variants, some like the one before it or its mirror image."""
    calls = np.empty((n_variants, n_samples), np.int8)
    for i in range(n_variants):
        frequency = rng.choice([0.0, 0.01, 0.1, 0.5, 0.9, 1.0])
        calls[i] = rng.binomial(2, frequency, n_samples)
        if i and rng.random() < 0.5:
            earlier = calls[i - 1] if rng.random() < 0.5 else np.where(calls[i - 1] < 0, -9, 2 - calls[i - 1])
            calls[i] = np.where(rng.random(n_samples) < 0.03, calls[i], earlier)
        calls[i, rng.random(n_samples) < rng.choice([0.0, 0.05, 0.95])] = -9
    return calls


def related_dosages(n_variants: int, n_samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw dosages (−9 = missing) around calls: of nobody, a few, many or all."""
    calls = related_calls(n_variants, n_samples, rng).astype(np.float32)
    share = rng.choice([0.0, 0.02, 0.5, 1.0], (n_variants, 1))
    blurred = np.clip(calls + rng.normal(0, 0.2, calls.shape), 0, 2)
    return np.where((calls >= 0) & (rng.random(calls.shape) < share), blurred, calls).astype(np.float32)


def allele_pairs(n_variants: int, n_samples: int, n_alts: list[int], rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw both alleles of each call, (variants, 2 · samples), −9 = missing; 0 is REF."""
    pairs = np.empty((n_variants, n_samples, 2), np.int32)
    for i, n_alt in enumerate(n_alts):
        share = rng.choice([0.05, 0.5])
        alt = np.where(rng.random((n_samples, 2)) < share, rng.integers(1, n_alt + 1, (n_samples, 2)), 1)
        pairs[i] = np.where(rng.random((n_samples, 2)) < rng.choice([0.1, 0.5, 0.9]), alt, 0)
        pairs[i, rng.random(n_samples) < 0.05] = -9
    return pairs.reshape(n_variants, -1)


@contextmanager
def pgen_writer(prefix: Path, n_samples: int, n_alts: list[int], **options: Any) -> Iterator[pgenlib.PgenWriter]:
    """Open a writer of `prefix.pgen`, and write the `.pvar` and `.psam` beside it."""
    pgen, pvar, psam = (prefix.with_name(f"{prefix.name}.{suffix}") for suffix in ("pgen", "pvar", "psam"))
    psam.write_text("#IID\tSEX\n" + "".join(f"S{i}\t{i % 3}\n" for i in range(n_samples)))
    lines = (f"1\t{i + 1}\tv{i}\tA\t{','.join('C' * (k + 1) for k in range(n))}\n" for i, n in enumerate(n_alts))
    pvar.write_text("#CHROM\tPOS\tID\tREF\tALT\n" + "".join(lines))
    limit = max(n_alts) + 1
    with pgenlib.PgenWriter(
        str(pgen).encode(), n_samples, variant_ct=len(n_alts), allele_ct_limit=limit, **options
    ) as writer:
        yield writer


def write_calls(prefix: Path, calls: NDArray[np.int8]) -> None:
    """Write calls of two alleles."""
    with pgen_writer(prefix, calls.shape[1], [1] * len(calls)) as writer:
        writer.append_biallelic_batch(np.ascontiguousarray(calls))


def write_dosages(prefix: Path, dosages: NDArray[np.float32]) -> None:
    """Write dosages; pgenlib makes the calls."""
    with pgen_writer(prefix, dosages.shape[1], [1] * len(dosages), dosage_present=True) as writer:
        writer.append_dosages_batch(dosages)


def write_alleles(
    prefix: Path, pairs: NDArray[np.int32], n_alts: list[int], phased: NDArray[np.bool_] | None = None
) -> None:
    """Write calls of any alleles, phased where `phased` (variants, samples) says so."""
    n_samples = pairs.shape[1] // 2
    with pgen_writer(prefix, n_samples, n_alts, hardcall_phase_present=phased is not None) as writer:
        for i, n_alt in enumerate(n_alts):
            if phased is None:
                writer.append_alleles(pairs[i], allele_ct=n_alt + 1)
            else:
                writer.append_partially_phased(pairs[i], phased[i].astype(np.uint8), allele_ct=n_alt + 1)
