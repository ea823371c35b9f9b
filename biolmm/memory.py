"""Memory as arithmetic: budgets, sizes and the plan that is checked before anything runs."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from biolmm.cgroups import CGROUPS, MEMBERSHIP, group_folders, read_limit
from biolmm.errors import MemoryBudgetError, ParameterError

CACHE_VARIABLE = "BIOLMM_CACHE_BYTES"
"""Environment variable of a cluster's worker: how many bytes of rows it keeps between passes, whatever the driver granted."""

BUDGET_VARIABLE = "BIOLMM_MEMORY"
"""Environment variable: the budget of a process whose command names none with `--memory`."""

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY_UNITS = {"ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4}


def parse_bytes(text: str) -> int:
    """Read a size such as `4GiB`, `512MB` or `1.5g` as a number of bytes.

    Raises
    ------
    ParameterError
        When the text is not a positive number with an optional unit.

    Examples
    --------
    >>> parse_bytes("4GiB")
    4294967296
    >>> parse_bytes("1.5 MB")
    1500000
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]i?)?b?\s*", text.lower())
    if match is None:
        raise ParameterError(f"{text!r} is not a size: give a number with a unit, for example 4GiB or 512MB.")
    n_bytes = int(float(match[1]) * {**_UNITS, **_BINARY_UNITS}[match[2] or ""])
    if n_bytes <= 0:
        raise ParameterError(f"{text!r} is not a size: it must be positive, for example 4GiB.")
    return n_bytes


def format_bytes(n_bytes: float) -> str:
    """Write a number of bytes for people.

    Examples
    --------
    >>> format_bytes(4294967296)
    '4.0 GiB'
    """
    size = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def available_bytes(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Memory that this process may use: what the machine has available, or the least limit of its cgroups.

    Parameters
    ----------
    cgroups, membership
        Where control groups are mounted, and the file that names those of this process.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        match = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
        if match:
            limits.append(int(match[1]) * 1024)
    for folder in group_folders("memory", cgroups, membership):
        for name in ("memory.max", "memory.limit_in_bytes"):  # version 2 and version 1
            text = read_limit(folder / name)
            if text.isdecimal():  # "max": no limit
                limits.append(int(text))
    return min(limits)


def default_budget_bytes(environment: Mapping[str, str] = os.environ) -> int:
    """Return the default of `--memory`: what `BUDGET_VARIABLE` says, otherwise three quarters of the available memory.

    Examples
    --------
    >>> default_budget_bytes({"BIOLMM_MEMORY": "2GiB"})
    2147483648
    """
    said = environment.get(BUDGET_VARIABLE)
    return parse_bytes(said) if said else available_bytes() * 3 // 4


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    status = Path("/proc/self/status")
    match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    # ru_maxrss would do, but on Linux it starts at the size of the process that started this one.
    return (int(match[1]) if match else int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)) * 1024


@dataclass(frozen=True)
class Need:
    """One thing that a stage holds in memory."""

    name: str
    n_bytes: int


@dataclass(frozen=True)
class Passes:
    """Passes of a stage that have equally many columns.

    Attributes
    ----------
    count
        How many are expected; a share where they may be spared.
    columns
        Columns of each.
    rounds
        Variants of each task, of each of the sums that such a pass makes one after another.
    products
        Products of the genotypes that each makes of a column: 2 is K X, 1 is Z X.
    arithmetic
        In which numbers.
    """

    count: float
    columns: float
    rounds: tuple[tuple[int, ...], ...] = ()
    products: int = 2
    arithmetic: str = "float32"

    @property
    def n_tasks(self) -> int:
        """Tasks of one pass."""
        return sum(map(len, self.rounds))

    @property
    def n_variants(self) -> int:
        """Variants of one pass."""
        return sum(map(sum, self.rounds))


@dataclass(frozen=True)
class Work:
    """What is expected of a stage, from which its time follows (`biolmm/cluster/cost.py`).

    Attributes
    ----------
    n_samples, row_bytes
        Samples, and bytes of one variant's row.
    passes
        Its passes.
    from_store
        Passes that read the rows from the store; the others find them in memory.
    picked_bytes
        Of chunks that are read for single variants in them.
    driver_elements, driver_flop
        What the driver does between passes: elements of blocks of columns gone over, and dense algebra.
    evaluations
        Likelihoods, and other small calculations of the driver.
    counted
        Genotypes counted, once for each set of observed samples.
    statistics, reported
        Variants × traits tested and written, and read again for leads and report.
    drawn
        Traits whose figures the report has.
    """

    n_samples: int
    row_bytes: int
    passes: tuple[Passes, ...] = ()
    from_store: float = 0.0
    picked_bytes: float = 0.0
    driver_elements: float = 0.0
    driver_flop: float = 0.0
    evaluations: float = 0.0
    counted: float = 0.0
    statistics: float = 0.0
    reported: float = 0.0
    drawn: int = 0

    @property
    def n_passes(self) -> float:
        """Passes that are expected."""
        return sum(each.count for each in self.passes)

    @property
    def column_passes(self) -> float:
        """Columns of all passes together, of two products each: 4·N·M flop a column."""
        return sum(each.count * each.columns * each.products / 2 for each in self.passes)


@dataclass(frozen=True)
class StagePlan:
    """What one stage will read, compute and hold; computed before it runs."""

    stage: str
    n_tasks: int = 0
    n_passes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    flop: float = 0.0
    panel_bytes: int = 0
    """Bytes of the columns that one pass carries to every worker, and of each partial result that comes back."""
    needs: tuple[Need, ...] = field(default_factory=tuple)
    work: Work | None = None
    """What is expected of it, where its time can be foretold; passes and flop of the plan itself are cautious."""

    @property
    def peak_bytes(self) -> int:
        """Sum of everything held at once."""
        return sum(need.n_bytes for need in self.needs)

    def check(self, budget_bytes: int) -> None:
        """Raise `MemoryBudgetError`, naming the largest need, when the stage does not fit `budget_bytes`."""
        if self.peak_bytes <= budget_bytes:
            return
        worst = max(self.needs, key=lambda need: need.n_bytes)
        raise MemoryBudgetError(
            f"{self.stage} would use {format_bytes(self.peak_bytes)} but --memory is {format_bytes(budget_bytes)}: "
            f"the largest part is {worst.name} = {format_bytes(worst.n_bytes)}. "
            f"Raise --memory to {format_bytes(self.peak_bytes * 1.1)}, or fit fewer traits at a time."
        )
