"""Leaders and workers as processes of the command line: found, lost, killed, stopped, told that it is over."""

from __future__ import annotations

import signal
import socket
import stat
import time
from pathlib import Path

import dask
import pytest
from distributed import Client
from distributed.security import Security

from biolmm.chunks import map_tasks
from biolmm.cluster import connect
from biolmm.cluster.leader import lead
from biolmm.cluster.options import ClusterOptions
from biolmm.cluster.ranks import own_address
from biolmm.cluster.rundir import RunDirectory, private_folder
from biolmm.cluster.tls import is_loopback, run_certificates
from biolmm.processors import available_threads
from faults import Start, wait_for
from running import Disk, same_statistics

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

HERE = ("--host", "127.0.0.1")


def ended(process: object, code: int, seconds: float = 180) -> str:
    """Check how a process ends; return what it said."""
    _, said = process.communicate(timeout=seconds)  # type: ignore[attr-defined]
    assert process.returncode == code, said  # type: ignore[attr-defined]
    return str(said)


def test_a_killed_leader_is_started_again_and_its_workers_find_it(
    disk: Disk, alone: Path, tmp_path: Path, start: Start
) -> None:
    """One worker is asked to go, the leader is killed, the next one resumes; all over TLS."""
    run, out = tmp_path / "run", tmp_path / "out"
    rank = ("run", "--cluster", "auto", "--run-directory", run, *HERE, "--worker-memory", "500MB", "--stay")
    command = ("--", "gwas", *disk.inputs(), "--solver", "stochastic", "--out", out)
    workers = [start(*rank, "--rank", number, *command) for number in (1, 2)]
    leader = start(*rank, "--rank", 0, *command)
    wait_for("model/null.zarr.done.json", out)
    workers[0].send_signal(signal.SIGTERM)
    leader.kill()
    leader.wait()
    assert ended(workers[0], 75)
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert not [file for file in run.rglob("*") if file.is_file() and stat.S_IMODE(file.stat().st_mode) != 0o600]
    time.sleep(0.5)
    assert workers[1].poll() is None
    said = ended(start(*rank, "--rank", 0, *command), 0)
    assert "fit: done before" in said
    assert "leading at tls://127.0.0.1:" in said
    ended(workers[1], 0)
    assert same_statistics(out, alone)
    assert (run / "tls" / "key.pem").read_text().splitlines()[1] not in said


@pytest.mark.parametrize(
    ("number", "target"), [(signal.SIGTERM, "threads"), (signal.SIGUSR1, "local")], ids=["term", "usr1"]
)
def test_a_signal_ends_at_a_checkpoint_and_the_same_command_continues(
    disk: Disk, alone: Path, tmp_path: Path, start: Start, number: signal.Signals, target: str
) -> None:
    out = tmp_path / "out"
    command = ("run", "--cluster", target, "--workers", 1, "--worker-memory", "500MB",
               "--", "gwas", *disk.inputs(), "--solver", "stochastic", "--out", out)  # fmt: skip
    process = start(*command)
    wait_for("model/null.zarr.done.json", out)
    process.send_signal(number)
    said = ended(process, 75)
    assert f"stopped at a checkpoint on {number.name}; the same command continues" in said
    assert "fit: done before" in ended(start(*command), 0)
    assert same_statistics(out, alone)


def test_a_worker_without_a_leader_gives_up(start: Start) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    assert "giving up" in ended(start("worker", "--leader", address, "--insecure", "--leader-timeout", 1), 69)


def test_ranks_that_cannot_meet_are_the_users_mistake(start: Start) -> None:
    assert "--run-directory" in ended(start("run", "--", "info", "x", JOB_COMPLETION_INDEX="0"), 64)
    assert "--run-directory" in ended(start("run", "--", "info", "x", JOB_COMPLETION_INDEX="1"), 64)


