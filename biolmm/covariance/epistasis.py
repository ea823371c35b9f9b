"""Pairwise interaction between variants: `K ∘ K`.

The covariance of all products of two variants' effects, up to terms of the order of one over their number (Henderson 1985;
Jiang & Reif 2015, doi 10.1534/genetics.115.177907). The elementwise product of operators is no operator: this term is dense.
"""

from __future__ import annotations

from biolmm.covariance.terms import DenseKernel, Kernel
from biolmm.errors import MemoryBudgetError
from biolmm.memory import format_bytes


def epistasis_bytes(n_samples: int) -> int:
    """Return what the dense matrix takes while it is made and used: two in double and one in single precision."""
    return 20 * n_samples**2


def epistasis_kernel(kernel: Kernel, memory_bytes: int, other: Kernel | None = None) -> DenseKernel:
    """Return `K ∘ K`, or `K ∘ L` of two kernels.

    Raises
    ------
    MemoryBudgetError
        When the dense matrix does not fit the budget.
    """
    need = epistasis_bytes(kernel.n_samples)
    if need > memory_bytes:
        raise MemoryBudgetError(
            f"epistasis needs the relatedness of {kernel.n_samples:,} samples as a dense matrix, {format_bytes(need)}, but "
            f"--memory leaves {format_bytes(memory_bytes)}: raise it, analyse fewer samples, or drop the term."
        )
    K = kernel.dense()
    return DenseKernel(K * (K if other is None else other.dense()))
