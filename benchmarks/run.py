"""Benchmarks, as `python benchmarks/run.py NAME`: kernels, pass, arithmetics, accuracy, scan, convert, formats, grm, gwas, grid,
rivals, meta, scaling, or all; see the README beside this file.

Prints tables and writes the figures with machine, BLAS kernel, versions and parameters as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BENCHMARKS = (
    "kernels",
    "pass",
    "arithmetics",
    "accuracy",
    "scan",
    "convert",
    "formats",
    "grm",
    "gwas",
    "grid",
    "rivals",
    "meta",
    "scaling",
)
_MODULES = {"pass": "passes"}
_UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
_REMOVED = "BIOLMM_BENCHMARK_REMOVED"


def main() -> None:
    """Parse the command line, run what was asked for, write the JSON."""
    _restart_with_clean_environment()
    options = _options()
    from suite.common import Settings

    with tempfile.TemporaryDirectory(prefix="biolmm-benchmark-") as temporary:
        settings = Settings(
            work=(options.work or Path(temporary)).absolute(),
            samples=options.samples,
            variants=options.variants,
            traits=options.traits,
            threads=options.threads,
            missing=options.missing,
            missing_calls=options.missing_calls,
            limit_seconds=options.limit,
            programs=tuple(options.programs.split(",")) if options.programs else (),
            repetitions=options.repetitions,
            toy=options.toy,
            check=options.check,
            predict=options.predict,
            page=options.page,
        )
        machine = _machine()
        print(f"{machine['cpu']}, {machine['threads']} processors; BLAS kernel {machine['blas']}")
        if machine["removed_variables"]:
            print(f"removed from the environment: {', '.join(machine['removed_variables'])}")
        outcomes = []
        for name in BENCHMARKS if options.benchmark == "all" else [options.benchmark]:
            print(f"\n== {name} ==", flush=True)
            outcome = importlib.import_module(f"suite.{_MODULES.get(name, name)}").run(settings)
            outcome.show()
            outcomes.append(outcome)
    figures = [{"benchmark": o.benchmark, "parameters": o.parameters, "tables": o.tables, "remarks": o.remarks}
               for o in outcomes]  # fmt: skip
    record = {"command": " ".join(["python", *sys.argv]), **machine, "benchmarks": figures}
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1, ensure_ascii=False, default=_plain) + "\n")
        print(f"\nwritten: {options.out}")
    if options.plot:
        from suite.plot import plot

        print(f"plotted: {plot(record, options.plot)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--samples", type=int, help="people; each benchmark has its own default")
    parser.add_argument("--variants", type=int)
    parser.add_argument("--traits", type=int)
    parser.add_argument("--missing", type=float, default=0.02, help="share of missing trait values (gwas, rivals)")
    parser.add_argument("--missing-calls", type=float, default=0.005, help="share of missing calls (gwas, rivals)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repetitions", type=int, help="how often each figure is measured; medians are reported")
    parser.add_argument("--limit", type=float, default=1800.0, metavar="SECONDS", help="stop a program after this long")
    parser.add_argument("--programs", help="rivals to run, such as plink2,bolt; all on PATH by default")
    parser.add_argument("--work", type=Path, help="folder that keeps simulated cohorts; a temporary one by default")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="plot what `pass` or `grid` measured")
    parser.add_argument("--toy", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--check", action="store_true", help="scaling: cohorts of several sizes, foretold and measured")
    parser.add_argument("--predict", action="store_true", help="scaling: run nothing, foretell a large cohort")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="scaling: put the tables into this page")
    return parser.parse_args()


def _restart_with_clean_environment() -> None:
    """Start again without the variables that make OpenBLAS take another kernel than the processor's own."""
    present = [f"{name}={os.environ[name]}" for name in _UNSET if name in os.environ]
    if present:
        clean = {name: value for name, value in os.environ.items() if name not in _UNSET}
        clean[_REMOVED] = " ".join(present)
        os.execve(sys.executable, [sys.executable, *sys.argv], clean)


def _machine() -> dict[str, Any]:
    """Describe machine, libraries and rivals; the libraries must be loaded to be described."""
    import numpy  # noqa: F401
    import scipy.linalg  # noqa: F401
    from suite.common import version_of

    from biolmm.results.record import machine_description, package_version

    description = machine_description()
    packages = {"biolmm": package_version("biolmm"), **description.pop("packages")}
    programs = {
        "plink2": version_of("plink2", "--version"),
        "bolt": version_of("bolt", "-h"),
        "gemma": version_of("gemma", "-h"),
    }
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **description,
        "load_average": list(os.getloadavg()),
        "removed_variables": os.environ.get(_REMOVED, "").split(),
        "packages": packages,
        "programs": programs,
    }


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


if __name__ == "__main__":
    main()
