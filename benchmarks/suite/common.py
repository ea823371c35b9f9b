"""What every benchmark uses: sizes, clocks, processes, tables."""

from __future__ import annotations

import json
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

LAUNCH = Path(__file__).with_name("launch.py")
Command = Sequence[str | Path]
BIOLMM = (sys.executable, "-m", "biolmm.cli", "--quiet")


@dataclass(frozen=True)
class Settings:
    """What was asked for on the command line; None leaves a size to the benchmark."""

    work: Path
    samples: int | None = None
    variants: int | None = None
    traits: int | None = None
    threads: int = 2
    missing: float = 0.02
    missing_calls: float = 0.005
    limit_seconds: float = 1800.0
    programs: tuple[str, ...] = ()
    repetitions: int | None = None
    toy: bool = False
    check: bool = False
    predict: bool = False
    page: Path | None = None

    def sized(self, samples: int, variants: int, traits: int = 1) -> Settings:
        """Return the settings with the benchmark's own sizes where none were asked for."""
        return replace(
            self,
            samples=self.samples or samples,
            variants=self.variants or variants,
            traits=self.traits or traits,
        )

    def parameters(self) -> dict[str, Any]:
        """Return what goes into the JSON."""
        return {
            "samples": self.samples,
            "variants": self.variants,
            "traits": self.traits,
            "threads": self.threads,
            "missing": self.missing,
            "missing_calls": self.missing_calls,
            "toy": self.toy,
        }


@dataclass
class Outcome:
    """Figures of one benchmark: tables of rows, and remarks on how they were got."""

    benchmark: str
    parameters: dict[str, Any]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def show(self) -> None:
        """Print every table and remark."""
        for title, rows in self.tables.items():
            print(f"\n{title}")
            print(table_text(rows))
        for remark in self.remarks:
            print(f"note: {remark}")
        sys.stdout.flush()


@dataclass(frozen=True)
class Clock:
    """Seconds of one call."""

    wall: float
    cpu: float


def timed(call: Callable[[], Any]) -> Clock:
    """Time a call: wall clock, and CPU of all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Clock(time.perf_counter() - wall, time.process_time() - cpu)


def median(clocks: Sequence[Clock]) -> Clock:
    """Return the median of wall and of CPU seconds, each for itself."""
    return Clock(statistics.median(c.wall for c in clocks), statistics.median(c.cpu for c in clocks))


def interleaved(calls: dict[str, Callable[[], Any]], repetitions: int) -> dict[str, Clock]:
    """Call each once to warm up, then all of them in turn so often, and return the medians.

    Whatever else the machine does meets all of them alike.
    """
    for call in calls.values():
        call()
    clocks: dict[str, list[Clock]] = {name: [] for name in calls}
    for _ in range(repetitions):
        for name, call in calls.items():
            clocks[name].append(timed(call))
    return {name: median(each) for name, each in clocks.items()}


@dataclass(frozen=True)
class Process:
    """A program that ran: its command, what it used and where its output is."""

    command: str
    exit_code: int
    timed_out: bool
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    log: Path

    @property
    def output(self) -> str:
        """What it printed."""
        return self.log.read_text(errors="replace")

    def row(self, **more: Any) -> dict[str, Any]:
        """Return a row of a table."""
        return {
            **more,
            "cpu_seconds": round(self.cpu_seconds, 2),
            "wall_seconds": round(self.wall_seconds, 2),
            "peak_mib": round(self.peak_bytes / 2**20),
            "command": self.command,
        }


def launch(command: Command, log: Path, limit_seconds: float) -> Process:
    """Run a program to its end or to its limit, in a small process of its own.

    Raises
    ------
    RuntimeError
        When it fails; the message ends with the end of its output.
    """
    words = [str(word) for word in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    report = log.with_suffix(".json")
    subprocess.run([sys.executable, "-I", "-S", LAUNCH, report, str(limit_seconds), log, *words], check=True)
    shown = ["biolmm" if i == 0 and word == sys.executable else word for i, word in enumerate(words)]
    text = shlex.join(shown).replace("biolmm -m biolmm.cli --quiet", "biolmm --quiet")
    process = Process(text, log=log, **json.loads(report.read_text()))
    if process.exit_code and not process.timed_out:
        raise RuntimeError(f"{text} ended with exit code {process.exit_code}:\n{process.output[-2000:]}")
    return process


def version_of(program: str, *arguments: str) -> str | None:
    """Return the first line that names the program and a digit in what it prints, or None when it is not there."""
    path = shutil.which(program)
    if path is None:
        return None
    try:
        ran = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = (ran.stdout + ran.stderr).splitlines()
    named = [line for line in lines if program[:4].lower() in line.lower() and any(c.isdigit() for c in line)]
    return named[0].strip(" |") if named else "unknown"


def empty_folder(path: Path) -> Path:
    """Return the folder, made anew."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path


def table_text(rows: Sequence[dict[str, Any]], hidden: Sequence[str] = ("command",)) -> str:
    """Lay out rows as a table; long columns stay in the JSON."""
    if not rows:
        return "(nothing)"
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in hidden]
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    numeric = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]
    lines = [_line(names, widths, numeric), _line(["-" * w for w in widths], widths, numeric)]
    return "\n".join([*lines, *(_line(line, widths, numeric) for line in cells)])


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(cells, widths, numeric, strict=True)]
    return "  ".join(padded).rstrip()


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
