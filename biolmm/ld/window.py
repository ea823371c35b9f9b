"""How far apart two variants may be to be compared."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import ParameterError

_UNITS = {"kb": 1_000, "mb": 1_000_000, "bp": 1}
_ADVICE = "Give a number of variants or a length, for example 500 or 1000kb."


@dataclass(frozen=True)
class Window:
    """So many consecutive variants of a contig, or all variants within so many base pairs behind its first one.

    Attributes
    ----------
    size
        Variants, or base pairs: positions p to p + size, both included.
    in_bp
        Which of the two.
    """

    size: int
    in_bp: bool = False

    def __post_init__(self) -> None:
        """Check the size.

        Raises
        ------
        ParameterError
            When no two variants can be in a window.
        """
        if self.size < (1 if self.in_bp else 2):
            raise ParameterError(f"a window of {self} never holds two variants. {_ADVICE}")

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read `500` (variants), `1000kb`, `1mb` or `5000bp`.

        Raises
        ------
        ParameterError
            When it is none of them.

        Examples
        --------
        >>> Window.parse("500"), Window.parse("1000kb")
        (Window(size=500, in_bp=False), Window(size=1000000, in_bp=True))
        """
        match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]+)?)\s*(kb|mb|bp)?", text.strip().lower())
        size = float(match[1]) * _UNITS[match[2] or "bp"] if match else 0.5
        if match is None or size != round(size):
            raise ParameterError(f"'{text}' is not a window. {_ADVICE}")
        return cls(round(size), in_bp=match[2] is not None)

    def __str__(self) -> str:
        """Write it as it is read."""
        return f"{self.size / 1000:g}kb" if self.in_bp else f"{self.size} variants"

    def ends(self, position: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Give the end (exclusive) of every window: window w starts at variant w·step; the last reaches the last variant.

        Parameters
        ----------
        position
            (m,) Positions of the variants of one contig; ascending where the window is a length.

        Examples
        --------
        >>> Window(3).ends(np.arange(6), step=2)
        array([3, 5, 6])
        >>> Window(10, in_bp=True).ends(np.array([1, 5, 11, 12, 99]), step=1)
        array([3, 4, 4, 4, 5])
        """
        m = len(position)
        starts = np.arange(0, m, step)
        if self.in_bp:
            return np.searchsorted(position, position[starts] + self.size, side="right").astype(np.int64)
        ends = np.minimum(starts + self.size, m)
        return ends[: 1 + np.count_nonzero(ends < m)].astype(np.int64)
