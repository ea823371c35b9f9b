"""Targets, ranks, certificates, settings, plans: what can be known without starting anything."""

from __future__ import annotations

import datetime
import re
import stat
from pathlib import Path

import dask
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from biolmm.cluster import connect, tls
from biolmm.cluster.connection import _certificates
from biolmm.cluster.leader import meeting_place
from biolmm.cluster.options import ClusterOptions, check_target
from biolmm.cluster.plan import expected_workers, workers_text
from biolmm.cluster.progress import progress_lines
from biolmm.cluster.ranks import find_rank
from biolmm.cluster.rundir import RunDirectory, private_folder, scheduler_address
from biolmm.cluster.settings import DEFAULTS, applied
from biolmm.cluster.tls import DAYS, open_certificates, refuse_open, run_certificates
from biolmm.errors import BiolmmError, OutputError, ParameterError
from biolmm.memory import StagePlan
from running import Disk, run_command


@pytest.mark.parametrize("target", ["lokal", "http://a:1", "10.0.0.1:8786", ""])
def test_what_is_no_cluster_is_refused(target: str) -> None:
    with pytest.raises(ParameterError, match="is not a cluster"):
        check_target(target)


@pytest.mark.parametrize("target", ["auto", "threads", "kubernetes"])
def test_nothing_to_connect_to(target: str) -> None:
    with pytest.raises(ParameterError, match="not a cluster to connect to"), connect(target):
        pass


def test_ranks() -> None:
    step = {"SLURM_PROCID": "2", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "3"}
    assert find_rank(step, given=0).leads  # type: ignore[union-attr]
    assert not find_rank(step).leads  # type: ignore[union-attr]
    assert find_rank({**step, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert find_rank({**step, "SLURM_STEP_ID": "batch"}) is None
    assert find_rank({}) is None


def test_the_leaders_address() -> None:
    assert ClusterOptions(leader="gwas-0.gwas").leader_address == "tls://gwas-0.gwas:8786"
    assert ClusterOptions(leader="tcp://gwas-0.gwas:9", insecure=True).leader_address == "tcp://gwas-0.gwas:9"
    with pytest.raises(ParameterError, match="is not an address"):
        _ = ClusterOptions(leader="gwas:x").leader_address


def test_certificates_are_private_short_lived_and_forget_their_authority(tmp_path: Path) -> None:
    found = run_certificates(tmp_path / "tls")
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    assert sorted(path.name for path in (tmp_path / "tls").iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    for file in (found.authority, found.certificate, found.key):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    certificate = x509.load_pem_x509_certificate(found.certificate.read_bytes())
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=DAYS - 1) < left <= datetime.timedelta(days=DAYS)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    authority = x509.load_pem_x509_certificate(found.authority.read_bytes())
    certificate.verify_directly_issued_by(authority)
    assert authority.public_key() != key
    again = run_certificates(tmp_path / "tls")
    assert again.certificate.read_bytes() == found.certificate.read_bytes()
    other = run_certificates(tmp_path / "other")
    assert other.authority.read_bytes() != found.authority.read_bytes()


def test_old_or_missing_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match="lacks certificates"):
        open_certificates(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(tls, "DAYS", 0)
        with pytest.raises(ParameterError, match="valid until"):
            run_certificates(tmp_path / "tls")
    old = (tmp_path / "tls" / "cert.pem").read_bytes()
    assert run_certificates(tmp_path / "tls").certificate.read_bytes() != old
    (tmp_path / "tls" / "cert.pem").write_bytes(b"damaged")
    with pytest.raises(ParameterError, match="cannot be read"):
        open_certificates(tmp_path / "tls")


def test_run_directories_are_private(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    assert stat.S_IMODE(private_folder(tmp_path / "run").stat().st_mode) == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(OutputError, match="not a folder of this user"):
        private_folder(tmp_path / "link")
    run = RunDirectory(tmp_path / "run")
    run.announce("tls://h:1", "one")
    assert (run.address(), run.outcome()) == ("tls://h:1", None)
    assert scheduler_address(tmp_path / "run" / "scheduler.json") == "tls://h:1"
    assert stat.S_IMODE((tmp_path / "run" / "scheduler.json").stat().st_mode) == 0o600
    run.withdraw("one", 75)
    assert (run.address(), run.outcome()) == (None, ("one", 75))
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ParameterError, match="no scheduler file"):
        scheduler_address(tmp_path / "x.json")


@pytest.mark.parametrize("address", ["0.0.0.0", "10.1.2.3:8786", "tcp://node7:1", "[2001:db8::1]:80", "eth0"])
def test_open_addresses_are_refused(address: str) -> None:
    with pytest.raises(ParameterError, match="has no TLS"):
        refuse_open(address, tls=False, insecure=False)
    refuse_open(address, tls=True, insecure=False)
    refuse_open(address, tls=False, insecure=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "tcp://127.0.0.1:80", "[::1]:80", "localhost:3"])
def test_the_loopback_is_not(address: str) -> None:
    refuse_open(address, tls=False, insecure=False)


def test_a_scheduler_beyond_this_machine_needs_tls() -> None:
    with pytest.raises(ParameterError, match="has no TLS"), connect("tcp://10.1.2.3:8786"):
        pass
    with pytest.raises(ParameterError, match="needs certificates"), connect("tls://10.1.2.3:8786"):
        pass


def test_ranks_need_a_place_to_meet_and_certificates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ParameterError, match="cannot find each other"):
        meeting_place(ClusterOptions(), make=True)
    with pytest.raises(ParameterError, match="needs certificates"):
        meeting_place(ClusterOptions(leader="a:1"), make=True)
    folder, found = meeting_place(ClusterOptions(run_directory=tmp_path / "run"), make=True)
    assert folder is not None
    assert found is not None
    assert meeting_place(ClusterOptions(leader="a:1", tls_directory=tmp_path / "run" / "tls"), make=True) == (
        None,
        found,
    )
    assert _certificates(ClusterOptions(), tmp_path / "run") == found
    assert meeting_place(ClusterOptions(leader="a:1", insecure=True), make=True) == (None, None)


