"""Plot what `pass` measured: GFLOP/s over the number of columns, and the share of sgemm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl


def plot_shares(record: dict[str, Any], out: Path) -> Path:
    """Draw one curve a cohort and number of threads.

    Raises
    ------
    SystemExit
        When the record holds no figures of `pass`.
    """
    found = [each for each in record["benchmarks"] if each["benchmark"] == "pass"]
    if not found:
        raise SystemExit("--plot draws the figures of `pass`: run that benchmark.")
    rows = next(iter(found[0]["tables"].values()))
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
