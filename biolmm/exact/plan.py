"""What the exact model costs, and where it ends."""

from __future__ import annotations

from dataclasses import dataclass

from biolmm.chunks import n_threads
from biolmm.errors import ParameterError
from biolmm.exact.axis import N_FUNCTIONS
from biolmm.exact.blocks import TILE_BYTES
from biolmm.memory import Need, StagePlan, format_bytes

MAX_SAMPLES = 20_000
"""Beyond this many samples one eigendecomposition takes a day on two cores, and the streaming solver is the better tool."""
FLOP_PER_SECOND = 2.5e10
"""What an eigendecomposition in double precision reaches on one core; for the sentence that refuses."""


@dataclass(frozen=True)
class ExactShape:
    """Sizes that decide what the exact model costs.

    Attributes
    ----------
    n_samples, n_variants, n_scanned, n_traits, n_covariates
        N, variants of the relatedness matrix, variants tested, T, C.
    n_systems
        Sets of traits observed on the same samples.
    n_matrices
        Relatedness matrices that are decomposed for each: 1, or with LOCO one a contig and the whole.
    read_bytes, scan_bytes
        Of one pass over the model's variants, and over those that are tested.
    """

    n_samples: int
    n_variants: int
    n_scanned: int
    n_traits: int
    n_systems: int
    n_matrices: int
    read_bytes: int
    scan_bytes: int
    n_covariates: int = 1

    @property
    def eigen_flop(self) -> float:
        """Operations of all eigendecompositions."""
        each = 9.0 + (4 / 3 if self.n_covariates > 1 else 0.0)
        return each * float(self.n_samples) ** 3 * self.n_systems * self.n_matrices

    @property
    def eigen_bytes(self) -> int:
        """Bytes of the matrices at hand during one: K, K₋c, PKP and the workspace of LAPACK's dsyevd."""
        return 6 * 8 * self.n_samples**2


def check_size(shape: ExactShape) -> None:
    """Refuse cohorts for which the exact model is the wrong tool.

    Raises
    ------
    ParameterError
        Above `MAX_SAMPLES` samples, with what it would cost.
    """
    if shape.n_samples <= MAX_SAMPLES:
        return
    hours = shape.eigen_flop / (FLOP_PER_SECOND * n_threads()) / 3600
    raise ParameterError(
        f"--method exact takes at most {MAX_SAMPLES:,} samples, but there are {shape.n_samples:,}: "
        f"{shape.n_systems * shape.n_matrices:,} eigendecompositions would take about {hours:,.0f} hours on {n_threads()} "
        f"threads and {format_bytes(shape.eigen_bytes)}. Use --method mixed, or choose fewer samples with --keep."
    )


def plan_exact(shape: ExactShape, needs: tuple[Need, ...] = ()) -> list[StagePlan]:
    """Return the plan of the eigendecompositions and of the tests.

    Parameters
    ----------
    shape
        Sizes.
    needs
        What is held beside: libraries, chunks of genotypes.

    Raises
    ------
    ParameterError
        See `check_size`.
    """
    check_size(shape)
    n, threads = shape.n_samples, n_threads()
    tile = min(max(TILE_BYTES // (8 * n), 32), 512) * n * 8
    tables = n * N_FUNCTIONS * 8
    partial = (threads + 4) * n * n * 8
    kept = Need("eigenvectors", shape.n_systems * (8 * n * n + tables))
    eigen = StagePlan(
        stage="eigendecomposition",
        n_passes=1 + (shape.n_matrices > 1),
        read_bytes=shape.read_bytes * (1 + (shape.n_matrices > 1)),
        flop=2.0 * n * n * shape.n_variants * (1 + (shape.n_matrices > 1)) + shape.eigen_flop,
        needs=(*needs, Need("relatedness matrices and workspace", max(shape.eigen_bytes, partial + 8 * n * n)), kept),
    )
    tests = StagePlan(
        stage="exact tests",
        n_passes=1,
        read_bytes=shape.scan_bytes,
        written_bytes=110 * shape.n_scanned * shape.n_traits,
        flop=(2.0 * n * n * shape.n_systems + 4.0 * N_FUNCTIONS * n * shape.n_traits) * shape.n_scanned,
        needs=(*needs, Need("relatedness matrix", 8 * n * n), kept, Need("blocks of variants", threads * 6 * tile)),
    )
    return [eigen, tests]