def test_the_users_settings_win() -> None:
    name = "distributed.scheduler.allowed-failures"
    before = dask.config.get(name)
    with applied():
        assert {key: dask.config.get(key) for key in DEFAULTS} == DEFAULTS
    assert dask.config.get(name) == before
    with dask.config.set({name: 7}):
        with applied(secure=True):
            assert dask.config.get(name) == 7
            assert dask.config.get("distributed.comm.require-encryption") is True
            assert dask.config.get("distributed.scheduler.worker-ttl") == DEFAULTS["distributed.scheduler.worker-ttl"]
        assert dask.config.get(name) == 7


def test_lines_of_progress(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    from biolmm.chunks import _watcher

    now = [0.0]
    log = logging.getLogger("biolmm.pipeline.analysis")
    caplog.set_level(logging.INFO, logger="biolmm")
    with progress_lines(10, clock=lambda: now[0]):
        log.info("fit …")
        advance = _watcher.get()
        assert advance is not None
        for done in range(1, 9):
            now[0] += 2
            advance(done, 8)
        for done in range(1, 4):
            now[0] += 2
            advance(done, 8)
    lines = [record.getMessage() for record in caplog.records if "parts" in record.getMessage()]
    assert lines == [
        "fit: pass 1, 5 of 8 parts, 0.62 parts/s, 5 s left in this pass",
        "fit: pass 2, 2 of 8 parts, 1 parts/s, 6 s left in this pass; 16.0 s a pass",
    ]
    assert _watcher.get() is None


def test_plans_for_workers(disk: Disk, tmp_path: Path) -> None:
    plan = StagePlan("traits", n_tasks=12 * 32, n_passes=12, panel_bytes=2**20)
    assert workers_text([plan]) == ""
    sizes = []
    for count in (1, 4, 16):
        with expected_workers(count, 2):
            text = workers_text([plan])
            assert f"on {count} workers of 2 threads" in text
            found = re.search(r"traits\s+([\d.]+) MiB", text)
            assert found is not None
            sizes.append(float(found[1]))
    assert sizes == [2.0, 4 + 5 + 1, 16 + 23 + 1]  # columns, partial results that travel, the sum
    done = run_command("run", "--workers", "4", "--", "gwas", *disk.inputs(), "--solver", "stochastic",
                       "--out", tmp_path / "out", "--plan")  # fmt: skip
    assert done.code == 0, done.err
    assert "on 4 workers of 1 threads:" in done.out
    assert "memory a worker" in done.out


def test_exit_codes_of_mistakes(disk: Disk, tmp_path: Path) -> None:
    """2 where people type, 64 where schedulers decide whether to try again."""
    mistake = ("gwas", "--genotypes", disk.store, "--traits", tmp_path / "absent.tsv", "--out", tmp_path / "out")
    assert run_command(*mistake).code == 2
    done = run_command("run", "--", *mistake)
    assert done.code == 64
    assert "absent.tsv" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert run_command("run", "gwas", "--nonsense").code == 64
    assert run_command("run", "--", "run", "gwas").code == 64
    assert run_command("run", "--cluster", "lokal", "--", "info", disk.store).code == 64
    assert run_command("run", "--cluster", "kubernetes", "--", "info", disk.store).code == 64
    assert run_command("run", "--", "info", disk.store).code == 0


def test_other_failures_may_be_tried_again(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BiolmmError("the file server is gone")

    monkeypatch.setattr("biolmm.store.info.describe", broken, raising=False)
    monkeypatch.setattr("biolmm.cli.entry.cli.main", lambda **_: broken())
    from biolmm.cli.cluster import _exit_code
    from biolmm.cluster.exits import for_schedulers

    assert for_schedulers(_exit_code(["info"])) == 70
