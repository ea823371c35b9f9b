"""The other ranks: a worker process under watch, for one leader after another."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from distributed import Nanny

from biolmm.cluster.exits import CHECKPOINT, DONE, FINAL, NO_LEADER
from biolmm.cluster.options import ClusterOptions
from biolmm.cluster.processes import default_memory_bytes, worker_arguments
from biolmm.cluster.ranks import default_run_directory, memory_here, own_address
from biolmm.cluster.rundir import RunDirectory
from biolmm.cluster.settings import applied
from biolmm.cluster.tls import Certificates, is_loopback, open_certificates, refuse_open
from biolmm.errors import ParameterError
from biolmm.memory import format_bytes
from biolmm.processors import available_threads

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
START_SECONDS = 60.0
CLOSE_SECONDS = 15.0
REACH_SECONDS = 5.0
RETIRE_SECONDS = 10.0

_outcomes: list[int] = []
"""What leaders said when they ended; here, since they call `note_outcome` in this process."""


def note_outcome(code: int) -> None:
    """Take note of a leader's exit code; called by the leader in the process that watches over a worker."""
    _outcomes.append(code)


def work(options: ClusterOptions) -> int:
    """Work for the leader, and for the next one when it is lost; return the exit code of this process.

    Returns
    -------
    int
        0 when the leader has ended (with `stay`: has ended well, or for good), 69 when there is no leader that takes this
        worker for `leader_timeout` seconds, 75 after SIGTERM.
    """
    with TemporaryDirectory(prefix="biolmm-") as scratch:
        return asyncio.run(_Work(options, Path(scratch)).run())


@dataclass
class _Work:
    """The loop of one worker."""

    options: ClusterOptions
    scratch: Path
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    last_seen: float = field(default_factory=time.monotonic)
    known: tuple[str, int] | None = None
    """What the leader before this worker's time left in the folder: it says nothing about the next one."""

    async def run(self) -> int:
        """Look for a leader, work, and look again."""
        folder = self._folder()
        # A folder that was named may be that of an earlier run; one of a SLURM step is of this life of this job.
        self.known = folder.outcome() if folder and self.options.run_directory else None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the leader drains; workers finish what they have
        while not self.stopping.is_set():
            address = self._address()
            if address is not None and await _reachable(address):
                await self._serve(address)
            if self._over():
                return DONE
            if time.monotonic() - self.last_seen > self.options.leader_timeout:
                log.error("no leader for %.0f seconds: giving up", self.options.leader_timeout)
                return NO_LEADER
            await self._pause(LOOK_SECONDS)
        return CHECKPOINT

    def _address(self) -> str | None:
        """Return where the leader is said to be."""
        folder = self._folder()
        return folder.address() if folder else self.options.leader_address

    def _folder(self) -> RunDirectory | None:
        path = self.options.run_directory or (None if self.options.leader else default_run_directory())
        if path is None and self.options.leader is None:
            raise ParameterError("a worker must know its leader: give --run-directory or --leader HOST:PORT.")
        return None if path is None else RunDirectory(path)

    def _certificates(self) -> Certificates | None:
        if self.options.insecure:
            return None
        folder = self._folder()
        place = self.options.tls_directory or (folder.path / "tls" if folder else None)
        if place is None:
            raise ParameterError("--leader needs certificates: name their folder with --tls-directory.")
        return open_certificates(place)

    def _over(self) -> bool:
        """Whether the leader has said that there is nothing more to do."""
        written = self._left()
        said = _outcomes[-1] if _outcomes else written[1] if written is not None else None
        _outcomes.clear()
        return said is not None and (said in FINAL or not self.options.stay)

    def _left(self) -> tuple[str, int] | None:
        """Return what a leader of this worker's time left in the folder when it ended, unless another one has begun."""
        folder = self._folder()
        written = folder.outcome() if folder else None
        return None if written == self.known else written

    async def _serve(self, address: str) -> None:
        """Work for one leader until one of the two ends."""
        certificates = self._certificates()
        security = certificates.security() if certificates else None
        refuse_open(address, tls=security is not None, insecure=self.options.insecure)
        n_threads = self.options.threads_per_worker or available_threads()
        memory = self.options.memory_bytes or memory_here() or default_memory_bytes(1)
        host = self.options.host or ("127.0.0.1" if is_loopback(address) else own_address())
        options = self.options
        arguments = worker_arguments(options, n_threads=n_threads, memory_bytes=memory, security=security, host=host)
        if options.spill is None:
            arguments["local_directory"] = str(self.scratch)
        with applied(secure=security is not None):
            nanny = Nanny(address, death_timeout=START_SECONDS, **arguments)
            try:
                if await self._started(nanny, address):
                    log.info("worker: %d threads, %s, for %s", n_threads, format_bytes(memory), address)
                    await self._until_one_ends(nanny)
                    self.last_seen = time.monotonic()
            except Exception as error:  # the leader has gone meanwhile, or does not take this worker
                log.info("worker: lost %s: %s", address, error)
            finally:
                await _closed(nanny)

    async def _started(self, nanny: Nanny, address: str) -> bool:
        """Start a worker process and register it; not to the end when the leader goes, or a stop comes, meanwhile."""
        starting = asyncio.ensure_future(nanny.start())
        stopped = asyncio.ensure_future(self.stopping.wait())
        while not starting.done():
            await asyncio.wait([starting, stopped], timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            gone = self._left() is not None or self._address() != address or not await _reachable(address)
            if not starting.done() and (gone or stopped.done()):
                starting.cancel()
                await asyncio.wait([starting], timeout=CLOSE_SECONDS)
                break
        stopped.cancel()
        if starting.cancelled() or not starting.done():
            return False
        starting.result()
        return True

    async def _until_one_ends(self, nanny: Nanny) -> None:
        """Work until the leader has gone or a stop comes; then hand over what the worker holds."""
        ended = asyncio.ensure_future(nanny.finished())
        stopped = asyncio.ensure_future(self.stopping.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        if self.stopping.is_set() and not ended.done():
            await _retire(nanny)
        stopped.cancel()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)


async def _closed(nanny: Nanny) -> None:
    """End the worker process, however far its start has come."""
    try:
        await asyncio.wait_for(nanny.close(), CLOSE_SECONDS)
    except Exception as error:
        log.info("worker: could not be closed in order: %s", error)


async def _retire(nanny: Nanny) -> None:
    """Hand what the worker holds to others before it ends."""
    try:
        call = nanny.scheduler.retire_workers(workers=[nanny.worker_address], close_workers=False, remove=True)
        await asyncio.wait_for(call, RETIRE_SECONDS)
    except Exception as error:
        log.info("worker: could not say goodbye: %s", error)


async def _reachable(address: str) -> bool:
    """Whether something listens at an address."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host.strip("[]"), int(port)), REACH_SECONDS)
        writer.close()
        await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return False
    return True
