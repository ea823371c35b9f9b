"""`--cluster` on a command, and the performance report."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from biolmm.chunks import map_tasks, request_stop
from biolmm.cli.where import cluster_option
from biolmm.cluster import report
from biolmm.errors import ParameterError, Stopped
from running import Disk, run_command


@click.command()
@cluster_option
@click.option("--items", type=int, default=3)
def squares(items: int) -> None:
    """Print where tasks run and what they give."""
    import sys

    client = sys.modules.get("distributed.client")
    where = "here"
    if client is not None:
        with contextlib.suppress(ValueError):
            where = client.default_client().scheduler.address.partition(":")[0]
    click.echo(f"{where} {map_tasks(abs, [-i for i in range(items)])}")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_command_runs_where_it_is_told() -> None:
    run = CliRunner().invoke
    assert run(squares, []).output == "here [0, 1, 2]\n"
    options = ["--cluster", "local", "--workers", "1", "--worker-memory", "400MB", "--items", "2"]
    assert run(squares, options).output == "tcp [0, 1]\n"
    wrong = run(squares, ["--cluster", "lokal"])
    assert isinstance(wrong.exception, ParameterError)
    assert run(squares, []).output == "here [0, 1, 2]\n"
    shown = run(squares, ["--help"]).output
    assert "--cluster" in shown
    assert "--items" in shown


def test_a_stop_ends_a_command_with_75() -> None:
    @click.command()
    @cluster_option
    def stopped() -> None:
        """Be asked to stop."""
        request_stop()
        map_tasks(abs, [1])

    found = CliRunner().invoke(stopped, []).exception
    assert isinstance(found, Stopped)
    assert found.exit_code == 75
    assert map_tasks(abs, [-1]) == [1]


def test_a_report_needs_bokeh_a_folder_and_a_cluster(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "find_spec", lambda _: None)
    with (
        pytest.raises(ParameterError, match=r"pip install 'biolmm\[report\]'"),
        report.performance_report_to(tmp_path / "r.html"),
    ):
        pass
    monkeypatch.setattr(report, "find_spec", lambda _: object())
    with pytest.raises(ParameterError, match="does not exist"), report.performance_report_to(tmp_path / "x" / "r.html"):
        pass
    done = run_command("run", "--performance-report", tmp_path / "r.html", "--", "info", disk.store)
    assert done.code == 64
    assert "needs a cluster" in done.err


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_report_of_a_run_is_written(disk: Disk, tmp_path: Path) -> None:
    pytest.importorskip("bokeh")
    page = tmp_path / "report.html"
    done = run_command("run", "--cluster", "local", "--workers", "1", "--worker-memory", "500MB", "--performance-report",
                       page, "--", "verify", disk.store)  # fmt: skip
    assert done.code == 0, done.err
    text = page.read_text(encoding="utf-8")
    assert "<html" in text
    assert "_check_chunk" in text
