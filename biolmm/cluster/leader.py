"""Rank 0: the scheduler and the driver in one process, which end and start again as a unit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from distributed import Client, SpecCluster
from distributed.security import Security

from biolmm.cluster.options import PORT, ClusterOptions
from biolmm.cluster.processes import scheduler_spec
from biolmm.cluster.ranks import default_run_directory, own_address
from biolmm.cluster.rundir import RunDirectory, private_folder
from biolmm.cluster.settings import applied
from biolmm.cluster.tls import Certificates, open_certificates, refuse_open, run_certificates
from biolmm.cluster.worker import note_outcome
from biolmm.errors import ParameterError

log = logging.getLogger(__name__)

GOODBYE_SECONDS = 10.0
"""How long a leader that ends waits for its workers to hear of it."""


@dataclass
class Leader:
    """The leader of a run: its client, and the exit code that it will leave behind."""

    client: Client
    code: int = 1


@contextmanager
def lead(options: ClusterOptions) -> Iterator[Leader]:
    """Start the scheduler, tell where it is, and say goodbye with `leader.code` when the block ends.

    Raises
    ------
    ParameterError
        When the ranks have no way to find each other, or would meet without TLS.
    """
    folder, tls = meeting_place(options, make=True)
    security = tls.security() if tls else None
    host = options.host or (None if options.interface else own_address())
    refuse_open(options.interface or str(host), tls=security is not None, insecure=options.insecure)
    port = options.port if options.port is not None else PORT if options.leader else 0
    life = uuid4().hex
    with (
        applied(secure=security is not None),
        SpecCluster(
            workers={},
            scheduler=scheduler_spec(options, security=security, host=host, port=port),
            security=security or Security(),
            silence_logs="ERROR",
        ) as cluster,
        Client(cluster) as client,
    ):
        if folder:
            folder.announce(cluster.scheduler_address, life)
        log.info("cluster: leading at %s", cluster.scheduler_address)
        leader = Leader(client)
        try:
            yield leader
        finally:
            if folder:
                folder.withdraw(life, leader.code)
            _say_goodbye(client, leader.code)


def _say_goodbye(client: Client, code: int) -> None:
    """Tell the processes that watch over workers how the leader ends; whoever does not hear it in time finds out."""

    def tell() -> None:
        with suppress(Exception):
            client.run(note_outcome, code, nanny=True, on_error="ignore", wait=True)

    telling = threading.Thread(target=tell, name="biolmm-goodbye", daemon=True)
    telling.start()
    telling.join(GOODBYE_SECONDS)  # a frozen one would answer after the timeout of connections only


def meeting_place(options: ClusterOptions, *, make: bool) -> tuple[RunDirectory | None, Certificates | None]:
    """Return the run's folder, where there is one, and its certificates; the leader makes what is missing.

    Raises
    ------
    ParameterError
        When neither a folder nor the leader's address is known, or there can be no certificates.
    """
    path = options.run_directory or (None if options.leader else default_run_directory())
    if path is None and options.leader is None:
        raise ParameterError(
            "the ranks of this run cannot find each other: name a folder on shared storage with --run-directory, or the "
            "leader's address with --leader HOST:PORT."
        )
    folder = None
    if path is not None:
        folder = RunDirectory(private_folder(path) if make else Path(path))
    if options.insecure:
        log.warning("cluster: without TLS: whoever reaches this run's ports can run programs as this user.")
        return folder, None
    if options.tls_directory:
        return folder, open_certificates(options.tls_directory)
    if folder is None:
        raise ParameterError("--leader needs certificates that all ranks have: name their folder with --tls-directory.")
    certificates = folder.path / "tls"
    return folder, run_certificates(certificates) if make else open_certificates(certificates)
