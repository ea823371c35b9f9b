"""Kernels over packed rows, one thread: how many genotypes a second each of them goes through."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd
from threadpoolctl import threadpool_limits

from biolmm.files.bed import read_packed_rows
from biolmm.genotypes.kernels import count_masked, gather_samples, pack_masks, unpack_into
from biolmm.genotypes.standardised import new_tile
from biolmm.simulate.tables import SimulatedFiles
from biolmm.store.count import count_calls
from biolmm.store.layout import ZSTD_LEVEL, row_bytes
from biolmm.store.read import GenotypeStore
from suite.cohorts import cohort
from suite.common import Outcome, Settings, interleaved

Call = Callable[[], Any]

KERNELS = (
    "unpack to float32, whole rows", "unpack to float32, a tile wide", "count under 1 mask", "count under 10 masks",
    "gather nine tenths of the samples", "count calls while converting", "compress", "decompress",
    "read, check and decompress a chunk", "read .bed and recode",
)  # fmt: skip
"""Names of what is measured."""


def run(settings: Settings) -> Outcome:
    """Time every kernel on rows of a simulated cohort."""
    settings = settings.sized(*((500, 640) if settings.toy else (20_000, 4_096)))
    calls = Kernels.of(settings).calls()
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


@dataclass(frozen=True)
class Kernels:
    """Rows of a simulated cohort of n people, and its files."""

    files: SimulatedFiles
    store: GenotypeStore
    n: int

    @classmethod
    def of(cls, settings: Settings) -> Kernels:
        """Simulate the cohort, or find it."""
        assert settings.samples and settings.variants
        files = cohort(settings.work, settings.samples, settings.variants)
        return cls(files, GenotypeStore.open(files.store), settings.samples)

    def calls(self) -> dict[str, tuple[int, Call]]:
        """Return each of `KERNELS` with the genotypes that one call of it goes through."""
        store, n = self.store, self.n
        packed = store.read_rows(0)
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
        b, tiled = len(packed), len(rows) * n
        recoded = np.empty_like(packed)
        found: list[tuple[int, Call]] = [
            (tiled, lambda: unpack_into(rows, tables, tile)),
            (len(rows) * width, lambda: unpack_into(rows[:, : width // 4], tables, narrow)),
            (tiled, lambda: count_masked(rows, masks[1])),
            (tiled, lambda: count_masked(rows, masks[10])),
            (len(rows) * len(chosen), lambda: gather_samples(rows, chosen, gathered)),
            (b * n, lambda: count_calls(packed, n)),
            (b * n, lambda: Zstd(level=ZSTD_LEVEL, checksum=True).encode(packed)),
            (b * n, lambda: store.decode(0, encoded)),
            (b * n, lambda: store.read_rows(0)),
            (b * n, lambda: read_packed_rows(self.files.bed, n, 0, b, out=recoded)),
        ]
        return dict(zip(KERNELS, found, strict=True))


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
