"""What a cluster is asked for, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from biolmm.errors import ParameterError

KINDS = ("auto", "threads", "local", "slurm", "kubernetes")
SCHEMES = ("tcp://", "tls://")
PORT = 8786
"""Where a leader with a known name listens."""


@dataclass(frozen=True)
class ClusterOptions:
    """How to start or find a cluster; every part has a default.

    Attributes
    ----------
    workers
        Worker processes (`local`, jobs of `slurm`); by default a process for each processor.
    threads_per_worker
        Tasks at a time in a worker; each has one BLAS and one numba thread. By default one (`local`, jobs of `slurm`), and
        in the ranks of a step or a Job every processor that they were given.
    memory_bytes
        Limit of each worker; by default its share of the machine, the cgroup or the SLURM allocation.
    spill
        Fast local disk for what does not fit; by default the folder for temporary files.
    run_directory
        Folder of this run's certificates and of the file by which workers find their leader; shared storage.
    leader
        `HOST[:PORT]` of the leader where there is no shared storage, such as the name of a headless service.
    host, interface
        Address or network interface to listen on.
    port
        Port of the leader; by default any, or 8786 where workers know the leader by its name.
    tls_directory
        Folder with `ca.pem cert.pem key.pem`, or `ca.crt tls.crt tls.key` as in a Kubernetes secret; by default made anew
        for every run.
    tls
        Encrypt on the loopback interface too: on machines with other users.
    insecure
        Allow addresses beyond the loopback without TLS.
    leader_timeout
        Seconds after which a worker that finds no leader gives up.
    stay
        Whether workers wait for another leader after one that stopped or failed.
    """

    workers: int | None = None
    threads_per_worker: int | None = None
    memory_bytes: int | None = None
    spill: Path | None = None
    run_directory: Path | None = None
    leader: str | None = None
    host: str | None = None
    interface: str | None = None
    port: int | None = None
    tls_directory: Path | None = None
    tls: bool = False
    insecure: bool = False
    leader_timeout: float = 900.0
    stay: bool = False

    def __post_init__(self) -> None:
        for name in ("workers", "threads_per_worker"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ParameterError(f"{name.replace('_', '-')} is {value} but must be at least 1.")
        if self.leader_timeout <= 0:
            raise ParameterError(f"leader-timeout is {self.leader_timeout} seconds but must be positive.")
        if self.host and self.interface:
            raise ParameterError("host and interface were both given: an interface stands for its address.")

    @property
    def tasks_a_worker(self) -> int:
        """Tasks at a time in each worker that this process starts."""
        return self.threads_per_worker or 1

    @property
    def leader_address(self) -> str | None:
        """The leader's address with scheme and port, where it is known by name."""
        if self.leader is None:
            return None
        scheme, found, rest = self.leader.rpartition("://")
        scheme = scheme if found else "tcp" if self.insecure else "tls"
        host, colon, port = rest.rpartition(":")
        if not colon:
            host, port = rest, str(self.port or PORT)
        if not port.isdigit():
            raise ParameterError(f"'{self.leader}' is not an address: give HOST or HOST:PORT.")
        return f"{scheme}://{host}:{port}"


def check_target(target: str) -> str:
    """Return a target that can be meant.

    Raises
    ------
    ParameterError
        When it is neither a kind of cluster, nor an address, nor a scheduler file.

    Examples
    --------
    >>> check_target("tls://10.0.0.7:8786")
    'tls://10.0.0.7:8786'
    """
    if target in KINDS or target.startswith(SCHEMES):
        return target
    if Path(target).suffix == ".json":
        return target
    raise ParameterError(
        f"'{target}' is not a cluster: use {', '.join(KINDS)}, an address such as tls://10.0.0.7:8786, or a scheduler "
        "file (NAME.json)."
    )
