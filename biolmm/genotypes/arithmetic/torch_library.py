"""PyTorch, where it is installed: found when it is first asked for, never imported before."""

from __future__ import annotations

import re
import threading
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from biolmm.errors import ParameterError

Tensor = Any
"""An array of PyTorch, which carries no types where it is not installed."""

_INSTALL = 'pip install "biolmm[torch]"'
_own = threading.local()


def load_torch() -> Any:
    """Return the module `torch`, on one thread a task, as the passes' other products are.

    Raises
    ------
    ParameterError
        When PyTorch is not installed or cannot be loaded.

    Notes
    -----
    The number of threads is PyTorch's own setting, of this process: a program that uses PyTorch beside biolmm sets its own
    afterwards.
    """
    try:
        torch = import_module("torch")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise ParameterError(f"PyTorch is installed without {error.name}, which it needs: {_INSTALL}.") from error
        raise ParameterError(f"this arithmetic is PyTorch's, which is not installed: {_INSTALL}.") from error
    except (ImportError, OSError) as error:  # a library of the system that it was built for
        reason = str(error).splitlines()[0]
        raise ParameterError(f"PyTorch is installed but cannot be loaded ({reason}): {_INSTALL}.") from error
    if not getattr(_own, "limited", False):
        torch.set_num_threads(1)  # counts in the thread that calls it
        _own.limited = True
    return torch


def check_device(device: str) -> None:
    """Raise an error where a device is not `cpu`, `cuda` or `cuda:K`, or not there.

    Raises
    ------
    ParameterError
        With what is there.
    """
    found = re.fullmatch(r"cpu|cuda(?::(\d+))?", device)
    if found is None:
        raise ParameterError(f"device is {device!r} but must be cpu, cuda, or cuda:K for the K-th, counted from 0.")
    torch = load_torch()
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        built = torch.version.cuda
        reason = "no NVIDIA driver or device is found" if built else "this PyTorch is built without CUDA"
        raise ParameterError(f"device {device} is not there: {reason}; leave it out, or run on a machine with one.")
    n_devices = torch.cuda.device_count()
    if found[1] is not None and int(found[1]) >= n_devices:
        raise ParameterError(f"device {device} is not there: {n_devices} found, the last is cuda:{n_devices - 1}.")


@cache
def check_bytes() -> None:
    """Raise an error where PyTorch's products of bytes are not exact on this processor.

    Raises
    ------
    ParameterError
        When they are not: some processors without instructions for it saturate sums of two products.
    """
    torch = load_torch()
    left = np.full((33, 130), 126, np.int8)
    left[::2] = -127
    right = np.full((130, 18), 127, np.int8)
    right[:, ::3] = -128
    if not hasattr(torch, "_int_mm"):
        raise ParameterError(
            f"PyTorch {torch.__version__} has no products of bytes, which later ones have: {_INSTALL}."
        )
    found = torch._int_mm(torch.from_numpy(left), torch.from_numpy(right)).numpy()
    if not np.array_equal(found, left.astype(np.int64) @ right.astype(np.int64)):
        raise ParameterError("PyTorch's products of bytes are not exact on this processor: use --precision float32.")
