"""A whole pass of the operator, `K X` on cached packed rows, beside `sgemm` of the same shapes in the same run.

Three things are timed in turn, each on the same number of threads with one BLAS thread apiece:

    pass    GenotypeOperator.matmat: unpack, two products a tile, partial results, reduction tree
    tiles   the two products alone, on tiles of the same shapes that are filled already
    square  sgemm of 2,048 × 2,048 matrices: what BLAS reaches here when nothing is in the way
    int8    the same pass in bytes, where the processor has the instructions, counted as the same flop

and, to say where the rest goes, `unpack`: the tiles of the pass filled and nothing done with them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from biolmm.chunks import threads
from biolmm.genotypes.arithmetic import Arithmetic, Float32, arithmetic_of
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import clear_cache
from biolmm.genotypes.standardised import PartitionTask, new_tile, read_blocks
from biolmm.store.read import GenotypeStore
from suite.cohorts import cohort, operator_of
from suite.common import Clock, Outcome, Settings, interleaved
from suite.tiles import each_thread, multiply_tiles

SQUARE = 2_048
COLUMNS = (1, 4, 8, 16, 32, 64, 128, 256)
Matrix = NDArray[np.float32]


def run(settings: Settings) -> Outcome:
    """Measure the pass for two sizes of cohort, each number of columns, one thread and all."""
    cohorts: tuple[tuple[int, int], ...] = ((20_000, 16_384), (50_000, 8_192))
    if settings.toy:
        cohorts = ((500, 600),)
    if settings.samples or settings.variants:
        cohorts = ((settings.samples or 20_000, settings.variants or 16_384),)
    columns = (1, 8) if settings.toy else COLUMNS
    outcome = Outcome("pass", {**settings.parameters(), "cohorts": cohorts, "columns": columns})
    rows = outcome.tables["one pass, K X"] = []
    for samples, variants in cohorts:
        clear_cache()
        operator = operator_of(GenotypeStore.open(cohort(settings.work, samples, variants).store))
        for n_threads in sorted({1, settings.threads}):
            with threads(n_threads):
                for r in columns:
                    rows.append(_measure(operator, r, n_threads, settings.repetitions or _repetitions(r, settings)))
                    print(f"… {samples:,} × {variants:,}, r = {r}, {n_threads} threads", flush=True)
    clear_cache()
    outcome.remarks += [
        "share: pass over sgemm on tiles of the same shapes; cpu_…: per CPU-second of all threads together, which "
        "suffers less than the wall clock when other programs run on the machine",
        "int8_…: the pass in bytes; int8_speedup: its CPU-seconds into those of the pass in single precision; int8_error: "
        "of the worst column, by its length, from single precision",
        "unpack_share, rest_share: of the pass's CPU time; rest is allocation, scheduling and the reduction tree",
    ]
    return outcome


def _repetitions(r: int, settings: Settings) -> int:
    return 1 if settings.toy else 7 if r <= 32 else 3


def _measure(operator: GenotypeOperator, r: int, n_threads: int, repetitions: int) -> dict[str, Any]:
    """Time the pass and its parts, interleaved."""
    n, m = operator.n_samples, operator.source.n_variants
    X = np.random.default_rng(0).standard_normal((n, r), dtype=np.float32)
    fastest = arithmetic_of("auto")
    tasks = list(operator.genotypes.tasks)
    with threadpool_limits(1):
        pool = ThreadPoolExecutor(n_threads)
        clocks = interleaved(
            {
                "pass": lambda: _pass(operator, Float32(), X),
                "int8": lambda: _pass(operator, fastest, X),
                "tiles": lambda: each_thread(pool, n_threads, multiply_tiles(tasks, n_threads, X)),
                "unpack": lambda: each_thread(pool, n_threads, _unpack_tiles(operator, tasks, n_threads)),
                "square": lambda: each_thread(pool, n_threads, _multiply_squares),
            },
            repetitions,
        )
        pool.shutdown()
    flop = 4.0 * n * m * r
    rate = {name: flop / clocks[name].wall / 1e9 for name in ("pass", "tiles")}
    peak = n_threads * 2.0 * SQUARE**3 / clocks["square"].wall / 1e9
    whole, tiles, unpack = clocks["pass"], clocks["tiles"], clocks["unpack"]
    return {
        "samples": n,
        "variants": m,
        "threads": n_threads,
        "r": r,
        "pass_seconds": whole.wall,
        "pass_gflops": rate["pass"],
        "tiles_gflops": rate["tiles"],
        "square_gflops": peak,
        "share": rate["pass"] / rate["tiles"],
        "genotypes_per_second": n * m / whole.wall,
        "cpu_seconds": whole.cpu,
        "cpu_gflops": flop / whole.cpu / 1e9,
        "cpu_tiles_gflops": flop / tiles.cpu / 1e9,
        "cpu_square_gflops": n_threads * 2.0 * SQUARE**3 / clocks["square"].cpu / 1e9,
        "cpu_share": tiles.cpu / whole.cpu,
        "unpack_share": unpack.cpu / whole.cpu,
        "rest_share": _rest(whole, tiles, unpack),
        **_bytes(operator, fastest, X, whole, clocks["int8"]),
    }


def _pass(operator: GenotypeOperator, arithmetic: Arithmetic, X: Matrix) -> Matrix:
    operator.arithmetic = arithmetic
    return operator.matmat(X)


def _bytes(
    operator: GenotypeOperator, arithmetic: Arithmetic, X: Matrix, single: Clock, own: Clock
) -> dict[str, float | None]:
    """Return the figures of the pass in bytes; none where the processor has no such instructions."""
    names = ("int8_seconds", "int8_gflops", "cpu_int8_gflops", "int8_speedup", "int8_error")
    if arithmetic.name != "int8":
        return dict.fromkeys(names)
    flop = 4.0 * operator.n_samples * operator.source.n_variants * X.shape[1]
    expected = operator.matmat(X, exact=True)
    off = np.linalg.norm(_pass(operator, arithmetic, X) - expected, axis=0) / np.linalg.norm(expected, axis=0)
    found = (own.wall, flop / own.wall / 1e9, flop / own.cpu / 1e9, single.cpu / own.cpu, float(off.max()))
    return dict(zip(names, found, strict=True))


def _rest(whole: Clock, tiles: Clock, unpack: Clock) -> float:
    """Share of the pass that is neither unpacking nor multiplying: allocation, scheduling, the reduction."""
    return 1 - (tiles.cpu + unpack.cpu) / whole.cpu


def _unpack_tiles(operator: GenotypeOperator, tasks: list[PartitionTask], n_threads: int) -> Callable[[int], None]:
    """Return the unpacking of every `n_threads`-th task: once where a tile holds whole rows, otherwise twice."""
    n = operator.n_samples

    def work(thread: int) -> None:
        tile = new_tile(n)
        width = tile.shape[1]
        for task in tasks[thread::n_threads]:
            for block in read_blocks(operator.source.reader, task, tile):
                for _ in range(1 if width >= n else 2):
                    for left in range(0, n, width):
                        block.unpacked(tile, left, min(left + width, n))

    return work


def _multiply_squares(_thread: int) -> None:
    A = np.full((SQUARE, SQUARE), 0.5, np.float32)
    np.matmul(A, A)
