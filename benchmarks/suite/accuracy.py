"""How far a pass K X of every arithmetic is from double precision, by frequency, share of missing calls and shape.

The error is that of the worst of 18 columns, as part of its length: six of random numbers, six of random signs, and six of
random numbers without five directions, times K, which is what iterations multiply.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import threads
from biolmm.files.encoding import Encoding, Rows, rows_from_dosages
from biolmm.genotypes.arithmetic import Float32, arithmetic_of
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import standardise
from biolmm.store.data import Quality
from suite.common import Outcome, Settings

SHAPES = ((2_000, 4_000), (3_000, 20_000), (20_000, 4_000), (200_000, 600))
KINDS = ("MAF 5-50 %", "MAF 1-50 %", "REF rare", "half rare")
MISSING = (0.0, 0.02, 0.2)
BLOCK = 100
Matrix = NDArray[np.float64]


def run(settings: Settings) -> Outcome:
    """Measure every shape, kind of variant and share of missing calls."""
    shapes: tuple[tuple[int, int], ...] = ((200, 300),) if settings.toy else SHAPES
    if settings.samples or settings.variants:
        shapes = ((settings.samples or 20_000, settings.variants or 4_000),)
    outcome = Outcome("accuracy", {**settings.parameters(), "shapes": shapes})
    rows: list[dict[str, Any]] = []
    outcome.tables["error of K x, as part of its length"] = rows
    with threads(settings.threads):
        for n_samples, n_variants in shapes:
            for kind in KINDS[:1] if settings.toy else KINDS:
                rows += [_measure(n_samples, n_variants, kind, missing) for missing in MISSING]
                print(f"… {n_samples:,} × {n_variants:,}, {kind}", flush=True)
    outcome.remarks.append(
        "variants: frequencies uniform; uniform in logarithm; the same, of ALT; half of 1 to 19 copies"
    )
    return outcome


def _measure(n_samples: int, n_variants: int, kind: str, missing: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    operator = GenotypeOperator(
        standardise(ChosenGenotypes.choose(_Drawn(rng, n_samples, n_variants, kind, missing), np.arange(n_samples)))
    )
    X = _columns(rng, operator)
    expected = _product(operator, X)
    row = {"samples": n_samples, "variants": n_variants, "kind": kind, "missing": missing}
    for arithmetic in {each.name: each for each in (Float32(), arithmetic_of("auto"))}.values():
        operator.arithmetic = arithmetic
        off = np.linalg.norm(operator.matmat(X) - expected, axis=0) / np.linalg.norm(expected, axis=0)
        row[arithmetic.name] = float(off.max())
    return row


def _columns(rng: np.random.Generator, operator: GenotypeOperator) -> NDArray[np.float32]:
    n = operator.n_samples
    plain, signs, other = (rng.standard_normal((n, 6)) for _ in range(3))
    Q = np.linalg.qr(rng.standard_normal((n, 5)))[0]
    projected = operator.matmat((other - Q @ (Q.T @ other)).astype(np.float32), exact=True)
    return np.hstack([plain, np.sign(signs), projected]).astype(np.float32)


def _product(operator: GenotypeOperator, X: NDArray[np.float32]) -> Matrix:
    """Return `K X` by the definition, in double precision."""
    total = np.zeros(X.shape)
    for task in operator.genotypes.tasks:
        calls = _calls(operator.source.reader.rows(task.partition), operator.n_samples)
        for start in range(0, len(calls), BLOCK):
            where = slice(start, start + BLOCK)
            Z = (calls[where] - task.scaling.mean[where, None]) * task.scaling.scale[where, None]
            Z[calls[where] == Encoding.CALLS.missing] = 0.0
            total += Z.T @ (Z @ X)
    return total / operator.m


def _calls(rows: Rows, n_samples: int) -> NDArray[np.uint8]:
    calls = np.stack([rows >> shift & 3 for shift in (0, 2, 4, 6)], axis=-1)
    return np.asarray(calls.reshape(len(rows), -1)[:, :n_samples])


class _Drawn:
    """Unrelated people in memory, in chunks of 1,024 variants: a `GenotypeData`."""

    path = Path("drawn genotypes")
    encoding = Encoding.CALLS
    contig_id = ("1",)
    chunk_variants = 1_024

    def __init__(self, rng: np.random.Generator, n_samples: int, n_variants: int, kind: str, missing: float) -> None:
        self.n_samples, self.n_variants = n_samples, n_variants
        self.fingerprint = f"{n_samples} {n_variants} {kind} {missing}"
        common, log_uniform = rng.uniform(0.05, 0.5, n_variants), 0.01 * 50 ** rng.random(n_variants)
        rare = np.where(rng.random(n_variants) < 0.5, rng.integers(1, 20, n_variants) / (2 * n_samples), common)
        frequency = dict(zip(KINDS, (common, log_uniform, 1 - log_uniform, rare), strict=True))[kind]
        self.rows = np.concatenate(
            [_draw(rng, frequency[start : start + BLOCK], n_samples, missing) for start in range(0, n_variants, BLOCK)]
        )
        self.sample_id = self.family_id = np.arange(n_samples).astype(str)
        self.sex = np.zeros(n_samples, np.int8)
        self.variant_contig = np.zeros(n_variants, np.int32)
        self.variant_position = np.arange(1, n_variants + 1)
        self.variant_id = self.ref = self.alt = np.full(n_variants, "")

    def chunk_range(self, chunk: int) -> tuple[int, int]:
        """Give the half-open range of variants of a chunk."""
        return chunk * self.chunk_variants, min((chunk + 1) * self.chunk_variants, self.n_variants)

    def read_rows(self, chunk: int) -> Rows:
        """Give the rows of a chunk."""
        return self.rows[slice(*self.chunk_range(chunk))]

    def read_quality(self, variants: NDArray[np.int64]) -> Quality | None:
        """Give nothing: hard calls."""
        return None


def _draw(rng: np.random.Generator, frequency: Matrix, n_samples: int, missing: float) -> Rows:
    """Draw packed rows; each variant misses between none and twice `missing` of its calls."""
    shape = (len(frequency), n_samples)
    calls = np.zeros(shape, np.float32)
    for _ in range(2):
        calls += rng.random(shape, np.float32) < frequency[:, None]
    calls[rng.random(shape, np.float32) < 2 * missing * rng.random((len(frequency), 1))] = np.nan
    return rows_from_dosages(calls, Encoding.CALLS)
