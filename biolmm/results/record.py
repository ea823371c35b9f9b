"""The record of a run, `run.json`: what was run, on what, by which versions, and what was left out and why."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

from biolmm.atomic import write_text
from biolmm.errors import MAX_NAMED, InputFileError
from biolmm.places import place

RUN_JSON = "run.json"

WHOLE_FILE_BYTES = 64 * 2**20
_BLOCK_BYTES = 2**20
_N_BLOCKS = 32
_PACKAGES = ("numpy", "scipy", "numba", "dask", "distributed", "zarr", "xarray", "pandas", "pyarrow", "matplotlib")


@dataclass
class RunRecord:
    """Collects what happens in a run and writes it as `run.json`; the fields are the keys of that file.

    Examples
    --------
    >>> record = RunRecord.start("biolmm gwas …", seed=1, parameters={"loco": True})
    >>> record.add_dropped("samples", "no covariates", ["S1", "S2"])
    >>> record.dropped
    [{'what': 'samples', 'why': 'no covariates', 'n': 2, 'examples': ['S1', 'S2']}]
    """

    biolmm_version: str
    command: str
    started: str
    finished: str | None = None
    seed: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    traits: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, command: str, *, seed: int | None = None, parameters: Mapping[str, Any] | None = None) -> RunRecord:
        """Begin a record: version, time and machine are filled in."""
        return cls(
            biolmm_version=package_version("biolmm"),
            command=command,
            started=_now(),
            seed=seed,
            parameters=dict(parameters or {}),
            machine=machine_description(),
        )

    def add_input(self, name: str, path: Path, fingerprint: str | None = None) -> None:
        """Add an input file (fingerprinted here) or a folder (whose fingerprint the caller knows)."""
        path = place(path)
        if path.is_dir():
            n_bytes = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
        else:
            n_bytes = path.stat().st_size
            fingerprint = fingerprint or fingerprint_file(path)
        self.inputs[name] = {"path": str(path), "fingerprint": fingerprint, "n_bytes": n_bytes}

    def add_dropped(self, what: str, why: str, items: Iterable[object], n: int | None = None) -> None:
        """Add things that were left out: how many, why, and up to five of them by name."""
        names = [str(item) for item in items]
        n = len(names) if n is None else n
        if n:
            self.dropped.append({"what": what, "why": why, "n": n, "examples": names[:MAX_NAMED]})

    def add_stage(self, name: str, wall_seconds: float, cpu_seconds: float, **cost: Any) -> None:
        """Add a stage; `cost` may hold passes, read_bytes, flop, peak_bytes and resumed."""
        known = {"passes": 0, "read_bytes": 0, "flop": 0.0, "peak_bytes": 0, "resumed": False}
        unknown = set(cost) - set(known)
        if unknown:
            raise ValueError(f"unknown cost of a stage: {sorted(unknown)}")
        self.stages.append({"name": name, "wall_seconds": wall_seconds, "cpu_seconds": cpu_seconds, **known, **cost})

    def warn(self, message: str) -> None:
        """Add a warning, once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def write(self, results_dir: Path, *, finished: bool = True) -> Path:
        """Write `run.json` atomically; numbers that JSON does not know (NaN, infinity) become null."""
        if finished:
            self.finished = _now()
        text = json.dumps(_jsonable(asdict(self)), indent=1, ensure_ascii=False, allow_nan=False)
        return write_text(place(results_dir) / RUN_JSON, text + "\n")


def read_record(results_dir: Path) -> dict[str, Any]:
    """Read `run.json` as a dictionary.

    Raises
    ------
    InputFileError
        When it is missing or not JSON.
    """
    path = place(results_dir) / RUN_JSON
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputFileError(f"{path} is missing: is {results_dir} a directory written by biolmm?") from error
    except (ValueError, OSError) as error:
        raise InputFileError(f"{path} cannot be read: {error}.") from error
    if not isinstance(record, dict):
        raise InputFileError(f"{path} holds a {type(record).__name__}, not the record of a run.")
    return record


def fingerprint_file(path: Path) -> str:
    """Fingerprint a file by its content, as a hexadecimal BLAKE2b digest of 128 bits.

    Files up to 64 MiB are read whole. Of larger ones the size and 32 blocks of 1 MiB, evenly spaced from the first
    byte to the last, are read: enough to tell one cohort from another or a truncated copy from a whole one, in a
    fraction of a second, but not a proof that every byte is the same. Name and time of the file do not enter.

    Raises
    ------
    InputFileError
        When the file cannot be read.
    """
    path = place(path)
    try:
        with path.open("rb") as handle:
            size = path.stat().st_size
            digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16)
            if size <= WHOLE_FILE_BYTES:
                for block in iter(lambda: handle.read(_BLOCK_BYTES), b""):
                    digest.update(block)
            else:
                for index in range(_N_BLOCKS):
                    handle.seek(index * (size - _BLOCK_BYTES) // (_N_BLOCKS - 1))
                    digest.update(handle.read(_BLOCK_BYTES))
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


def machine_description() -> dict[str, Any]:
    """Describe the machine: processor, threads, BLAS and its kernel, memory, Python and package versions."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": _cpu_model(),
        "threads": len(affinity(0)) if affinity else os.cpu_count(),
        "blas": _blas(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in _PACKAGES},
    }


def package_version(name: str) -> str:
    """Version of an installed package, or `unknown`."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _blas() -> str:
    """Name, version and kernel of the BLAS in use, for example `openblas 0.3.31 (SkylakeX)`."""
    libraries = [info for info in threadpoolctl.threadpool_info() if info.get("user_api") == "blas"]
    kinds = [
        f"{b.get('internal_api')} {b.get('version')} ({b.get('architecture', 'kernel unknown')})" for b in libraries
    ]
    return ", ".join(dict.fromkeys(kinds)) or "unknown"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _jsonable(value: Any) -> Any:
    """Plain JSON values: numpy scalars and arrays, paths and sets unwrapped, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple | set | frozenset):
        return [_jsonable(item) for item in value]
    if isinstance(value, np.generic):
        return _jsonable(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)
