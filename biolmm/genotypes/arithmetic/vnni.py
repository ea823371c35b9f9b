"""Machine code for sums of products of bytes (`vpdpbusd`, AVX-512 VNNI), and for the unpacking that feeds it.

`vpdpbusd` multiplies 64 unsigned with 64 signed bytes and adds them up by fours into sixteen sums of 32 bits: four times
the products of a single-precision instruction. Genotypes are the unsigned side. A *word* is four of them; a *panel* is 64
lanes side by side, step by step of the reduction:

    first product, Z X      lanes are variants, a word holds four samples of one variant
    second product, Zᵀ W    lanes are samples, a word holds four variants of one sample

Both layouts come out of packed rows by shifts alone. Sixteen calls of a row are a word of 32 bits; shifted by 0, 2, 4, 6
and masked, its bytes are calls 0 4 8 12, then 1 5 9 13, and so on (`variant_order`). A byte of each of four rows makes a
word whose shifts are four samples with four variants each (`sample_order`).

Addresses are plain integers; callers see to it that memory reaches as far as it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import config, types
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES = 64
"""Lanes of a panel."""
GROUP_BYTES = 64
"""Packed bytes that are unpacked at a time."""
GROUP_SAMPLES = 4 * GROUP_BYTES
MAX_COLUMNS = 6
"""Columns of bytes that one pass over a panel multiplies: 24 accumulators of the 32 registers."""
FEATURES = ("avx512f", "avx512bw", "avx512vnni")

_VECTORS = LANES // 16
_BYTE, _WORD, _LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES, _WORDS, _QUARTER = ir.VectorType(_BYTE, 64), ir.VectorType(_WORD, 16), ir.VectorType(_BYTE, 16)


@cache
def missing_features() -> tuple[str, ...]:
    """Name what this processor lacks, or Numba was told not to use; empty where the functions below can be compiled."""
    told = getattr(config, "CPU_FEATURES", None)  # NUMBA_CPU_FEATURES
    usable = set((get_host_cpu_features() if told is None else told).split(","))
    return tuple(name for name in FEATURES if f"+{name}" not in usable)


def variant_order(n_samples: int) -> NDArray[np.int64]:
    """Return which sample is byte b of step k in `unpack_variants`, (padded, ) at position 4k + b; −1 in the padding.

    Examples
    --------
    >>> variant_order(256)[:8].tolist()
    [0, 4, 8, 12, 1, 5, 9, 13]
    """
    padded = -(-n_samples // GROUP_SAMPLES) * GROUP_SAMPLES
    order = np.arange(padded).reshape(-1, 4, 4).transpose(0, 2, 1).ravel()
    return np.where(order < n_samples, order, -1)


def sample_order() -> NDArray[np.int64]:
    """Return which of 64 consecutive samples sits in each lane of `unpack_samples`, (64,).

    Examples
    --------
    >>> sample_order()[[0, 1, 16, 17]].tolist()
    [0, 4, 1, 5]
    """
    return np.arange(LANES).reshape(16, 4).T.ravel()


def _compiled(function: Callable[..., Any]) -> Any:
    """Make a function whose code is written below callable from Numba's; typed by nobody, as all that Numba compiles."""
    return intrinsic(function)


