"""The optional arithmetics of a pass by PyTorch: bytes on a processor, bfloat16 or single precision on a CUDA device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import ParameterError
from biolmm.genotypes.arithmetic.protocol import Operand
from biolmm.genotypes.arithmetic.torch_device import DeviceOperand
from biolmm.genotypes.arithmetic.torch_int8 import TorchInt8Operand
from biolmm.genotypes.arithmetic.torch_library import check_bytes, check_device, load_torch

TorchPrecision = Literal["bfloat16", "float32", "int8"]


@dataclass(frozen=True)
class TorchArithmetic:
    """Products by PyTorch.

    Attributes
    ----------
    precision
        Of the products: `int8` on a processor, `bfloat16` or `float32` on a device. On `cpu` the latter two take the
        device's steps, slowly: to see what a device computes.
    device
        `cpu`, `cuda` or `cuda:K`.
    """

    precision: TorchPrecision = "bfloat16"
    device: str = "cuda"

    @property
    def name(self) -> str:
        """What records and keys call it; alike for all devices of a kind."""
        return f"{self.precision}-torch-{self.device.partition(':')[0]}"

    def operand(self, X: NDArray[np.float32]) -> Operand:
        """Take the columns; they are rounded, and sent to the device, where they are multiplied."""
        X = np.ascontiguousarray(X, np.float32)
        if self.precision == "int8":
            return TorchInt8Operand(X)
        return DeviceOperand(X, self.precision, self.device)


def torch_arithmetic(precision: str = "auto", device: str = "cuda") -> TorchArithmetic:
    """Return the arithmetic of a precision on a device, both by the names of the command line.

    Parameters
    ----------
    precision
        `auto`: the fastest that is accurate on the device, which is bfloat16 on `cuda` and int8 on `cpu`; else `bfloat16`,
        `float32` or `int8`.
    device
        `cpu`, `cuda` or `cuda:K`.

    Raises
    ------
    ParameterError
        When PyTorch is not installed, the device is not there, or it has no such products.
    """
    load_torch()
    check_device(device)
    if device == "cpu":
        if precision not in ("auto", "int8"):
            raise ParameterError(
                f"--precision {precision} is not for PyTorch on a processor, where bfloat16 products are themselves "
                "rounded to 8 bits and float32 is slower than without PyTorch: use int8, or leave --device out."
            )
        check_bytes()
        return TorchArithmetic("int8", device)
    if precision in ("auto", "bfloat16"):
        return TorchArithmetic("bfloat16", device)
    if precision == "float32":
        return TorchArithmetic("float32", device)
    raise ParameterError(f"--precision {precision} is not for --device {device}: use bfloat16 or float32.")
