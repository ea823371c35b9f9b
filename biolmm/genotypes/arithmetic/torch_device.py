"""Products on a device by PyTorch: packed rows go there once, and are unpacked, standardised and multiplied there.

Legend: z = slope · g + z₀, z₃ where missing; b variants, N samples (n with padding), r columns.

In bfloat16, whose eight bits hold 0, 1, 2 and a byte's dosage exactly, the standardisation stays outside of the products:

    z x  = slope · Σ t (x₁ + x₂) + z₀ · Σ (x₁ + x₂) + e · Σ_missing x₁        t = g, and where missing t₃ ≈ (z₃ − z₀)/slope
    zᵀ w = Σ t (u₁ + u₂) + Σ z₀/slope (u₁ + u₂) + Σ_missing (e w)₁             u = slope · w; e = z₃ − slope · t₃ − z₀

with each number the sum of two of eight bits, v ≈ v₁ + v₂. Products are added up in single precision.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import MemoryBudgetError
from biolmm.files.encoding import Encoding
from biolmm.genotypes.arithmetic.float32 import Float32Operand
from biolmm.genotypes.arithmetic.protocol import Tasks
from biolmm.genotypes.arithmetic.torch_library import Tensor, check_device, load_torch
from biolmm.genotypes.source import RowReader
from biolmm.genotypes.standardised import PartitionTask

DevicePrecision = Literal["bfloat16", "float32"]

TILE_ELEMENTS = 2**27
"""Genotypes unpacked at a time: about 1.5 GiB with what lies between the codes and the tile."""
MAX_VARIANTS = 8_192
SPARED = 0.25
"""The part of the device's memory that kept rows leave for tiles and columns."""


