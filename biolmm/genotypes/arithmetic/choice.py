"""Which arithmetic an analysis asks for, and what that is on this machine."""

from __future__ import annotations

from typing import Literal

from biolmm.errors import ParameterError
from biolmm.genotypes.arithmetic.float32 import Float32
from biolmm.genotypes.arithmetic.protocol import Arithmetic

Precision = Literal["auto", "float32", "int8", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "float32", "int8", "bfloat16")


def arithmetic_of(precision: str, device: str | None = None) -> Arithmetic:
    """Return an arithmetic.

    Parameters
    ----------
    precision
        `auto`: `int8` where the processor has the instructions, else `float32`; or one of them by name, also by the name
        that an arithmetic has (`bfloat16-torch-cuda`).
    device
        Computes with PyTorch there, such as `cuda`; see `torch_arithmetic`.

    Raises
    ------
    ParameterError
        When there is none of that name, or this processor cannot do it.

    Examples
    --------
    >>> arithmetic_of("float32").name
    'float32'
    """
    precision, by_torch, named = precision.partition("-torch-")
    if precision not in PRECISIONS:
        raise ParameterError(f"There is no precision {precision!r}: use one of {', '.join(PRECISIONS)}.")
    if device is not None or by_torch:
        from biolmm.genotypes.arithmetic.pytorch import torch_arithmetic

        return torch_arithmetic(precision, device or named)
    if precision == "bfloat16":
        raise ParameterError(
            "--precision bfloat16 is for a CUDA device: use it with --device cuda, or --precision auto."
        )
    if precision == "float32":
        return Float32()
    # Imported where it is wanted: Numba is told about instructions that not every processor has.
    from biolmm.genotypes.arithmetic.int8 import Int8, check_processor
    from biolmm.genotypes.arithmetic.vnni import missing_features

    if precision == "auto" and missing_features():
        return Float32()
    check_processor()
    return Int8()
