"""Effects of place: covariance that falls with distance.

Matérn functions of smoothness ½, 3/2 and 5/2 and their limit, the Gaussian (Rasmussen & Williams 2006, chapter 4). On the
globe distance is the chord through the Earth: a Matérn function of smoothness above ½ of the distance along the surface
is no covariance (Gneiting 2013, doi 10.3150/12-BEJSP06), and the two differ by 0.1 % at 1,000 km.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from biolmm.errors import ParameterError

Shape = Literal["matern12", "matern32", "matern52", "gaussian"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG)."""
TILE_ROWS = 1024

_FUNCTIONS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "matern12": lambda d: np.exp(-d),
    "matern32": lambda d: (1 + np.sqrt(3) * d) * np.exp(-np.sqrt(3) * d),
    "matern52": lambda d: (1 + np.sqrt(5) * d + 5 / 3 * d**2) * np.exp(-np.sqrt(5) * d),
    "gaussian": lambda d: np.exp(-0.5 * d**2),
}


def covariance_function(shape: Shape, distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlation at distances in units of the range.

    Examples
    --------
    >>> covariance_function("matern12", np.array([0.0, 1.0])).round(4).tolist()
    [1.0, 0.3679]
    """
    return _FUNCTIONS[shape](distance)


def globe_points(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points on the globe in space, (N, 3) km, from degrees.

    Raises
    ------
    ParameterError
        When a latitude is beyond ±90 or a longitude beyond ±360 degrees.

    Examples
    --------
    >>> globe_points(np.array([90.0]), np.array([0.0])).round(1).tolist()
    [[0.0, 0.0, 6371.0]]
    """
    if np.abs(latitude).max() > 90 or np.abs(longitude).max() > 360:
        raise ParameterError(
            f"latitudes reach {np.abs(latitude).max():g} and longitudes {np.abs(longitude).max():g} degrees: they must be "
            "within 90 and 360. Are the two columns exchanged, or projected? Then say metric=euclidean."
        )
    north, east = np.radians(latitude), np.radians(longitude)
    unit = np.column_stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])
    return EARTH_RADIUS_KM * unit


@dataclass(frozen=True, eq=False)
class SpatialKernel:
    """`k(‖pᵢ − pⱼ‖ / range)`.

    Attributes
    ----------
    points
        (N, d) coordinates.
    range_
        Distance at which correlation has fallen to about a third, in units of the points.
    shape
        Of the function.

    Notes
    -----
    **Cost**: a product computes N² distances again, a tile of rows at a time; nothing of size N² is held.
    """

    points: NDArray[np.float64]
    range_: float
    shape: Shape = "matern32"

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ParameterError(f"There is no spatial kernel '{self.shape}': use one of {', '.join(SHAPES)}.")
        if not (np.isfinite(self.range_) and self.range_ > 0):
            raise ParameterError(f"The range of a spatial kernel is {self.range_:g}: it must be positive.")

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.points)

    def product(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `K X`."""
        Y = np.empty(X.shape, np.float32)
        for start in range(0, len(self.points), TILE_ROWS):
            Y[start : start + TILE_ROWS] = self._rows(start, start + TILE_ROWS).astype(np.float32) @ X
        return Y

    def diagonal(self) -> NDArray[np.float64]:
        """Return ones."""
        return np.ones(len(self.points))

    def dense(self) -> NDArray[np.float64]:
        """Return the matrix."""
        return self._rows(0, len(self.points))

    def _rows(self, start: int, stop: int) -> NDArray[np.float64]:
        return covariance_function(self.shape, cdist(self.points[start:stop], self.points) / self.range_)


def range_grid(points: NDArray[np.float64], n_values: int = 6) -> NDArray[np.float64]:
    """Return ranges to try: evenly spaced in their logarithm, from near neighbours to half of the extent, (n_values,).

    Raises
    ------
    ParameterError
        When everybody is in the same place.
    """
    step = max(1, len(points) // 1000)
    some = points[::step]
    distances = cdist(some, some)
    apart = distances[distances > 0]
    if not len(apart):
        raise ParameterError("all samples have the same coordinates: a spatial term needs different places.")
    return np.geomspace(np.quantile(apart, 0.02), apart.max() / 2, n_values)
