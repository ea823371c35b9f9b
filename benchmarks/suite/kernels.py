"""Kernels over packed rows, one thread: how many genotypes a second each of them goes through."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd
from threadpoolctl import threadpool_limits

from biolmm.files.bed import read_packed_rows
from biolmm.genotypes.kernels import count_masked, gather_samples, pack_masks, unpack_into
from biolmm.genotypes.standardised import new_tile
from biolmm.store.count import count_calls
from biolmm.store.layout import ZSTD_LEVEL, row_bytes
from biolmm.store.read import GenotypeStore
from suite.cohorts import cohort
from suite.common import Outcome, Settings, interleaved


def run(settings: Settings) -> Outcome:
    """Time every kernel on rows of a simulated cohort."""
    settings = settings.sized(*((500, 640) if settings.toy else (20_000, 4_096)))
    assert settings.samples and settings.variants
    files = cohort(settings.work, settings.samples, settings.variants)
    store = GenotypeStore.open(files.store)
    packed = store.read_rows(0)
    b, n = len(packed), settings.samples
    calls = _calls(store, packed, n)

    def convert() -> None:
        read_packed_rows(files.bed, n, 0, b, out=np.empty_like(packed))

    calls["read .bed and recode"] = (b * n, convert)
    with threadpool_limits(1):
        clocks = interleaved(
            {name: _repeated(call, settings.toy) for name, (_, call) in calls.items()}, settings.repetitions or 7
        )
    outcome = Outcome("kernels", settings.parameters())
    rows = outcome.tables["kernels, one thread"] = []
    for name, (genotypes, call) in calls.items():
        repeats = _repeats(call, settings.toy)
        rate = genotypes * repeats / clocks[name].cpu
        rows.append({"kernel": name, "genotypes": genotypes, "billion_genotypes_per_cpu_second": rate / 1e9})
    outcome.remarks.append("counts under k masks: k counts a genotype; genotypes are counted once")
    return outcome


Call = Callable[[], Any]


def _calls(store: GenotypeStore, packed: np.ndarray[Any, np.dtype[np.uint8]], n: int) -> dict[str, tuple[int, Call]]:
    """Return each kernel with the genotypes that one call of it goes through."""
    rng = np.random.default_rng(1)
    own = new_tile(n)
    rows = packed[: len(own)]
    tables = rng.standard_normal((len(rows), 4)).astype(np.float32)
    tile = np.empty((len(rows), n), np.float32)
    width = own.shape[1] // 4 * 4
    narrow = np.empty((len(rows), width), np.float32)
    masks = {k: pack_masks(rng.random((k, n)) < 0.95) for k in (1, 10)}
    chosen = np.sort(rng.choice(n, n * 9 // 10, replace=False)).astype(np.int64)
    gathered = np.full((len(rows), row_bytes(len(chosen))), 255, np.uint8)
    encoded = store.read_encoded(0)
    b = len(packed)
    return {
        f"unpack to float32, {n:,} samples wide": (len(rows) * n, lambda: unpack_into(rows, tables, tile)),
        f"unpack to float32, {width:,} samples wide": (
            len(rows) * width,
            lambda: unpack_into(rows[:, : width // 4], tables, narrow),
        ),
        "count under 1 mask": (len(rows) * n, lambda: count_masked(rows, masks[1])),
        "count under 10 masks": (len(rows) * n, lambda: count_masked(rows, masks[10])),
        "gather nine tenths of the samples": (
            len(rows) * len(chosen),
            lambda: gather_samples(rows, chosen, gathered),
        ),
        "count calls while converting": (b * n, lambda: count_calls(packed, n)),
        "compress": (b * n, lambda: Zstd(level=ZSTD_LEVEL, checksum=True).encode(packed)),
        "decompress": (b * n, lambda: store.decode(0, encoded)),
        "read, check and decompress a chunk": (b * n, lambda: store.read_rows(0)),
    }


_REPEATS: dict[int, int] = {}


def _repeats(call: Call, toy: bool) -> int:
    """How often a call is made in one measurement: for about 50 ms."""
    if id(call) not in _REPEATS:
        call()
        begun = time.perf_counter()
        call()
        _REPEATS[id(call)] = 1 if toy else max(1, int(0.05 / (time.perf_counter() - begun)))
    return _REPEATS[id(call)]


def _repeated(call: Call, toy: bool) -> Call:
    def repeated() -> None:
        for _ in range(_repeats(call, toy)):
            call()

    return repeated
