"""Products with genotypes that outlive the process: a fit that was killed takes them up instead of computing them again.

Between passes every fit does the same small algebra with the same numbers: what a pass gave, found again by what went into
it, is all that a later process needs to arrive at the same bits.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from biolmm.atomic import remove, saving
from biolmm.errors import DamagedStoreError
from biolmm.store.arrays import open_dataset, save_dataset

log = logging.getLogger(__name__)

WORTH_SECONDS = 5.0
"""A pass that took less is not kept."""
WRITE_BYTES_PER_SECOND = 100e6
WRITE_SHARE = 0.2
"""Nor is one that would take more than this share of its own time to write."""


@dataclass(frozen=True)
class Checkpoint:
    """Products kept below a folder, for one stage with one key."""

    folder: Path

    def product(self, name: str, inputs: tuple[Any, ...], compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return `compute()`, or what it gave an earlier process of the same stage with the same inputs.

        Parameters
        ----------
        name
            Of the operation.
        inputs
            Everything that the result depends on beside the stage's key: arrays, and values that fit in JSON.

        Notes
        -----
        Cost: a hash of the inputs; a write where the pass was long, at most about a fifth of its time.
        """
        return self.products(name, inputs, lambda: (compute(),))[0]

    def products(
        self, name: str, inputs: tuple[Any, ...], compute: Callable[[], tuple[NDArray[Any], ...]]
    ) -> tuple[NDArray[Any], ...]:
        """Return what a pass gives that computes several arrays, as `product` does."""
        path = self.folder / f"{name}-{_hash(inputs)}.zarr"
        kept = _read(path)
        if kept is not None:
            return kept
        started = time.perf_counter()
        found = compute()
        seconds = time.perf_counter() - started
        n_bytes = sum(each.nbytes for each in found)
        if seconds >= WORTH_SECONDS and n_bytes <= seconds * WRITE_SHARE * WRITE_BYTES_PER_SECOND:
            _write(path, found)
        return found


@contextmanager
def checkpointed(folder: Path, key: str) -> Iterator[Checkpoint]:
    """Give the checkpoint of a stage; its products stay after an error or a kill, and go when the block ends well.

    Products of the stage with another key are removed.
    """
    mine = folder / key
    with saving(folder):
        mine.mkdir(parents=True, exist_ok=True)
        for other in folder.iterdir():
            if other != mine:
                remove(other)
    kept = len(list(mine.glob("*.zarr")))
    if kept:
        log.info("checkpoint: %d passes of an earlier run are taken up", kept)
    yield Checkpoint(mine)
    remove(folder)


class Resuming:
    """What makes passes whose products a checkpoint can keep."""

    _checkpoint: Checkpoint | None = None

    @contextmanager
    def resuming(self, checkpoint: Checkpoint) -> Iterator[None]:
        """Keep long passes inside the block in a checkpoint, and take up those that an earlier process kept there."""
        before, self._checkpoint = self._checkpoint, checkpoint
        try:
            yield
        finally:
            self._checkpoint = before


def _hash(inputs: tuple[Any, ...]) -> str:
    digest = blake2b(digest_size=16)
    for each in inputs:
        if isinstance(each, np.ndarray):
            digest.update(json.dumps([str(each.dtype), each.shape]).encode())
            digest.update(np.ascontiguousarray(each).tobytes())
        else:
            digest.update(json.dumps(each).encode())
    return digest.hexdigest()


def _read(path: Path) -> tuple[NDArray[Any], ...] | None:
    """Return products that are there whole; damaged ones are removed."""
    if not path.exists():
        return None
    try:
        found = open_dataset(path)
        return tuple(np.asarray(found[f"product_{i}"].values) for i in range(int(found.attrs["n_products"])))
    except (DamagedStoreError, OSError, KeyError, ValueError):
        log.warning("checkpoint: '%s' is damaged; that pass is computed again", path)
        remove(path)
        return None


def _write(path: Path, found: tuple[NDArray[Any], ...]) -> None:
    """Write products aside and rename them; a full disk costs the checkpoint, not the run."""
    aside = path.with_name(f".{uuid4().hex}.partial")
    try:
        arrays = {f"product_{i}": ([f"axis_{i}_{k}" for k in range(each.ndim)], each) for i, each in enumerate(found)}
        save_dataset(xr.Dataset(arrays, attrs={"n_products": len(found)}), aside)
        aside.replace(path)
    except OSError as error:
        log.warning("checkpoint: a pass could not be kept in '%s': %s", path.parent, error.strerror or error)
        remove(aside)
