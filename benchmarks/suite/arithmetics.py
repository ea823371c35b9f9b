"""A pass in every arithmetic that this machine has, and the library products that they could be made of, on one thread.

pass      `Σ Z_pᵀ Z_p x` of r columns on packed rows in memory, everything included; error beside single precision
products  of one tile of 512 variants with r columns (forward) and back (backward): NumPy, PyTorch
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from biolmm.errors import ParameterError
from biolmm.genotypes.arithmetic import Arithmetic, Float32
from biolmm.genotypes.arithmetic.pytorch import torch_arithmetic
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import clear_cache
from biolmm.store.read import GenotypeStore
from suite.cohorts import cohort, operator_of
from suite.common import Outcome, Settings, interleaved

COLUMNS = (16, 32, 64, 128, 256)
TILE_VARIANTS = 512


def run(settings: Settings) -> Outcome:
    """Measure the passes, then the products."""
    samples, variants = (500, 600) if settings.toy else (settings.samples or 20_000, settings.variants or 8_192)
    columns = COLUMNS[:1] if settings.toy else COLUMNS
    outcome = Outcome("arithmetics", {**settings.parameters(), "cohort": (samples, variants), "columns": columns})
    clear_cache()
    store = GenotypeStore.open(cohort(settings.work, samples, variants, missing_calls=settings.missing_calls).store)
    operator = operator_of(store)
    repetitions = settings.repetitions or (1 if settings.toy else 3)
    passes = outcome.tables["one pass, K X, one thread"] = []
    products = outcome.tables[f"products of a tile of {TILE_VARIANTS} variants, one thread"] = []
    available = arithmetics()
    with threadpool_limits(1):
        for r in columns:
            passes += _passes(operator, available, r, repetitions)
            products += _products(samples, r, repetitions)
            print(f"… r = {r}", flush=True)
    clear_cache()
    outcome.remarks += [
        "gflops: 4·N·M·r (pass) and 2·N·b·r (products) over CPU seconds, over wall seconds on a device; `ratio`: to "
        "single precision in the same run; `error`: Frobenius, beside single precision (pass) or double (products)",
        "bfloat16 and int8 products are of one term or digit; an arithmetic that is as accurate as 1e-4 needs two",
    ]
    return outcome


def arithmetics() -> dict[str, Arithmetic]:
    """Return what this machine can do, by name; what it cannot is left out."""
    found: dict[str, Arithmetic] = {"float32": Float32()}
    try:
        int8 = importlib.import_module("biolmm.genotypes.arithmetic.int8")
        int8.check_processor()
        found["int8"] = int8.Int8()
    except ParameterError as error:
        print(f"… left out: {error}")
    for precision, device in (("int8", "cpu"), ("bfloat16", "cuda"), ("float32", "cuda")):
        try:
            arithmetic = torch_arithmetic(precision, device)
            found[arithmetic.name] = arithmetic
        except ParameterError as error:
            print(f"… left out: {error}")
    return found


def _passes(
    operator: GenotypeOperator, available: dict[str, Arithmetic], r: int, repetitions: int
) -> list[dict[str, Any]]:
    tasks, reader = operator.genotypes.tasks, operator.source.reader
    X = np.random.default_rng(r).standard_normal((operator.n_samples, r), dtype=np.float32)
    X -= X.mean(axis=0)
    results: dict[str, NDArray[np.float32]] = {}

    def call(name: str, arithmetic: Arithmetic) -> Callable[[], None]:
        def compute() -> None:
            results[name] = arithmetic.operand(X).product(tasks, reader, None)

        return compute

    clocks = interleaved({name: call(name, each) for name, each in available.items()}, repetitions)
    flop = 4.0 * operator.n_samples * operator.source.n_variants * r
    exact = results["float32"].astype(np.float64)
    rows = []
    for name, clock in clocks.items():
        seconds = clock.wall if "cuda" in name else clock.cpu
        error = np.linalg.norm(results[name] - exact, axis=0) / np.linalg.norm(exact, axis=0)
        rows.append(
            {
                "arithmetic": name,
                "r": r,
                "gflops": flop / seconds / 1e9,
                "ratio": clocks["float32"].cpu / seconds,
                "cpu_seconds": clock.cpu,
                "wall_seconds": clock.wall,
                "error": float(np.linalg.norm(results[name] - exact) / np.linalg.norm(exact)),
                "worst_column": float(error.max()),
            }
        )
    return rows


def _products(n_samples: int, r: int, repetitions: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(r)
    G = rng.integers(0, 3, (TILE_VARIANTS, n_samples)).astype(np.float32)
    X, W = (rng.standard_normal((n, r), dtype=np.float32) for n in (n_samples, TILE_VARIANTS))
    calls: dict[tuple[str, str], Callable[[], Any]] = {
        ("numpy float32", "forward"): lambda: G @ X,
        ("numpy float32", "backward"): lambda: G.T @ W,
    }
    if importlib.util.find_spec("torch") is not None:
        calls |= _torch_products(G, X, W)
    times = 20 * max(1, 32 // r)

    def often(call: Callable[[], Any]) -> Callable[[], None]:
        def repeat() -> None:
            for _ in range(times):
                call()

        return repeat

    clocks = interleaved({" ".join(key): often(call) for key, call in calls.items()}, repetitions)
    exact = {"forward": G.astype(np.float64) @ X, "backward": G.T.astype(np.float64) @ W}
    rows = []
    for (library, direction), call in calls.items():
        found = np.asarray(call(), np.float64)
        error = np.linalg.norm(found - exact[direction]) / np.linalg.norm(exact[direction])
        seconds = clocks[f"{library} {direction}"].cpu / times
        rows.append(
            {
                "library": library,
                "direction": direction,
                "r": r,
                "gflops": 2.0 * TILE_VARIANTS * n_samples * r / seconds / 1e9,
                "ratio": clocks[f"numpy float32 {direction}"].cpu / times / seconds,
                "error": None if "int8" in library else float(error),
            }
        )
    return rows


def _torch_products(
    G: NDArray[np.float32], X: NDArray[np.float32], W: NDArray[np.float32]
) -> dict[tuple[str, str], Callable[[], Any]]:
    """Return the products of PyTorch by library and direction; of bytes, whose factors are not these."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, kind in (("torch float32", torch.float32), ("torch bfloat16", torch.bfloat16)):
        g, x, w = (torch.from_numpy(values).to(kind) for values in (G, X, W))
        calls[name, "forward"] = lambda g=g, x=x: (g @ x).to(torch.float32)
        calls[name, "backward"] = lambda g=g, w=w: (g.t() @ w).to(torch.float32)
    g, x, w = (torch.from_numpy(np.rint(30 * values).astype(np.int8)) for values in (G, X, W))
    calls["torch int8", "forward"] = lambda: torch._int_mm(g, x)
    calls["torch int8", "backward"] = lambda: torch._int_mm(g.t(), w)
    return calls