@_compiled
def add_products(
    typing: Any, panel: Any, columns: Any, sums: Any, n_steps: Any, n_columns: Any
) -> tuple[Any, Callable[..., Any]]:
    """Add `Σ_k Σ_b panel[k, lane, b] · columns[k, c, b]` to `sums[c, lane]`.

    Addresses of: panel (n_steps, 64, 4) uint8; columns (n_steps, n_columns, 4) int8; sums (n_columns, 64) int32;
    1 ≤ n_columns ≤ 6, n_steps ≥ 1. Sums must stay below 2³¹.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        builder.call(_product_function(builder.module), arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


def _product_function(module: Any) -> Any:
    """Return the function behind `add_products`; apart from its callers, whose constants would take registers from it."""
    name = "biolmm_add_products"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_LONG] * 5), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    panel, columns, sums, n_steps, n_columns = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    end = builder.append_basic_block("end")
    switch = builder.switch(n_columns, end)
    for count in range(1, MAX_COLUMNS + 1):
        block = builder.append_basic_block(f"columns{count}")
        switch.add_case(_LONG(count), block)
        builder.position_at_end(block)
        _add_products(builder, panel, columns, sums, n_steps, count)
        builder.branch(end)
    builder.position_at_end(end)
    builder.ret_void()
    return function


def _add_products(builder: Any, panel: Any, columns: Any, sums: Any, n_steps: Any, count: int) -> None:
    """Write the loop for `count` columns: every sum stays in its register from the first step to the last."""
    dot = _declare(builder, "llvm.x86.avx512.vpdpbusd.512", _WORDS, _WORDS, _BYTES, _BYTES)

    def step(k: Any, kept: Sequence[Any]) -> list[Any]:
        left = builder.add(panel, builder.mul(k, _LONG(4 * LANES)))
        right = builder.add(columns, builder.mul(k, _LONG(4 * count)))
        genotypes = [_load(builder, left, 64 * j, _BYTES) for j in range(_VECTORS)]
        added = []
        for c in range(count):
            word = builder.bitcast(_everywhere(builder, _load(builder, right, 4 * c, _WORD)), _BYTES)
            added += [builder.call(dot, [kept[_VECTORS * c + j], genotypes[j], word]) for j in range(_VECTORS)]
        return added

    before = [_load(builder, sums, 64 * i, _WORDS) for i in range(_VECTORS * count)]
    for i, total in enumerate(_loop(builder, n_steps, before, step)):
        _store(builder, total, sums, 64 * i)


@_compiled
def unpack_variants(
    typing: Any, rows: Any, offset: Any, codes: Any, panel: Any, n_groups: Any
) -> tuple[Any, Callable[..., Any]]:
    """Unpack sixteen rows into sixteen lanes of a panel for the first product, 64 bytes of each row at a time.

    Addresses of: rows (16,) int64, themselves addresses, to which `offset` bytes are added; codes (16, 4) uint8, the byte
    of every call of a row; panel (64 · n_groups, 64, 4) uint8, from the first of the sixteen lanes.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        rows, offset, codes, panel, n_groups = arguments
        table = _load(builder, codes, 0, _BYTES)
        starts = [builder.add(_load(builder, rows, 8 * v, _LONG), offset) for v in range(16)]

        def step(group: Any, _: Sequence[Any]) -> list[Any]:
            skip = builder.mul(group, _LONG(GROUP_BYTES))
            _fetch(builder, starts, builder.add(skip, builder.mul(n_groups, _LONG(GROUP_BYTES))))
            target = builder.add(panel, builder.mul(group, _LONG(64 * 4 * LANES)))
            vectors = _transposed(builder, [_load(builder, start, skip, _WORDS) for start in starts])
            for i, words in enumerate(vectors):
                for k in range(4):
                    found = _looked_up(builder, words, k, [0x04040404 * (lane % 4) for lane in range(16)], table)
                    _store(builder, found, target, (4 * i + k) * 4 * LANES)
            return []

        _loop(builder, n_groups, [], step)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@_compiled