def test_without_the_runs_certificates_nobody_gets_in(tmp_path: Path) -> None:
    quick = {"distributed.comm.timeouts.connect": "2s", "distributed.comm.retry.count": 0}
    with dask.config.set(quick), lead(ClusterOptions(run_directory=tmp_path / "run", host="127.0.0.1")) as leader:
        address = leader.client.scheduler.address
        assert address.startswith("tls://")
        with connect(str(tmp_path / "run" / "scheduler.json")) as again:
            assert again.scheduler.address == address
        strangers: list[tuple[str, Security | None]] = [
            (address.replace("tls://", "tcp://"), None),
            (address, run_certificates(tmp_path / "other").security()),
        ]
        with dask.config.set({"distributed.comm.require-encryption": False}):
            for target, security in strangers:
                with pytest.raises(OSError), Client(target, security=security, timeout=2):
                    pass
        leader.code = 0
    assert not (tmp_path / "run" / "scheduler.json").exists()


def test_an_address_beyond_this_machine_is_bound_with_tls_only() -> None:
    host = own_address()
    if is_loopback(host):
        pytest.skip("this machine has no address but the loopback")
    with connect("local", workers=1, host=host, memory_bytes=400 * 10**6) as client:
        client.wait_for_workers(1, timeout=60)
        addresses = [client.scheduler.address, *client.scheduler_info()["workers"]]
        assert all(address.startswith(f"tls://{host}:") for address in addresses)
        assert map_tasks(abs, [-1]) == [1]


def listening() -> socket.socket:
    """Open a port that accepts connections and never answers, as a leader that is about to end."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(16)
    return server


@pytest.mark.parametrize(("code", "stay"), [(0, True), (64, True), (70, False)])
def test_a_leader_that_ends_while_a_worker_registers_is_heard(
    tmp_path: Path, start: Start, code: int, stay: bool
) -> None:
    run = RunDirectory(private_folder(tmp_path / "run"))
    run.withdraw("an earlier one", 0)
    with listening() as server:
        run.announce(f"tcp://127.0.0.1:{server.getsockname()[1]}", "this one")
        worker = start("worker", "--run-directory", run.path, "--insecure", *HERE, *["--stay"] * stay)
        peer, _ = server.accept()  # it has begun to register
        peer.close()
        server.settimeout(30)
        held = [server.accept()[0]]
        run.withdraw("this one", code)
        ended(worker, 0)
        for connection in held:
            connection.close()


def test_a_frozen_worker_does_not_hold_a_leader_that_ends(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears nothing before connections time out, after a minute."""
    monkeypatch.setattr("biolmm.cluster.leader.GOODBYE_SECONDS", 1.0)
    run = tmp_path / "run"
    with lead(ClusterOptions(run_directory=run, host="127.0.0.1")) as leader:
        worker = start("run", "--rank", 1, "--run-directory", run, *HERE, "--", "gwas", "--out", tmp_path)
        leader.client.wait_for_workers(1, timeout=60)
        worker.send_signal(signal.SIGSTOP)
        leader.code = 0
        ending = time.monotonic()
    assert time.monotonic() - ending < 15
    worker.send_signal(signal.SIGCONT)
    assert ended(worker, 0) is not None


def test_a_worker_that_comes_after_the_end_hears_of_it(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a SLURM step is of this life of this job: what is in it is not of an earlier run."""
    monkeypatch.chdir(tmp_path)
    RunDirectory(private_folder(Path("biolmm-run-7.0.0"))).withdraw("the leader", 64)
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}
    ended(start("run", "--insecure", "--", "info", "x", **step), 0)


def test_a_worker_has_as_many_threads_as_it_is_told(tmp_path: Path, start: Start) -> None:
    with lead(ClusterOptions(run_directory=tmp_path / "run", host="127.0.0.1")) as leader:
        ours = ("worker", "--run-directory", tmp_path / "run", *HERE, "--worker-memory", "400MB")
        told, free = start(*ours, "--threads-per-worker", 3), start(*ours)
        leader.client.wait_for_workers(2, timeout=60)
        threads = [worker["nthreads"] for worker in leader.client.scheduler_info()["workers"].values()]
        assert sorted(threads) == sorted([3, available_threads()])
        leader.code = 0
    ended(told, 0)
    ended(free, 0)
