"""Plot what `pass` measured (GFLOP/s over the number of columns, share of sgemm) or `grid` (seconds over N, M, T)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl


def plot(record: dict[str, Any], out: Path) -> Path:
    """Draw the figures of the first benchmark of a record that has a plot.

    Raises
    ------
    SystemExit
        When there is none.
    """
    for each in record["benchmarks"]:
        if each["benchmark"] == "grid":
            return plot_grid(record, each, out)
        if each["benchmark"] == "pass":
            return plot_shares(record, out)
    raise SystemExit("--plot draws the figures of `pass` and of `grid`: run one of them.")


def plot_grid(record: dict[str, Any], grid: dict[str, Any], out: Path) -> Path:
    """Draw CPU-seconds and peak memory of every program over each size, the others held at the middle."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows, base = grid["tables"]["whole processes"], grid["parameters"]["base"]
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained", sharey="row")
    names = {"samples": "people N", "variants": "variants M", "traits": "traits T"}
    for column, (size, title) in enumerate(names.items()):
        others = {name: value for name, value in base.items() if name != size}
        mine = [row for row in rows if all(row[name] == value for name, value in others.items()) and row["finished"]]
        for i, program in enumerate(dict.fromkeys(row["program"] for row in rows)):
            points = sorted(
                (row[size], row["cpu_seconds"], row["peak_mib"]) for row in mine if row["program"] == program
            )
            if not points:
                continue
            x, cpu, memory = zip(*points, strict=True)
            axes[0, column].plot(x, cpu, "o-", color=f"C{i}", label=program)
            axes[1, column].plot(x, memory, "o-", color=f"C{i}", label=program)
        sizes = sorted({row[size] for row in mine})
        for panel in axes[:, column]:
            panel.set(xscale="log", yscale="log")
            panel.set_xticks(sizes, [f"{value:,}" for value in sizes])
            panel.minorticks_off()
        held = ", ".join(f"{names[name]} = {value:,}" for name, value in others.items())
        axes[0, column].set_title(held, fontsize=10)
        axes[1, column].set_xlabel(title)
    axes[0, 0].set_ylabel("CPU-seconds, whole process")
    axes[1, 0].set_ylabel("peak memory, MiB")
    axes[0, 0].legend(fontsize=8, frameon=False)
    figure.suptitle(f"{record['cpu']}, {record['blas']}", fontsize=9)
    figure.savefig(out, dpi=150)
    plt.close(figure)
    return out


def plot_shares(record: dict[str, Any], out: Path) -> Path:
    """Draw one curve a cohort and number of threads."""
    found = next(each for each in record["benchmarks"] if each["benchmark"] == "pass")
    rows = next(iter(found["tables"].values()))
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for i, key in enumerate(dict.fromkeys((row["samples"], row["threads"]) for row in rows)):
        mine = [row for row in rows if (row["samples"], row["threads"]) == key]
        r, label = [row["r"] for row in mine], f"N = {key[0]:,}, {key[1]} threads"
        left.plot(r, [row["pass_gflops"] / key[1] for row in mine], "o-", color=f"C{i}", label=label)
        left.plot(r, [row["tiles_gflops"] / key[1] for row in mine], "--", color=f"C{i}")
        right.plot(r, [row["share"] for row in mine], "o-", color=f"C{i}", label=label)
    left.set(ylabel="GFLOP/s a thread", title="pass (solid), sgemm of its tiles (dashed)", ylim=(0, None))
    right.set(ylabel="share of sgemm", title="pass over sgemm", ylim=(0, 1.05))
    right.axhline(0.5, color="0.6", lw=0.8)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("columns r")
        axes.legend(fontsize=8, frameon=False)
    figure.suptitle(f"{record['cpu']}, {record['blas']}", fontsize=9)
    figure.savefig(out, dpi=150)
    return out