@dataclass(frozen=True)
class DeviceOperand:
    """A block of columns for products on a device.

    Attributes
    ----------
    X
        (N, r).
    precision
        Of the products.
    device
        `cuda`, `cuda:K`, or `cpu`, where the same steps are taken slowly.
    """

    X: NDArray[np.float32]
    precision: DevicePrecision
    device: str

    def product(self, tasks: Tasks, reader: RowReader, left_out: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Return `Σ_p Z_pᵀ Z_p X`, (N, r).

        Raises
        ------
        ParameterError
            When PyTorch or the device is not there.
        MemoryBudgetError
            When the columns and a tile do not fit in the device's memory.

        Notes
        -----
        Threads read rows side by side; one at a time has the device.
        """
        there = [task for task in tasks if task.male_tables is None]
        here = [task for task in tasks if task.male_tables is not None]
        Y = np.zeros(self.X.shape, np.float32)
        if there and Y.size:
            Y += get_device(self.device).product(self, there, reader, left_out)
        if here:
            Y += Float32Operand(self.X).product(here, reader, left_out)
        return Y


@dataclass(frozen=True)
class _Staged:
    """Rows of a partition on the device or on their way; `ready` is what a stream waits for."""

    rows: Tensor
    has_missing: bool
    ready: Tensor | None = None


class Device:
    """One device of this process: who has it, the stream of copies, and the rows that it keeps between passes.

    Parameters
    ----------
    name
        `cuda`, `cuda:K` or `cpu`.
    kept_bytes
        Memory for kept rows; by default what is free when they arrive, but for a quarter of the whole.
    """

    def __init__(self, name: str, kept_bytes: int | None = None) -> None:
        check_device(name)
        self.torch = torch = load_torch()
        self.device = torch.device("cuda:0" if name == "cuda" else name)
        self.is_cuda = self.device.type == "cuda"
        self._kept_bytes = kept_bytes if kept_bytes is not None or self.is_cuda else 0
        self._rows: dict[tuple[str, int], _Staged] = {}
        self._columns: _Columns | None = None
        self._lock = threading.Lock()
        if self.is_cuda:
            self._copies, self._products = torch.cuda.Stream(self.device), torch.cuda.Stream(self.device)
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
            torch.set_float32_matmul_precision("highest")  # else products of float32 are of 11 bits

    def product(
        self, operand: DeviceOperand, tasks: Tasks, reader: RowReader, left_out: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
        """Return `Σ_p Z_pᵀ Z_p X`, (N, r), of partitions that count alike in everybody; the device is taken meanwhile."""
        load_torch()
        waiting = [None if self._kept(reader, task) else _pinned(self, reader, task) for task in tasks]
        with self._lock:
            try:
                return self._product(operand, tasks, waiting, reader, left_out)
            except self.torch.cuda.OutOfMemoryError as error:
                self._rows.clear()
                self._columns = None
                raise MemoryBudgetError(
                    f"the memory of device {self.device} does not hold {operand.X.shape[1]} columns of "
                    f"{operand.X.shape[0]:,} samples and a tile of genotypes ({str(error).splitlines()[0]}): give the "
                    "process less memory for columns (--memory), or use --device cpu."
                ) from error

    def _product(
        self,
        operand: DeviceOperand,
        tasks: Tasks,
        waiting: Sequence[_Staged | None],
        reader: RowReader,
        left_out: NDArray[np.int64] | None,
    ) -> NDArray[np.float32]:
        torch = self.torch
        copies, products = nullcontext(), nullcontext()
        if self.is_cuda:
            torch.cuda.set_device(self.device)  # of this thread
            copies, products = torch.cuda.stream(self._copies), torch.cuda.stream(self._products)
        with copies:
            staged = [self._sent(reader, *each) for each in zip(tasks, waiting, strict=True)]
        with products:
            if self._columns is None or self._columns.operand is not operand or self._columns.reader is not reader:
                self._columns = None  # the last pass's go before this one's come
                self._columns = _Columns(self, operand, reader)
            return _Pass(self, self._columns).over(tasks, staged, left_out)

    def wait_for(self, staged: _Staged) -> Tensor:
        """Return rows once they are there; the wait is the stream's, not the caller's."""
        if staged.ready is not None:
            self._products.wait_event(staged.ready)
            staged.rows.record_stream(self._products)
        return staged.rows

    def _kept(self, reader: RowReader, task: PartitionTask) -> _Staged | None:
        return self._rows.get((reader.key, task.partition.index))

    def _sent(self, reader: RowReader, task: PartitionTask, waiting: _Staged | None) -> _Staged:
        """Send rows to the device, and keep them there where there is room."""
        key = (reader.key, task.partition.index)
        kept = self._rows.get(key)
        if kept is not None:
            return kept
        if waiting is None:  # kept before, and dropped since for want of memory
            waiting = _pinned(self, reader, task)
        rows = waiting.rows.to(self.device, non_blocking=True)
        ready = None
        if self.is_cuda:
            ready = self.torch.cuda.Event()
            ready.record()
        staged = _Staged(rows, waiting.has_missing, ready)
        if self._room(key[0]) >= rows.nbytes:
            self._rows[key] = staged
        return staged

    def _room(self, reader_key: str) -> int:
        """Return the bytes that rows may still take, after those of other choices of samples and variants were dropped."""
        for other in [key for key in self._rows if key[0] != reader_key]:
            del self._rows[other]
        if self._kept_bytes is not None:
            return self._kept_bytes - sum(int(staged.rows.nbytes) for staged in self._rows.values())
        free, total = self.torch.cuda.mem_get_info(self.device)
        unused = self.torch.cuda.memory_reserved(self.device) - self.torch.cuda.memory_allocated(self.device)
        return int(free + unused - SPARED * total)


@cache
def get_device(name: str) -> Device:
    """Return this process's one object for a device.

    Raises
    ------
    ParameterError
        When PyTorch or the device is not there.
    """
    return Device(name)


def _pinned(device: Device, reader: RowReader, task: PartitionTask) -> _Staged:
    """Read the rows of a partition into memory that the device copies from by itself."""
    rows = np.ascontiguousarray(reader.rows(task.partition))
    if rows.dtype == np.uint16:
        rows = rows.view(np.int16)  # PyTorch computes little with unsigned words
    torch = device.torch
    held = torch.empty(rows.shape, dtype=torch.from_numpy(np.empty(0, rows.dtype)).dtype, pin_memory=device.is_cuda)
    held.numpy()[...] = rows
    return _Staged(held, _has_missing(rows, reader.encoding, reader.n_samples))


def _has_missing(rows: NDArray[np.uint8] | NDArray[np.int16], encoding: Encoding, n_samples: int) -> bool:
    """Whether a row lacks a genotype; the padding of packed rows, which looks like it, does not count."""
    if encoding is not Encoding.CALLS:
        return bool(np.any(rows.view(encoding.dtype) == encoding.missing))
    whole, rest = divmod(n_samples, 4)
    both = (rows & (rows >> 1))[:, : whole + 1] & 0x55
    if rest:
        both[:, whole:] &= 0x55 >> (8 - 2 * rest)
    else:
        both = both[:, :whole]
    return bool(both.any())


class _Columns:
    """The columns of one pass on the device, as its blocks multiply them."""

    def __init__(self, device: Device, operand: DeviceOperand, reader: RowReader) -> None:
        torch = device.torch
        self.operand, self.reader = operand, reader
        self.order = column_order(reader)
        padded = np.zeros((len(self.order), operand.X.shape[1]), np.float32)
        padded[self.order >= 0] = operand.X[self.order[self.order >= 0]]
        self.right = torch.tensor(padded, device=device.device)
        self.in_terms = operand.precision == "bfloat16" and reader.encoding is not Encoding.DOSAGE16
        if self.in_terms:
            self.right = two_terms(torch, self.right)
            sums = self.right.sum(dim=0, dtype=torch.float64).reshape(2, -1).sum(dim=0)
            self.sums = sums.to(torch.float32)


class _Pass:
    """What the blocks of one call are added to."""

    def __init__(self, device: Device, columns: _Columns) -> None:
        self.device, self.torch, self.columns = device, device.torch, columns
        self.encoding = columns.reader.encoding
        self.n_samples, self.r = columns.operand.X.shape
        shape = (len(columns.order), self.r)
        self.Y = self.torch.zeros(shape, dtype=self.torch.float32, device=device.device)

    def over(self, tasks: Tasks, staged: Sequence[_Staged], left_out: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Add the product of every partition and bring the sum back, (N, r)."""
        order = self.columns.order
        add_block = self._add_bfloat16 if self.columns.in_terms else self._add_float32
        step = int(np.clip(TILE_ELEMENTS // len(order), 1, MAX_VARIANTS))
        for task, each in zip(tasks, staged, strict=True):
            absent = None if left_out is None else left_out == task.partition.contig
            if absent is not None and absent.all():
                continue
            rows, tables = self.device.wait_for(each), self.upload(task.tables)
            without = None if absent is None or not absent.any() else self.upload(absent)
            for start in range(0, len(rows), step):
                where = slice(start, start + step)
                add_block(rows[where], tables[where], without, each.has_missing)
        found = self.Y.cpu().numpy()
        Y = np.empty((self.n_samples, self.r), np.float32)
        Y[order[order >= 0]] = found[order >= 0]
        return Y

    def upload(self, values: NDArray[np.float32] | NDArray[np.bool_]) -> Tensor:
        """Copy an array to the device."""
        return self.torch.tensor(values, device=self.device.device)

    def _codes(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the code of every genotype, (b, n), and where it is missing."""
        torch = self.torch
        if self.encoding is Encoding.CALLS:
            planes = [torch.bitwise_and(torch.bitwise_right_shift(rows, 2 * p), 3) for p in range(4)]
            codes = torch.cat(planes, dim=1)
        elif self.encoding is Encoding.DOSAGE16:
            codes = torch.bitwise_and(rows.to(torch.int32), 0xFFFF)
        else:
            codes = rows
        return codes, codes == self.encoding.missing

    def _maps(self, tables: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the slope a code, the value at zero and of a missing genotype, each (b, 1)."""
        at_zero, absent = tables[:, 0:1], tables[:, 3:4]
        return (tables[:, 2:3] - at_zero) / (2 * self.encoding.steps), at_zero, absent

    def _add_float32(self, rows: Tensor, tables: Tensor, without: Tensor | None, _has_missing: bool) -> None:
        """Add `Z_bᵀ Z_b X` in single precision."""
        torch = self.torch
        codes, missing = self._codes(rows)
        slope, at_zero, absent = self._maps(tables)
        Z = torch.where(missing, absent, torch.addcmul(at_zero, slope, codes.to(torch.float32)))
        W = Z @ self.columns.right
        if without is not None:
            W.masked_fill_(without, 0.0)
        self.Y.addmm_(Z.t(), W)

    def _add_bfloat16(self, rows: Tensor, tables: Tensor, without: Tensor | None, has_missing: bool) -> None:
        """Add `Z_bᵀ Z_b X` in products of bfloat16."""
        torch, r = self.torch, self.r
        codes, missing = self._codes(rows)
        slope, at_zero, absent = self._maps(tables)
        inverse = torch.where(slope == 0, torch.zeros_like(slope), 1 / slope)
        filler = ((absent - at_zero) * inverse).to(torch.bfloat16)
        tile = torch.where(missing, filler, codes.to(torch.bfloat16))
        products = self._multiplied(tile, self.columns.right)
        W = slope * (products[:, :r] + products[:, r:]) + at_zero * self.columns.sums
        if has_missing:
            excess = absent - slope * filler.to(torch.float32) - at_zero
            marks = missing.to(torch.bfloat16)
            W += excess * self._multiplied(marks, self.columns.right[:, :r])
        if without is not None:
            W.masked_fill_(without, 0.0)
        weights = two_terms(torch, slope * W)
        products = self._multiplied(tile.t(), weights)
        both = weights[:, :r].to(torch.float32) + weights[:, r:].to(torch.float32)
        self.Y += products[:, :r] + products[:, r:] + (at_zero * inverse * both).sum(dim=0)
        if has_missing:
            self.Y += self._multiplied(marks.t(), (excess * W).to(torch.bfloat16))

    def _multiplied(self, left: Tensor, right: Tensor) -> Tensor:
        """Return a product of bfloat16 matrices in single precision."""
        if self.device.is_cuda:
            return self.torch.mm(left, right, out_dtype=self.torch.float32)
        # A processor's product would be rounded to bfloat16; products of two such numbers are exact in single precision.
        return left.to(self.torch.float32) @ right.to(self.torch.float32)


def two_terms(torch: Tensor, values: Tensor) -> Tensor:
    """Split single precision into two bfloat16 terms side by side, (n, r) to (n, 2r): 16 of the 24 bits."""
    high = values.to(torch.bfloat16)
    low = (values - high.to(torch.float32)).to(torch.bfloat16)
    return torch.cat([high, low], dim=1)


def column_order(reader: RowReader) -> NDArray[np.int64]:
    """Return which sample sits in each column of an unpacked block, −1 in the padding: packed rows unpack bit by bit."""
    if reader.encoding is not Encoding.CALLS:
        return np.arange(reader.n_samples)
    order = np.arange(4 * reader.encoding.width(reader.n_samples)).reshape(-1, 4).T.ravel()
    return np.where(order < reader.n_samples, order, -1)
