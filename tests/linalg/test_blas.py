"""`Y += AB` and `Y += AᵀB`."""

from __future__ import annotations

import numpy as np
import pytest

from biolmm.linalg.blas import add_gram, add_product


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("b", "s", "r"), [(1, 1, 1), (7, 5, 3), (1, 6, 2), (64, 33, 17), (3, 1, 4), (0, 2, 2), (2, 0, 1)]
)
def test_adds_the_product_to_what_is_there(dtype: type, b: int, s: int, r: int) -> None:
    rng = np.random.default_rng([b, s, r])
    # Small integers: sums are exact in either precision, so the comparison is too.
    Y, A, B = (rng.integers(-8, 9, shape).astype(dtype) for shape in ((s, r), (b, s), (b, r)))
    expected = Y + A.T @ B
    add_product(Y, A, B, transposed=True)
    np.testing.assert_array_equal(Y, expected)
    add_product(Y, np.ascontiguousarray(A.T), B)
    np.testing.assert_array_equal(Y, expected + A.T @ B)


def test_takes_windows_of_larger_arrays() -> None:
    rng = np.random.default_rng(1)
    whole_Y, whole_A, whole_B = (rng.integers(0, 5, (20, 20)).astype(np.float32) for _ in range(3))
    Y, A, B = whole_Y[2:8, 3:7], whole_A[:10, 5:11], whole_B[4:14, :4]
    outside, expected = whole_Y.copy(), Y + A.T @ B
    add_product(Y, A, B, transposed=True)
    np.testing.assert_array_equal(Y, expected)
    outside[2:8, 3:7] = expected
    np.testing.assert_array_equal(whole_Y, outside)


def test_takes_a_vector_seen_as_one_row() -> None:
    Y, row = np.zeros((3, 2)), np.arange(3.0)
    add_product(Y, row[None, :], np.array([1.0, 10.0])[None, :], transposed=True)
    np.testing.assert_array_equal(Y, np.outer(row, [1.0, 10.0]))


def _read_only() -> np.ndarray:
    Y = np.zeros((2, 2))
    Y.flags.writeable = False
    return Y


@pytest.mark.parametrize(
    ("Y", "A", "B"),
    [
        (np.zeros((2, 2)), np.zeros((3, 3)), np.zeros((3, 2))),
        (np.zeros((2, 2)), np.zeros((3, 2)), np.zeros((4, 2))),
        (np.zeros((2, 2)), np.zeros((3, 2), np.float32), np.zeros((3, 2))),
        (np.zeros((2, 2)).T[:, ::-1], np.zeros((3, 2)), np.zeros((3, 2))),
        (np.zeros((2, 2)), np.zeros((2, 3)).T, np.zeros((3, 2))),
        (np.zeros((2, 2)), np.zeros((3, 2))[::-1], np.zeros((3, 2))),
        (np.zeros((2, 2)), np.broadcast_to(np.zeros(2), (3, 2)), np.zeros((3, 2))),
        (_read_only(), np.zeros((3, 2)), np.zeros((3, 2))),
    ],
    ids=["rows", "length", "type", "result transposed", "transposed", "reversed", "repeated", "read-only"],
)
def test_refuses_what_blas_would_misread(Y: np.ndarray, A: np.ndarray, B: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"cannot add|contiguous"):
        add_product(Y, A, B, transposed=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("b", "s"), [(1, 1), (5, 3), (3, 5), (0, 4), (17, 64)])
def test_adds_the_upper_triangle_of_a_gram_matrix(dtype: type, b: int, s: int) -> None:
    rng = np.random.default_rng(b + s)
    whole_Y, whole_A = (
        rng.integers(0, 5, (s + 3, s + 9)).astype(dtype),
        rng.integers(0, 5, (b + 2, s + 6)).astype(dtype),
    )
    Y, A = whole_Y[2 : s + 2, 3 : s + 3], whole_A[:b, 5 : s + 5]
    expected = whole_Y.copy()
    expected[2 : s + 2, 3 : s + 3] += np.triu(A.T @ A)
    add_gram(Y, A)
    np.testing.assert_array_equal(whole_Y, expected)


@pytest.mark.parametrize(
    ("Y", "A"),
    [
        (np.zeros((2, 3)), np.zeros((4, 2))),
        (np.zeros((2, 2)), np.zeros((4, 2), np.float32)),
        (np.zeros((2, 2)), np.zeros((2, 4)).T),
        (_read_only(), np.zeros((3, 2))),
    ],
    ids=["shape", "type", "transposed", "read-only"],
)
def test_refuses_a_gram_matrix_that_blas_would_misread(Y: np.ndarray, A: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"cannot add|contiguous"):
        add_gram(Y, A)