def unpack_samples(
    typing: Any, rows: Any, offset: Any, codes: Any, panels: Any, stride: Any, n_groups: Any
) -> tuple[Any, Callable[..., Any]]:
    """Unpack four rows into one step of the panels of the second product, 64 bytes of each row, four panels, at a time.

    Addresses of: rows (4,) int64, themselves addresses, to which `offset` bytes are added; codes (4, 4) uint8; the step in
    the first panel, (64, 4) uint8. The next panel is `stride` bytes further.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        rows, offset, codes, panels, stride, n_groups = arguments
        quarter = _load(builder, codes, 0, _QUARTER)
        table = builder.shuffle_vector(quarter, quarter, _indices([i % 16 for i in range(64)]))
        starts = [builder.add(_load(builder, rows, 8 * v, _LONG), offset) for v in range(4)]

        def step(group: Any, _: Sequence[Any]) -> list[Any]:
            skip = builder.mul(group, _LONG(GROUP_BYTES))
            _fetch(builder, starts, builder.add(skip, builder.mul(n_groups, _LONG(GROUP_BYTES))))
            for part in range(4):
                at = builder.add(skip, _LONG(16 * part))
                words = None
                for v, start in enumerate(starts):
                    calls = builder.zext(_load(builder, start, at, _QUARTER), _WORDS)
                    calls = builder.shl(calls, _constant([8 * v] * 16))
                    words = calls if words is None else builder.or_(words, calls)
                index = builder.add(builder.mul(group, _LONG(4)), _LONG(part))
                target = builder.add(panels, builder.mul(index, stride))
                for k in range(4):
                    _store(builder, _looked_up(builder, words, k, [0x0C080400] * 16, table), target, 64 * k)
            return []

        _loop(builder, n_groups, [], step)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


def _looked_up(builder: Any, words: Any, k: int, places: Sequence[int], table: Any) -> Any:
    """Return the bytes of the k-th calls of every byte of `words`; `places` says where a byte's four codes begin."""
    shuffle = _declare(builder, "llvm.x86.avx512.pshuf.b.512", _BYTES, _BYTES, _BYTES)
    calls = builder.and_(builder.lshr(words, _constant([2 * k] * 16)), _constant([0x03030303] * 16))
    return builder.call(shuffle, [table, builder.bitcast(builder.or_(calls, _constant(places)), _BYTES)])


def _transposed(builder: Any, rows: Sequence[Any]) -> Sequence[Any]:
    """Return the columns of a matrix of 16 × 16 words: four rounds that interleave each row with the eighth after it."""
    low, high = (_indices([w for i in half for w in (i, 16 + i)]) for half in (range(8), range(8, 16)))
    for _ in range(4):
        rows = [builder.shuffle_vector(rows[i], rows[i + 8], which) for i in range(8) for which in (low, high)]
    return rows


def _fetch(builder: Any, starts: Sequence[Any], ahead: Any) -> None:
    """Ask for what will be unpacked next; an address beyond the data does no harm."""
    prefetch = _declare(builder, "llvm.prefetch.p0", ir.VoidType(), _BYTE.as_pointer(), _WORD, _WORD, _WORD)
    for start in starts:
        builder.call(prefetch, [_at(builder, start, ahead, _BYTE), _WORD(0), _WORD(3), _WORD(1)])


def _loop(
    builder: Any, count: Any, carried: Sequence[Any], step: Callable[[Any, Sequence[Any]], Sequence[Any]]
) -> Sequence[Any]:
    """Write `for k in range(count): carried = step(k, carried)`, count ≥ 1, and return what is carried at the end."""
    before, inside, after = builder.block, builder.append_basic_block("step"), builder.append_basic_block("after")
    builder.branch(inside)
    builder.position_at_end(inside)
    k = builder.phi(_LONG)
    kept = [builder.phi(value.type) for value in carried]
    new = step(k, kept)
    following = builder.add(k, _LONG(1))
    for phi, first, later in zip([k, *kept], [_LONG(0), *carried], [following, *new], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
    builder.position_at_end(after)
    return new


def _everywhere(builder: Any, word: Any) -> Any:
    """Return a word in all sixteen lanes."""
    one = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), word, _WORD(0))
    return builder.shuffle_vector(one, one, _indices([0] * 16))


def _at(builder: Any, address: Any, offset: Any, kind: Any) -> Any:
    return builder.inttoptr(
        builder.add(address, _LONG(offset) if isinstance(offset, int) else offset), kind.as_pointer()
    )


def _load(builder: Any, address: Any, offset: Any, kind: Any) -> Any:
    return builder.load(_at(builder, address, offset, kind), align=1)


def _store(builder: Any, value: Any, address: Any, offset: int) -> None:
    builder.store(value, _at(builder, address, offset, value.type), align=1)


def _constant(values: Sequence[int]) -> Any:
    return ir.Constant(_WORDS, list(values))


def _indices(values: Sequence[int]) -> Any:
    return ir.Constant(ir.VectorType(_WORD, len(values)), list(values))


def _declare(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    known = builder.module.globals.get(name)
    return ir.Function(builder.module, ir.FunctionType(result, arguments), name) if known is None else known
