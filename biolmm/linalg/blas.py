"""`Y += A B`, `Y += Aᵀ B` and `Y += Aᵀ A` in place and without the interpreter's lock.

NumPy has no accumulating product and SciPy's wrappers hold the lock; both matter in a pass, which runs one product
after another in every thread. SciPy exports its BLAS to compiled callers; that pointer is called here.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import scipy.linalg.cython_blas as _cython_blas
from numpy.typing import NDArray

_pointer = ctypes.c_void_p


def _load(name: str, n_arguments: int = 13) -> Any:
    capsule = _cython_blas.__pyx_capi__[name]
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = _pointer, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(None, *[_pointer] * n_arguments)(get_pointer(capsule, get_name(capsule)))


_GEMM = {
    np.dtype(np.float32): (_load("sgemm"), ctypes.c_float),
    np.dtype(np.float64): (_load("dgemm"), ctypes.c_double),
}
_SYRK = {
    np.dtype(np.float32): (_load("ssyrk", 10), ctypes.c_float),
    np.dtype(np.float64): (_load("dsyrk", 10), ctypes.c_double),
}
_PLAIN = ctypes.c_char_p(b"N")
_LOWER = ctypes.c_char_p(b"L")
_TRANSPOSED = ctypes.c_char_p(b"T")


def add_product(Y: NDArray[Any], A: NDArray[Any], B: NDArray[Any], *, transposed: bool = False) -> None:
    """Add `AB` to `Y` in place, or `AᵀB` where A is to be `transposed`.

    Parameters
    ----------
    Y
        (s, r), the elements of a row contiguous; float32 or float64.
    A
        (s, b), or (b, s) where it is to be transposed; same layout and type.
    B
        (b, r), same layout and type.
    transposed
        Use Aᵀ.

    Raises
    ------
    ValueError
        When shapes, types or memory layout do not fit.

    Examples
    --------
    >>> Y = np.zeros((2, 1)); add_product(Y, np.array([[1.0, 2.0]]), np.array([[3.0]]), transposed=True); Y.ravel()
    array([3., 6.])
    """
    s, b = A.shape[::-1] if transposed else A.shape
    r = B.shape[1]
    if Y.shape != (s, r) or B.shape[0] != b or not Y.dtype == A.dtype == B.dtype:
        sign = "ᵀ" if transposed else ""
        raise ValueError(f"cannot add {A.shape}{sign} {B.shape} ({A.dtype}, {B.dtype}) to {Y.shape} ({Y.dtype})")
    if not Y.flags.writeable:
        raise ValueError("the rows of the result must be contiguous and writeable")
    if 0 in (b, s, r):
        return
    steps = [_int(_row_step(matrix)) for matrix in (B, A, Y)]
    gemm, real = _GEMM[Y.dtype]
    one = real(1.0)
    # In BLAS's column-major eyes all three are transposed: Yᵀ += Bᵀ Aᵀ, or Yᵀ += Bᵀ A with A given as its transpose.
    gemm(
        _PLAIN, _TRANSPOSED if transposed else _PLAIN, _int(r), _int(s), _int(b), ctypes.byref(one),
        B.ctypes.data, steps[0], A.ctypes.data, steps[1],
        ctypes.byref(one), Y.ctypes.data, steps[2],
    )  # fmt: skip


def add_gram(Y: NDArray[Any], A: NDArray[Any]) -> None:
    """Add the upper triangle of `AᵀA` to that of `Y` in place; what is below the diagonal of `Y` stays.

    Parameters
    ----------
    Y
        (s, s), the elements of a row contiguous; float32 or float64.
    A
        (b, s), same layout and type.

    Raises
    ------
    ValueError
        When shapes, types or memory layout do not fit.

    Examples
    --------
    >>> Y = np.zeros((2, 2)); add_gram(Y, np.array([[1.0, 2.0]])); Y.tolist()
    [[1.0, 2.0], [0.0, 4.0]]
    """
    b, s = A.shape
    if Y.shape != (s, s) or Y.dtype != A.dtype:
        raise ValueError(f"cannot add the square of {A.shape} ({A.dtype}) to {Y.shape} ({Y.dtype})")
    if not Y.flags.writeable:
        raise ValueError("the rows of the result must be contiguous and writeable")
    if 0 in (b, s):
        return
    steps = [_int(_row_step(matrix)) for matrix in (A, Y)]
    syrk, real = _SYRK[Y.dtype]
    one = real(1.0)
    # In BLAS's column-major eyes A is its own transpose, and the upper triangle of Y the lower one.
    syrk(
        _LOWER, _PLAIN, _int(s), _int(b), ctypes.byref(one), A.ctypes.data, steps[0],
        ctypes.byref(one), Y.ctypes.data, steps[1],
    )  # fmt: skip


def _row_step(matrix: NDArray[Any]) -> int:
    """Return the elements from one row to the next; BLAS wants at least a row's length, even of a single row."""
    n_rows, n_columns = matrix.shape
    step, rest = divmod(matrix.strides[0], matrix.itemsize)
    if n_columns > 1 and matrix.strides[1] != matrix.itemsize:
        raise ValueError("the elements of a row must be contiguous")
    if n_rows > 1 and (step < n_columns or rest):
        raise ValueError("rows must be contiguous, ascending and apart from each other")
    return int(max(step, n_columns))


def _int(value: int) -> Any:
    return ctypes.byref(ctypes.c_int(value))
